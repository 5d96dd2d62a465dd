// SPDX-License-Identifier: Apache-2.0
// Reads /sys. Pages in use count too: those of a node that just ended are on their way back.
#include "deploy/kvasird/huge_pages.h"

#include <algorithm>
#include <fstream>

#include "deploy/term.h"
#include "deploy/text.h"
#include "transport/memory_region.h"

namespace kvasir {
namespace {

/// The number that a small file begins with; `none` when it cannot be read or says something else ("max").
uint64_t ReadNumber(const std::string& path, uint64_t none) {
  std::ifstream file(path);
  std::string word;
  uint64_t number = 0;
  return file >> word && ParseNumber(word, &number) ? number : none;
}

}  // namespace

absl::StatusOr<uint64_t> HugePageBytes(const std::string& root) {
  constexpr uint64_t kPage = SharedMemory::kHugePageBytes;
  uint64_t bytes = ReadNumber(root + "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", 0) * kPage;
  for (const char* file : {"/sys/fs/cgroup/hugetlb.2MB.max", "/sys/fs/cgroup/hugetlb/hugetlb.2MB.limit_in_bytes"}) {
    bytes = std::min(bytes, ReadNumber(root + file, UINT64_MAX));  // version 2, version 1
  }
  if (bytes >= kPage) return bytes / kPage * kPage;
  return absl::InvalidArgumentError(
      "--huge-pages, but no huge pages of 2 MiB may be used here. Set some aside (vm.nr_hugepages; in a container also the limit "
      "hugepages-2Mi), or leave the flag out");
}

absl::Status CheckHugePages(uint64_t dram, uint64_t limit) {
  if (dram <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(Cat("--dram ", HumanBytes(dram), " (", dram, " bytes) is more than the huge pages that may be used, ",
                                        HumanBytes(limit), " (", limit, " bytes). Give less, or set more aside (vm.nr_hugepages)"));
}

}  // namespace kvasir
