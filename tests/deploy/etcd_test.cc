// SPDX-License-Identifier: Apache-2.0
// Goal: kvasirds that find each other through etcd, and what an operator meets when etcd, an id or a directory is not as it
// should be. Method: real daemons and a real etcd-server on loopback; exit status, log and `kvasir status` compared.
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>

#include "tests/deploy/process.h"
#include "tests/store/etcd_process.h"

namespace kvasir::testing {
namespace {

using nlohmann::json;

class EtcdDaemons : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string missing = EtcdCluster::Missing(); !missing.empty()) GTEST_SKIP() << missing;
  }
  /// What a node of `etcd` is started with, beside what a test adds.
  static std::vector<std::string> Words(const EtcdCluster& etcd, const std::string& id, std::vector<std::string> more) {
    std::vector<std::string> words = {"--id", id, "--members", "etcd:" + etcd.urls(), "--listen", "127.0.0.1:0", "--dram", "64MiB"};
    if (std::find(more.begin(), more.end(), "--etcd-ttl") == more.end()) words.insert(words.end(), {"--etcd-ttl", "2s"});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  static Ended Run(const EtcdCluster& etcd, const std::string& id, std::vector<std::string> more) {
    std::vector<std::string> words = Words(etcd, id, std::move(more));
    words.insert(words.begin(), KVASIRD);
    return RunProgram(words);
  }
  static json Status(const Daemon& daemon) {
    const Ended ended = RunProgram({KVASIR, "--node", daemon.control(), "-o", "json", "status"});
    return json::parse(ended.out, nullptr, false);
  }
  /// Until the node knows so many members: watches are quick, but not instant.
  static bool Sees(const Daemon& daemon, size_t members) {
    return Comes([&] { return Status(daemon).size() == members; });
  }
  static bool Comes(const std::function<bool()>& condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > end) return false;
    }
    return true;
  }
  const Directory directory_;
};

void ExpectSays(const Ended& ended, int status, const std::string& says) {
  EXPECT_EQ(ended.status, status) << ended.err;
  EXPECT_NE(ended.err.find(says), std::string::npos) << "it says: " << ended.err << "not: " << says;
}

TEST_F(EtcdDaemons, FindEachOtherAndLeave) {
  EtcdCluster etcd(1);
  Daemon a(Words(etcd, "a", {"--ssd", directory_ / "a", "--ssd-size", "3GiB", "--zone", "rack 1"}));
  Daemon b(Words(etcd, "b", {"--weight", "77"}));
  ASSERT_TRUE(a.serving() && b.serving());
  ASSERT_TRUE(Sees(a, 2));
  const json status = Status(a);
  EXPECT_EQ(status[0]["membership_source"], "etcd " + etcd.endpoint(0) + ": ok");
  const json own = json::parse(etcd.Get("/kvasir/default/members/a"));
  EXPECT_EQ(own["control"], a.control());
  EXPECT_EQ(own["weight"], 3) << "GiB";
  EXPECT_EQ(own["zone"], "rack 1");
  EXPECT_EQ(json::parse(etcd.Get("/kvasir/default/members/b"))["weight"], 77);

  const Ended left = b.Stop(SIGTERM);
  ExpectSays(left, 0, "left the cluster");
  EXPECT_EQ(etcd.Get("/kvasir/default/members/b"), "");
  EXPECT_TRUE(Sees(a, 1));
  EXPECT_EQ(a.Stop(SIGTERM).status, 0);
}

TEST_F(EtcdDaemons, KilledNodeComesBackAtOnceAtAnotherPort) {
  EtcdCluster etcd(1);
  const std::vector<std::string> ssd = {"--ssd", directory_ / "a", "--ssd-size", "256MiB", "--etcd-ttl", "30s"};
  auto a = std::make_unique<Daemon>(Words(etcd, "a", ssd));
  ASSERT_TRUE(a->serving());
  const json before = json::parse(etcd.Get("/kvasir/default/members/a"));
  a->Stop(SIGKILL);
  a = std::make_unique<Daemon>(Words(etcd, "a", ssd));
  ASSERT_TRUE(a->serving()) << "its directory says that it is the same node";
  const json after = json::parse(etcd.Get("/kvasir/default/members/a"));
  EXPECT_EQ(after["identity"], before["identity"]);
  EXPECT_NE(after["incarnation"], before["incarnation"]);
  EXPECT_EQ(after["control"], a->control());
  EXPECT_EQ(a->Stop(SIGTERM).err.find("is held by"), std::string::npos);
}

TEST_F(EtcdDaemons, OneIdTwoNodes) {
  EtcdCluster etcd(1);
  Daemon a(Words(etcd, "a", {}));
  ASSERT_TRUE(a.serving());
  const Ended other = Run(etcd, "a", {});
  ExpectSays(other, 1, "id 'a' is held by the node at " + a.control() + ", which is still there after 7s. Give this node another --id, or stop that one");
  EXPECT_EQ(Status(a).size(), 1u) << "the first one serves on";
}

TEST_F(EtcdDaemons, DirectoriesAndRunBlocksOfAnotherCluster) {
  EtcdCluster etcd(1);
  const std::string ssd = directory_ / "a";
  const std::vector<std::string> place = {"--ssd", ssd, "--ssd-size", "256MiB"};
  Daemon a(Words(etcd, "a", place));
  ASSERT_TRUE(a.serving());
  const std::string id = json::parse(etcd.Get("/kvasir/default/cluster"))["cluster_id"];
  ExpectSays(Run(etcd, "b", {"--run-blocks", "4"}), 2, "started with --run-blocks 4, but cluster 'default' in etcd " + etcd.endpoint(0) + " has 16");
  EXPECT_EQ(a.Stop(SIGTERM).status, 0);

  Daemon other(Words(etcd, "o", {"--cluster", "other"}));
  ASSERT_TRUE(other.serving());
  const std::string other_id = json::parse(etcd.Get("/kvasir/other/cluster"))["cluster_id"];
  std::vector<std::string> moved = place;
  moved.insert(moved.end(), {"--cluster", "other"});
  ExpectSays(Run(etcd, "a", moved), 2, "belongs to cluster " + id + ", but cluster 'other' in etcd " + etcd.endpoint(0) + " is " + other_id);
  ExpectSays(RunProgram({KVASIRD, "--listen", "127.0.0.1:0", "--dram", "64MiB", "--ssd", ssd}), 2, "belongs to cluster " + id + ", but this node joins cluster static:");
  Daemon again(Words(etcd, "a", place));
  EXPECT_TRUE(again.serving()) << "nothing was lost: " << again.Stop(0).err;
}

TEST_F(EtcdDaemons, NamedAndUnnamedLists) {
  directory_.Write("prod.json", R"({"cluster":"prod","members":[{"id":"a","control":"127.0.0.1:)" + std::to_string(FreePorts(1)[0]) + R"("}]})");
  directory_.Write("test.json", R"({"cluster":"test","members":[{"id":"a","control":"127.0.0.1:)" + std::to_string(FreePorts(1)[0]) + R"("}]})");
  const auto start = [&](const std::string& members) {
    return std::vector<std::string>{"--id", "a", "--members", members, "--dram", "64MiB", "--state", directory_ / "state"};
  };
  Daemon alone({"--state", directory_ / "state"});
  ASSERT_TRUE(alone.serving());
  EXPECT_EQ(alone.Stop(SIGTERM).status, 0);
  Daemon prod(start("static:" + directory_ / "prod.json"));
  ASSERT_TRUE(prod.serving()) << "a cluster without a name may get one";
  EXPECT_EQ(Status(prod)[0]["membership_source"], "static");
  EXPECT_EQ(prod.Stop(SIGTERM).status, 0);
  std::vector<std::string> words = start(directory_ / "test.json");
  words.insert(words.begin(), KVASIRD);
  ExpectSays(RunProgram(words), 2, "belongs to cluster static:prod, but this node joins cluster static:test");
}

TEST_F(EtcdDaemons, StartsWithTheCachedViewWhileEtcdIsAway) {
  EtcdCluster etcd(1);
  const std::vector<std::string> state = {"--state", directory_ / "a"};
  {
    Daemon a(Words(etcd, "a", state)), b(Words(etcd, "b", {}));
    ASSERT_TRUE(a.serving() && b.serving());
    ASSERT_TRUE(Comes([&] { return ReadAll(directory_ / "a/view").find("\"id\": \"b\"") != std::string::npos; }));
    EXPECT_EQ(a.Stop(SIGKILL).status, 128 + SIGKILL);
    etcd.Kill(0);
    std::vector<std::string> restart = state;
    restart.insert(restart.end(), {"--drain-wait", "500ms"});
    Daemon again(Words(etcd, "a", restart));
    ASSERT_TRUE(again.serving());
    const json status = Status(again);
    EXPECT_EQ(status.size(), 2u) << "b is known and answers";
    const std::string from = status[0]["id"] == "a" ? status[0]["membership_source"] : status[1]["members_from"];
    EXPECT_EQ(from.find("etcd " + etcd.endpoint(0) + ": unreachable for "), 0u) << from;
    EXPECT_NE(from.find(", cached view"), std::string::npos) << from;
    const Ended ended = again.Stop(SIGTERM);
    ExpectSays(ended, 0, "this node starts with the cached view, 2 members");
    ExpectSays(ended, 0, "the membership was not told of the drain  cause=\"etcd does not answer");
    ExpectSays(ended, 0, "etcd was not told that this node leaves: etcd does not answer");
  }
  // Without one it waits, says so, and a signal ends it. timeout(1) sends the signal.
  std::vector<std::string> words = Words(etcd, "a", {"--state", directory_ / "empty"});
  words.insert(words.begin(), {"/usr/bin/timeout", "--preserve-status", "-s", "TERM", "3", KVASIRD});
  const Ended waited = RunProgram(words);
  ExpectSays(waited, 0, "etcd " + etcd.endpoint(0) + ": does not answer: ");
  ExpectSays(waited, 0, "there is no cached view to start with; this node waits and tries again");
  ExpectSays(waited, 0, "stopped before this node was a member  signal=SIGTERM");
}

}  // namespace
}  // namespace kvasir::testing
