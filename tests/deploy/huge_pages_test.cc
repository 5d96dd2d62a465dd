// SPDX-License-Identifier: Apache-2.0
// Goal: a node is told how many huge pages it may use before it needs one. Method: /sys as a machine and a container show it,
// in a directory.
#include "deploy/kvasird/huge_pages.h"

#include <gtest/gtest.h>

#include "tests/deploy/process.h"

namespace kvasir::testing {
namespace {

constexpr const char* kMachine = "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

TEST(HugePages, TheSmallestLimitHolds) {
  const Directory root;
  root.Write(kMachine, "1024\n");
  EXPECT_EQ(*HugePageBytes(root.path()), 2ull << 30);
  root.Write("sys/fs/cgroup/hugetlb.2MB.max", "max\n");
  EXPECT_EQ(*HugePageBytes(root.path()), 2ull << 30);
  root.Write("sys/fs/cgroup/hugetlb.2MB.max", "1073741824\n");
  EXPECT_EQ(*HugePageBytes(root.path()), 1ull << 30);
  root.Write("sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes", "536870912\n");
  EXPECT_EQ(*HugePageBytes(root.path()), 512ull << 20);
}

TEST(HugePages, NoneSayWhatToDo) {
  const Directory root;
  EXPECT_EQ(HugePageBytes(root.path()).status().code(), absl::StatusCode::kInvalidArgument);
  root.Write(kMachine, "8\n");
  root.Write("sys/fs/cgroup/hugetlb.2MB.max", "0\n");
  const absl::Status none = HugePageBytes(root.path()).status();
  EXPECT_NE(none.message().find("vm.nr_hugepages"), absl::string_view::npos) << none;
}

TEST(HugePages, TooMuchIsRefusedWithBothNumbers) {
  EXPECT_TRUE(CheckHugePages(1ull << 30, 1ull << 30).ok());
  EXPECT_EQ(CheckHugePages(2ull << 30, 1ull << 30).message(),
            "--dram 2.0 GiB (2147483648 bytes) is more than the huge pages that may be used, 1.0 GiB (1073741824 bytes). Give less, or "
            "set more aside (vm.nr_hugepages)");
}

}  // namespace
}  // namespace kvasir::testing
