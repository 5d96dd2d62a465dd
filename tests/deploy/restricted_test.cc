// SPDX-License-Identifier: Apache-2.0
// Goal: a kvasird works under Kubernetes' Pod Security "restricted": push, fetch, drain, and it says what it does without.
// Method: the real program behind `restricted`, which takes away what a pod does not have; the kernel's own words for what it
// has left. What this machine does not allow to be taken away (a control group, a mount namespace) is skipped by name.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "deploy/memory.h"
#include "tests/deploy/http_get.h"
#include "tests/deploy/process.h"
#include "tests/deploy/restricted.h"

namespace kvasir::testing {
namespace {

using nlohmann::json;

constexpr uint64_t kGroupBytes = 512ull << 20;

/// A memory control group below this process's own, with a limit; gone with the object.
class MemoryGroup {
 public:
  MemoryGroup() {
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line) && path_.empty();) {
      const size_t path = line.find(':', line.find(':') + 1) + 1;
      if (line.find(":memory:") != std::string::npos) Make("/sys/fs/cgroup/memory" + line.substr(path), "memory.limit_in_bytes");
      if (line.starts_with("0::")) Make("/sys/fs/cgroup" + line.substr(path), "memory.max");
    }
  }
  ~MemoryGroup() {
    if (!path_.empty()) rmdir(path_.c_str());
  }
  /// "" where this machine does not let us.
  const std::string& path() const { return path_; }

 private:
  void Make(const std::string& parent, const char* limit) {
    const std::string path = parent + "/kvasir-test-" + std::to_string(getpid());
    if (mkdir(path.c_str(), 0755) != 0) return;
    std::ofstream file(path + "/" + limit);
    file << kGroupBytes << std::flush;
    if (file.good() && access((path + "/" + limit).c_str(), R_OK) == 0) {
      path_ = path;
    } else {
      rmdir(path.c_str());
    }
  }
  std::string path_;
};

/// The words behind "Name:" in /proc/PID/status.
std::string OfProcess(int pid, const std::string& name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name + ":\t")) return line.substr(name.size() + 2);
  }
  return "";
}

class Restricted : public ::testing::Test {
 protected:
  Restricted() {
    // Where an unprivileged user may run it from, whatever the build directory's mode is.
    std::filesystem::copy_file(KVASIRD, directory_ / "kvasird");
    std::filesystem::create_directory(directory_ / "data");
    if (getuid() == 0) {
      for (const std::string& path : {directory_.path(), directory_ / "kvasird", directory_ / "data"}) {
        EXPECT_EQ(chown(path.c_str(), kNobody, kNobody), 0);
      }
    }
  }
  /// What the machine lets us take away beside the rest.
  std::vector<std::string> Runner() {
    std::vector<std::string> runner = {RESTRICTED};
    const auto possible = [&](const std::string& flag, const std::string& value) {
      const Ended tried = RunProgram({RESTRICTED, flag, value, directory_ / "kvasird", "--version"});
      if (tried.status == 0) return true;
      std::printf("SKIPPED part: %s: %s", flag.c_str(), tried.err.c_str());
      return false;
    };
    if (group_.path().empty()) {
      std::printf("SKIPPED part: --cgroup: no memory control group can be made below this process's own\n");
    } else if (possible("--cgroup", group_.path())) {
      in_group_ = true;
      runner.insert(runner.end(), {"--cgroup", group_.path()});
    }
    if (possible("--read-only-but", directory_.path())) {
      read_only_ = true;
      runner.insert(runner.end(), {"--read-only-but", directory_.path()});
    }
    runner.push_back(directory_ / "kvasird");
    return runner;
  }
  MemoryGroup group_;
  bool in_group_ = false, read_only_ = false;
  Directory directory_;
};

TEST_F(Restricted, PushFetchDrain) {
  const std::vector<std::string> runner = Runner();
  Daemon daemon({"--id", "a", "--dram", "auto", "--ssd", directory_ / "data", "--ssd-size", "256MiB", "--http", "127.0.0.1:0", "--port-file",
                 directory_ / "port.json"},
                runner);
  ASSERT_TRUE(daemon.serving()) << daemon.Stop(0).err;
  const json file = json::parse(ReadAll(directory_ / "port.json"));
  const int pid = file["pid"];
  const std::string nobody = std::to_string(getuid() == 0 ? kNobody : getuid());
  EXPECT_TRUE(OfProcess(pid, "Uid").starts_with(nobody + "\t" + nobody)) << OfProcess(pid, "Uid");
  for (const char* set : {"CapPrm", "CapEff", "CapAmb"}) EXPECT_EQ(OfProcess(pid, set), "0000000000000000") << set;
  EXPECT_EQ(OfProcess(pid, "NoNewPrivs"), "1");
  EXPECT_EQ(OfProcess(pid, "Seccomp"), "2") << "a filter";

  const Ended bench = RunProgram({KVASIR, "--node", daemon.control(), "bench", "--blocks", "24", "--durable", "-o", "json"});
  ASSERT_EQ(bench.status, 0) << bench.err;
  const json moved = json::parse(bench.out);
  for (const char* phase : {"push", "fetch"}) {
    EXPECT_EQ(moved[phase]["blocks"], 24);
    EXPECT_EQ(moved[phase]["failed"], 0);
    EXPECT_EQ(moved[phase]["differing"], 0);
  }
  const json status = json::parse(RunProgram({KVASIR, "--node", daemon.control(), "status", "-o", "json"}).out)[0];
  EXPECT_EQ(status["features"]["io_uring"], "off: EPERM");
  EXPECT_TRUE(status["features"]["memlock"].get<std::string>().starts_with("off: 64.0 KiB may be locked")) << status["features"]["memlock"];
  const std::string ssd = status["tiers"][1]["state"];
  EXPECT_TRUE(ssd.starts_with("ok (pread/pwrite (io_uring: EPERM), ")) << ssd;
  EXPECT_EQ(status["counters"]["parts_persisted"], status["counters"]["parts_sealed"]);
  const uint64_t dram = status["tiers"][0]["capacity"];
  EXPECT_TRUE(!in_group_ || dram == *AutoDram({kGroupBytes, "", ""})) << dram;
  const std::string table = RunProgram({KVASIR, "--node", daemon.control(), "status"}).out;
  EXPECT_NE(table.find("ok (pread/pwrite (io_uring: EPERM), "), std::string::npos) << table;
  EXPECT_NE(table.find("off: EPERM"), std::string::npos) << table;
  const HttpReply ready = HttpGetUntil(file["http"], "/readyz?verbose", 200);
  EXPECT_EQ(ready.status, 200) << ready.body;

  const Ended ended = daemon.Stop(SIGTERM);
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_NE(ended.err.find("io_uring=\"off: EPERM\""), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("stopped"), std::string::npos) << ended.err;
}

TEST_F(Restricted, MoreThanTheGroupsLimitIsRefusedWithBothNumbers) {
  std::vector<std::string> words = Runner();
  if (!in_group_) GTEST_SKIP() << "no memory control group can be made below this process's own";
  words.insert(words.end(), {"--dram", "1GiB"});
  const Ended ended = RunProgram(words);
  EXPECT_EQ(ended.status, 2);
  EXPECT_NE(ended.err.find("--dram 1.0 GiB (1073741824 bytes) is more than the limit of this container or control group, 512.0 MiB "
                           "(536870912 bytes)"),
            std::string::npos)
      << ended.err;
}

TEST_F(Restricted, AReadOnlyRootIsSaid) {
  std::vector<std::string> words = Runner();
  if (!read_only_) GTEST_SKIP() << "no mount namespace can be made by this process";
  words.insert(words.end(), {"--listen", "127.0.0.1:0", "--http", "off", "--dram", "64MiB", "--ssd", "/kvasir-nowhere"});
  const Ended ended = RunProgram(words);
  EXPECT_EQ(ended.status, 2) << ended.err;
  EXPECT_NE(ended.err.find("/kvasir-nowhere"), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("Read-only file system"), std::string::npos) << ended.err;
}

}  // namespace
}  // namespace kvasir::testing
