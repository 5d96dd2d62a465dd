// SPDX-License-Identifier: Apache-2.0
// Goal: what operators read of a cluster is true and says what to do. Method: made-up answers, exact texts.
#include "deploy/kvasir/cluster_view.h"

#include <gtest/gtest.h>

#include "tests/deploy/fake_cluster.h"

namespace kvasir::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(NodeTable, ShowsTheDeadBesideTheOthers) {
  AskedCluster cluster = FakeCluster();
  Silence(&cluster, 1);
  cluster.nodes[0].status->peers = {{"b", "silent", milliseconds(12'300)}, {"c", "ok", milliseconds(100)}};
  cluster.nodes[2].status->peers = {{"b", "silent", milliseconds(12'100)}};
  cluster.nodes[2].status->taking_over = {.runs_done = 3, .runs_total = 40, .settled = false};
  cluster.nodes[2].status->tiers.push_back(
      {.name = "ssd", .state = "read-only: Input/output error", .capacity = 10, .used = 5});
  EXPECT_EQ(
      NodeTable(cluster).Text(),
      "ID  ADDRESS        STATE        ZONE  WEIGHT  EPOCH  DRAM  SSD        PARTS  MOVES                     LAST "
      "SEEN\n"
      "a   10.0.0.1:7070  serving      r1       100      7   25%  -             20  settled                   now\n"
      "b   10.0.0.2:7070  unreachable  r2       100      -     -  -              -  -                         12.1 s "
      "ago\n"
      "c   10.0.0.3:7070  serving      r1       200      7   25%  read-only     20  taking over 3 of 40 runs  now\n");
  EXPECT_EQ(SilentLines(cluster),
            "b at 10.0.0.2:7070 is unreachable: connection refused; a peer heard it 12.1 s ago\n");
}

TEST(NodeJson, HoldsWhatIsKnownOfADeadNode) {
  AskedCluster cluster = FakeCluster();
  Silence(&cluster, 1);
  const auto dead = NodeJson(cluster, cluster.nodes[1]);
  EXPECT_EQ(dead["reachable"], false);
  EXPECT_EQ(dead["state"], "unreachable");
  EXPECT_EQ(dead["cause"], "connection refused");
  EXPECT_EQ(dead["member"]["zone"], "r2");
  cluster.nodes[0].status->features = {{"io_uring", "off: denied by seccomp"}};
  cluster.nodes[0].status->handing_over = {
      .runs_done = 1, .runs_total = 2, .bytes_done = 3, .bytes_total = 4, .epoch = 5, .settled = false};
  const auto live = NodeJson(cluster, cluster.nodes[0]);
  EXPECT_EQ(live["features"]["io_uring"], "off: denied by seccomp");
  EXPECT_EQ(live["handing_over"]["bytes_total"], 4);
  EXPECT_EQ(live["handing_over"]["settled"], false);
  EXPECT_EQ(live["membership_source"], "etcd 10.0.0.9:2379: ok");
}

TEST(JudgeCluster, Healthy) {
  AskedCluster cluster = FakeCluster();
  EXPECT_EQ(JudgeCluster(cluster, 2).words,
            "healthy: all 3 nodes answer, epoch 7 everywhere, nothing moves, 2 copies find distinct zones (2)");
  cluster.nodes[2].status->state = "cordoned";
  const Health health = JudgeCluster(cluster, 2);
  EXPECT_TRUE(health.healthy) << "an operator wanted it so";
  EXPECT_NE(health.words.find("; no new blocks go to c (cordoned)"), std::string::npos) << health.words;
}

void ExpectTrouble(const AskedCluster& cluster, uint32_t replicas, const std::string& words,
                   const std::string& trouble) {
  const Health health = JudgeCluster(cluster, replicas);
  EXPECT_FALSE(health.healthy);
  EXPECT_EQ(health.words.find("not healthy: " + words), 0u) << health.words;
  ASSERT_EQ(health.troubles.size(), 1u);
  EXPECT_EQ(health.troubles[0].find(trouble), 0u) << health.troubles[0];
}

TEST(JudgeCluster, EachTroubleAlone) {
  AskedCluster cluster = FakeCluster();
  Silence(&cluster, 2);
  ExpectTrouble(cluster, 2, "1 of 3 nodes unreachable", "c is unreachable: connection refused. Start it again");
  cluster = FakeCluster();
  cluster.nodes[1].status->epoch = 6;
  ExpectTrouble(cluster, 2, "2 different memberships", "not all have the same membership: epoch of a, c at 7; b at 6.");
  cluster = FakeCluster();
  cluster.nodes[0].status->handing_over = {.runs_done = 2, .runs_total = 9, .settled = false};
  ExpectTrouble(cluster, 2, "blocks move at 1 node",
                "a is not settled: handing over 2 of 9 runs. Wait; see: kvasir node describe a");
  ExpectTrouble(FakeCluster(), 3, "1 trouble",
                "3 copies cannot lie in distinct zones: the nodes that can take new blocks (3) lie in 2 zones.");
  cluster = FakeCluster();
  cluster.nodes[0].status->tiers[0].state = "read-only: fsync: Input/output error";
  ExpectTrouble(cluster, 2, "1 trouble", "the dram tier of a is read-only: fsync: Input/output error.");
  cluster = FakeCluster();
  cluster.nodes[0].status->membership_source = "etcd 10.0.0.9:2379: unreachable for 12s, cached view";
  ExpectTrouble(cluster, 2, "1 trouble",
                "a has its members from etcd 10.0.0.9:2379: unreachable for 12s, cached view.");
  cluster = FakeCluster();
  cluster.nodes[0].status->peers = {{"b", "silent", seconds(9)}, {"c", "ok", seconds(0)}};
  ExpectTrouble(cluster, 2, "1 trouble", "a does not hear b, which answered here.");
  cluster = FakeCluster();
  for (AskedNode& node : cluster.nodes) node.status->state = "cordoned";
  ExpectTrouble(cluster, 2, "1 trouble", "no node takes new blocks. Let one do so: kvasir node uncordon ID");
}

TEST(Texts, MovesFillAndCounters) {
  NodeStatus status;
  EXPECT_EQ(MovesOf(status), "settled");
  status.taking_over = {.runs_done = 1, .runs_total = 2, .settled = false};
  status.handing_over = {.runs_done = 3, .runs_total = 4, .settled = false};
  EXPECT_EQ(MovesOf(status), "taking over 1 of 2 runs, handing over 3 of 4 runs");
  status.handing_over = {
      .runs_done = 0, .runs_total = 0, .bytes_done = 1 << 20, .bytes_total = 3 << 20, .settled = false};
  status.taking_over = {.settled = false};
  EXPECT_EQ(MovesOf(status), "taking over, handing over 1.0 MiB of 3.0 MiB") << "what is not known is not said";
  EXPECT_EQ(FillOf(status, "dram"), "-");
  status.tiers = {{.name = "dram", .state = "ok", .capacity = 0}, {.name = "ssd", .state = "off", .capacity = 0}};
  EXPECT_EQ(FillOf(status, "dram"), "0%");
  EXPECT_EQ(FillOf(status, "ssd"), "-");
  status.counters = {{"acquires", 5}, {"persist_failed", 0}, {"pulls_failed", 2}, {"wrong_prevented_seal", 1}};
  const auto counters = CountersWorthALook(status);
  ASSERT_EQ(counters.size(), 2u);
  EXPECT_EQ(counters[0].first, "pulls_failed");
  EXPECT_EQ(counters[1].first, "wrong_prevented_seal");
}

TEST(FindNode, SaysWhatThereIs) {
  const AskedCluster cluster = FakeCluster();
  EXPECT_EQ((*FindNode(cluster, "b"))->id, "b");
  EXPECT_EQ(FindNode(cluster, "bb").status().message(), "there is no node bb in this cluster; did you mean b?");
  EXPECT_EQ(FindNode(cluster, "kvasir-17").status().message(),
            "there is no node kvasir-17 in this cluster. See the 3 that there are: kvasir node ls");
  EXPECT_EQ(ExitStatusOf(FindNode(cluster, "").status()), kExitBadInput);
}

TEST(CauseOf, IsShort) {
  EXPECT_EQ(CauseOf(absl::UnavailableError("ipv4:127.0.0.1:1: Failed to connect: Connection refused")),
            "connection refused");
  EXPECT_EQ(CauseOf(absl::UnavailableError("connection attempt timed out before receiving SETTINGS frame")),
            "no answer in time");
  EXPECT_EQ(CauseOf(absl::DeadlineExceededError("Deadline Exceeded")), "no answer in time");
  EXPECT_EQ(CauseOf(absl::UnavailableError("DNS resolution failed for x")), kNameUnknown);
  EXPECT_EQ(CauseOf(absl::InternalError("what else")), "what else");
}

TEST(WithoutSilent, EndsWithFour) {
  AskedCluster cluster = FakeCluster();
  EXPECT_TRUE(WithoutSilent(cluster, "x").ok());
  Silence(&cluster, 0);
  EXPECT_EQ(ExitStatusOf(WithoutSilent(cluster, "x")), kExitPartial);
}

}  // namespace
}  // namespace kvasir::testing
