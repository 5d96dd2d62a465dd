// SPDX-License-Identifier: Apache-2.0
// Goal: every mistake in a flag or a member list is refused in words that hold the cause and the next step. Method:
// good and bad texts one by one, the message compared as far as it matters; a made-up /proc and /sys for the memory
// limits.
#include "deploy/flags.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "deploy/members.h"
#include "deploy/memory.h"
#include "deploy/namespace_json.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

using ::testing::Test;

template <class T>
std::string MessageOf(const absl::StatusOr<T>& result) {
  return result.ok() ? "ok" : std::string(TextOf(result.status().message()));
}
#define EXPECT_SAYS(result, words) \
  EXPECT_NE(MessageOf(result).find(words), std::string::npos) << "it says: " << MessageOf(result)

TEST(Size, ReadsUnits) {
  EXPECT_EQ(*ParseSize("4096"), 4096u);
  EXPECT_EQ(*ParseSize("0"), 0u);
  EXPECT_EQ(*ParseSize("2GiB"), 2ull << 30);
  EXPECT_EQ(*ParseSize(" 2 gib "), 2ull << 30);
  EXPECT_EQ(*ParseSize("500MB"), 500'000'000u);
  EXPECT_EQ(*ParseSize("64k"), 65536u);
  EXPECT_EQ(*ParseSize("1.5KiB"), 1536u);
  EXPECT_EQ(*ParseSize("1TiB"), 1ull << 40);
}

TEST(Size, RefusesTheRest) {
  for (const char* text : {"", "GiB", "-1", "2GiBs", "2 G B", "1.5", "1e9", "0x10", "two", "1..5k", "."}) {
    EXPECT_SAYS(ParseSize(text), "is not a size. Write a number and a unit, like 2GiB") << text;
  }
  EXPECT_SAYS(ParseSize("99999999TiB"), "is more than 1.0 EiB");
}

TEST(Time, ReadsUnitsAndNeedsOne) {
  EXPECT_EQ(*ParseDuration("10s"), std::chrono::seconds(10));
  EXPECT_EQ(*ParseDuration("500ms"), std::chrono::milliseconds(500));
  EXPECT_EQ(*ParseDuration("1.5s"), std::chrono::milliseconds(1500));
  EXPECT_EQ(*ParseDuration("2m"), std::chrono::minutes(2));
  EXPECT_EQ(*ParseDuration("1d"), std::chrono::hours(24));
  for (const char* text : {"", "10", "s", "-5s", "5 weeks", "1.5ns"}) {
    EXPECT_SAYS(ParseDuration(text), "is not a duration. Write a number and a unit, like 10s") << text;
  }
  EXPECT_SAYS(ParseDuration("10000d"), "is more than 366d");
}

TEST(Address, ReadsHostAndPort) {
  EXPECT_EQ(ParseHostPort("127.0.0.1:7070")->host, "127.0.0.1");
  EXPECT_EQ(ParseHostPort("127.0.0.1:7070")->port, 7070);
  EXPECT_EQ(ParseHostPort("[::1]:0")->host, "::1");
  EXPECT_EQ(ParseHostPort("[::1]:0")->Text(), "[::1]:0");
  EXPECT_SAYS(ParseHostPort("7070"), "it has no port. Write HOST:PORT, like 127.0.0.1:7070");
  EXPECT_SAYS(ParseHostPort(":7070"), "it has no host");
  EXPECT_SAYS(ParseHostPort("a:70700"), "'70700' is not a port (0 to 65535)");
  EXPECT_SAYS(ParseHostPort("a:+1"), "is not a port");
  EXPECT_SAYS(ParseHostPort("a:"), "is not a port");
  EXPECT_SAYS(ParseHostPort("::1:7070"), "an IPv6 address stands in brackets");
  EXPECT_SAYS(ParseHostPort("[::1:7070"), "the bracket is not closed");
  EXPECT_TRUE(IsLoopback("127.0.0.1") && IsLoopback("localhost") && IsLoopback("::1"));
  EXPECT_FALSE(IsLoopback("10.0.0.1") || IsLoopback("0.0.0.0"));
}

/// A directory that is removed with everything in it.
class Files : public Test {
 protected:
  Files() {
    char name[] = "/tmp/kvasir-flags-XXXXXX";
    root_ = mkdtemp(name);
  }
  ~Files() override { std::filesystem::remove_all(root_); }
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  std::string root_;
};

TEST_F(Files, MemoryLimitIsTheSmallestThatHolds) {
  EXPECT_EQ(ReadMemoryLimit(root_).bytes, 0u);
  Write("/proc/meminfo", "MemTotal:       24098504 kB\nMemFree:        1 kB\n");
  EXPECT_EQ(ReadMemoryLimit(root_).bytes, 24098504ull * 1024);
  EXPECT_EQ(ReadMemoryLimit(root_).source, "the machine's memory");
  Write("/sys/fs/cgroup/memory.max", "max\n");
  EXPECT_EQ(ReadMemoryLimit(root_).bytes, 24098504ull * 1024);
  Write("/proc/self/cgroup", "0::/system.slice/kvasird.service\n");
  Write("/sys/fs/cgroup/system.slice/memory.max", "1073741824\n");
  EXPECT_EQ(ReadMemoryLimit(root_).bytes, 1ull << 30);
  EXPECT_EQ(ReadMemoryLimit(root_).source, "the limit of this container or control group");
  Write("/sys/fs/cgroup/system.slice/kvasird.service/memory.max", "536870912\n");
  EXPECT_EQ(ReadMemoryLimit(root_).bytes, 512ull << 20);
}

TEST_F(Files, MemoryLimitOfVersionOneCountsItsParentsToo) {
  Write("/proc/meminfo", "MemTotal:       24098504 kB\nMemAvailable:   4098504 kB\n");
  EXPECT_EQ(ReadMemoryUsed(ReadMemoryLimit(root_), root_), 20000000ull * 1024);
  Write("/proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/pods/pod1\n0::/\n");
  Write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(ReadMemoryLimit(root_).source, "the machine's memory");
  Write("/sys/fs/cgroup/memory/pods/memory.limit_in_bytes", "1073741824\n");
  EXPECT_EQ(ReadMemoryLimit(root_).bytes, 1ull << 30);
  Write("/sys/fs/cgroup/memory/pods/pod1/memory.limit_in_bytes", "268435456\n");
  EXPECT_EQ(ReadMemoryLimit(root_).bytes, 256ull << 20);
  Write("/sys/fs/cgroup/memory/pods/pod1/memory.usage_in_bytes", "5000\n");
  Write("/sys/fs/cgroup/memory/pods/pod1/memory.stat", "cache 4000\ntotal_inactive_file 1000\n");
  EXPECT_EQ(ReadMemoryUsed(ReadMemoryLimit(root_), root_), 4000u);
}

TEST_F(Files, MemoryUsedOfVersionTwoLeavesOutWhatCanGo) {
  Write("/proc/self/cgroup", "0::/\n");
  Write("/sys/fs/cgroup/memory.max", "1073741824\n");
  Write("/sys/fs/cgroup/memory.current", "5000\n");
  Write("/sys/fs/cgroup/memory.stat", "anon 1\ninactive_file 2000\n");
  EXPECT_EQ(ReadMemoryUsed(ReadMemoryLimit(root_), root_), 3000u);
}

TEST(Memory, AutoTakesFourFifthsOfWhatTheProcessLeaves) {
  EXPECT_EQ(*AutoDram({kMemoryReserve + (1000ull << 20), "", ""}), 800ull << 20);
  EXPECT_SAYS(AutoDram({}), "--dram auto: neither the machine's memory nor a limit could be read. Give a size");
  EXPECT_SAYS(AutoDram({64ull << 20, "the limit of this container or control group", ""}),
              "--dram auto: the limit of this container or control group, 64.0 MiB, leaves nothing beside the 128.0 MiB that the process "
              "itself needs. Raise it");
}

TEST_F(Files, DramAboveTheLimitIsRefusedWithBothNumbers) {
  const MemoryLimit limit{1ull << 30, "the machine's memory", ""};
  EXPECT_TRUE(CheckMemory(1ull << 30, limit).ok());
  EXPECT_TRUE(CheckMemory(1ull << 50, {}).ok()) << "an unknown limit refuses nothing";
  EXPECT_EQ(
      CheckMemory(2ull << 30, limit).message(),
      "--dram 2.0 GiB (2147483648 bytes) is more than the machine's memory, 1.0 GiB (1073741824 bytes). Give less, "
      "and leave room for the rest of the process, or --dram auto");
}

TEST_F(Files, ReadsAndWritesFiles) {
  ASSERT_TRUE(WriteFileAtOnce(root_ + "/a", "bytes").ok());
  EXPECT_EQ(*ReadFile(root_ + "/a", 5), "bytes");
  EXPECT_SAYS(ReadFile(root_ + "/a", 4), "is longer than 4 B");
  EXPECT_SAYS(ReadFile(root_ + "/b", 4), "No such file or directory. Check the path");
  EXPECT_SAYS(ReadFile(root_, 4), "Is a directory. Name a file");
  EXPECT_FALSE(WriteFileAtOnce(root_ + "/none/a", "bytes").ok());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(root_), {}), 1) << "no temporary file stays";
}

TEST(Members, ReadsAListAndSortsIt) {
  const auto list = ParseMembers(R"({"cluster":"prod","epoch":3,"run_blocks":2,"members":[
      {"id":"b","control":"10.0.0.2:7070","shards":2,"weight":50,"zone":"r2"},{"id":"a","control":"10.0.0.1:7070"}]})",
                                 "m.json");
  ASSERT_TRUE(list.ok()) << list.status();
  EXPECT_EQ(list->membership.epoch, 3u);
  EXPECT_EQ(list->run_blocks, 2u);
  ASSERT_EQ(list->membership.members.size(), 2u);
  EXPECT_EQ(list->membership.members[0], (Member{"a", "10.0.0.1:7070", 1, 100, "", MemberState::kServing, 3}));
  EXPECT_EQ(list->membership.members[1], (Member{"b", "10.0.0.2:7070", 2, 50, "r2", MemberState::kServing, 3}));
  EXPECT_EQ(list->cluster, "prod");
  EXPECT_EQ(ParseMembers(FormatMembers(*list), "again")->membership, list->membership);
  EXPECT_EQ(ParseMembers(FormatMembers(*list), "again")->cluster, "prod");
}

TEST(Members, EachMistakeHasItsSentence) {
  const std::pair<const char*, const char*> kBad[] = {
      {"{", "m.json is not JSON: near line 1"},
      {"[]", "m.json: is not a JSON object"},
      {"{}", "m.json: has no \"members\""},
      {R"({"members":{}})", "\"members\" must be a list"},
      {R"({"members":[]})", "\"members\" is empty. Name every node of the cluster in it, this one too"},
      {R"({"members":[{"id":"a"}]})", "m.json: member 1: has no \"control\""},
      {R"({"members":[{"id":"a","control":"x:1","weigth":5}]})", "unknown field \"weigth\"; did you mean \"weight\"?"},
      {R"({"members":[{"id":"a","control":"x"}]})", "member 1: \"control\": 'x' is not an address: it has no port"},
      {R"({"members":[{"id":"a","control":"x:0"}]})", "has port 0; others could not find it"},
      {R"({"members":[{"id":"","control":"x:1"}]})", "\"id\" must have 1 to 128 bytes"},
      {R"({"members":[{"id":"a","control":"x:1","shards":0}]})",
       "\"shards\" must be a whole number from 1 to 256, not 0"},
      {R"({"members":[{"id":"a","control":"x:1","shards":-1}]})", "\"shards\" must be a whole number"},
      {R"({"members":[{"id":7,"control":"x:1"}]})", "\"id\" must be a text in quotes"},
      {R"({"cluster":7,"members":[{"id":"a","control":"x:1"}]})", "\"cluster\" must be a text in quotes"},
      {R"({"cluster":"ccccccccccccccccccccccccccccccccccccccccccccccccc","members":[{"id":"a","control":"x:1"}]})",
       "\"cluster\" has more than 48 bytes"},
      {R"({"run_blocks":0,"members":[{"id":"a","control":"x:1"}]})", "\"run_blocks\" must be a whole number from 1"},
      {R"({"members":[{"id":"a","control":"x:1"},{"id":"a","control":"x:2"}]})",
       "node \"a\" is there twice, as member 1 and member 2. Remove one or give it an id of its own"},
      {R"({"members":[{"id":"a","control":"x:1"},{"id":"b","control":"x:1"}]})",
       "members 1 (\"a\") and 2 (\"b\") have the same address x:1. Give each its own"},
  };
  for (const auto& [text, says] : kBad) EXPECT_SAYS(ParseMembers(text, "m.json"), says) << text;
}

TEST(Members, SelfMustBeThereWithItsShards) {
  const auto list =
      ParseMembers(R"({"members":[{"id":"a","control":"x:1","shards":2},{"id":"b","control":"x:2"}]})", "m.json");
  ASSERT_TRUE(list.ok());
  EXPECT_EQ(FindSelf(*list, "a", std::nullopt, "m.json")->shards, 2u);
  EXPECT_EQ(FindSelf(*list, "a", 2, "m.json")->control, "x:1");
  EXPECT_SAYS(FindSelf(*list, "a", 3, "m.json"), "--shards 3, but m.json gives node \"a\" 2");
  EXPECT_SAYS(FindSelf(*list, "c", std::nullopt, "m.json"),
              "this node is \"c\" (--id), but m.json names only a, b. Add it to the list on every node");
}

TEST(NamespaceFile, RoundTripAndMistakes) {
  const char* kText = R"({"name":"m","weights":"00000000000000000000000000000000000000000000000000000000000000ff",
      "layout":{"layers":4,"kv_heads":4,"key_dim":64,"value_dim":64,"element":"fp16"},"block_tokens":128,
      "rope_theta":10000.0,"adapters":["x"]})";
  const auto ns = ParseNamespace(kText, "n.json");
  ASSERT_TRUE(ns.ok()) << ns.status();
  EXPECT_EQ(ns->weights.bytes[31], 0xff);
  EXPECT_EQ(ns->layout, (KvLayout{4, 4, 64, 64, ElementType::kFloat16}));
  const auto again = ParseNamespace(FormatNamespace(*ns), "again");
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(Namespace::FirstDifference(*ns, *again), "");
  EXPECT_SAYS(ParseNamespace("{}", "n.json"), "n.json: has no \"name\"");
  EXPECT_SAYS(ParseNamespace(R"({"name":"m"})", "n.json"), "n.json: has no \"layout\"");
  EXPECT_SAYS(ParseNamespace(R"({"name":"m","weights":"ab","layout":{}})", "n.json"), "64 hexadecimal digits");
  EXPECT_SAYS(ParseNamespace(R"({"name":"m","layout":{"layers":4}})", "n.json"), "\"layout\": has no \"kv_heads\"");
  EXPECT_SAYS(ParseNamespace(R"({"name":"m","kind":"kw","layout":{}})", "n.json"), "it may be kv, kpre, latent");
}

TEST(Words, NearestFindsSlipsOnly) {
  const std::vector<std::string> words = {"--dram", "--ssd", "--ssd-size", "status"};
  EXPECT_EQ(Nearest("--dramm", words), "--dram");
  EXPECT_EQ(Nearest("--ssd_size", words), "--ssd-size");
  EXPECT_EQ(Nearest("statsu", words), "status");
  EXPECT_EQ(Nearest("--quorum", words), "");
}

}  // namespace
}  // namespace kvasir
