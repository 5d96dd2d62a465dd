// SPDX-License-Identifier: Apache-2.0
// Goal: a drain is followed to its end, whatever the end, and told truly. Method: a node that answers from a list, a
// file for progress.
#include "deploy/kvasir/drain.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <deque>

#include "tests/deploy/fake_cluster.h"
#include "transport/sync.h"

namespace kvasir::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

/// Answers Status from a list, its last entry for ever; answers Drain when asked for the last entry, if it is to.
class ScriptedNode : public AdminApi {
 public:
  ScriptedNode(std::deque<absl::StatusOr<NodeStatus>> script, absl::StatusOr<NodeStatus> drained, bool answers_drain)
      : script_(std::move(script)), drained_(std::move(drained)), answers_drain_(answers_drain) {}
  void Status(Answer<NodeStatus> answer) override {
    absl::StatusOr<NodeStatus> now = script_.front();
    if (script_.size() > 1) script_.pop_front();
    answer(std::move(now));
    if (script_.size() == 1 && drain_ && answers_drain_) std::exchange(drain_, nullptr)(drained_);
  }
  void Drain(Duration wait, Answer<NodeStatus> answer) override {
    asked_wait = wait;
    drain_ = std::move(answer);
  }
  void List(ListRequest, Answer<ListReply> answer) override { answer(absl::UnimplementedError("")); }
  void Cordon(bool, Answer<NodeStatus> answer) override { answer(absl::UnimplementedError("")); }
  Duration asked_wait{};

 private:
  std::deque<absl::StatusOr<NodeStatus>> script_;
  const absl::StatusOr<NodeStatus> drained_;
  const bool answers_drain_;
  Answer<NodeStatus> drain_;
};

NodeStatus Draining(uint64_t runs, uint64_t of, uint64_t leases = 0) {
  NodeStatus status = FakeStatus("b", FakeCluster().membership);
  status.state = "draining";
  status.leases = leases;
  status.handing_over = {.runs_done = runs,
                         .runs_total = of,
                         .bytes_done = runs << 20,
                         .bytes_total = of << 20,
                         .epoch = 7,
                         .settled = runs == of};
  return status;
}
NodeStatus Drained() {
  NodeStatus status = Draining(40, 40);
  status.state = "drained";
  return status;
}

class DrainTest : public ::testing::Test {
 protected:
  DrainTest() : file_(std::tmpfile(), &std::fclose) {}
  absl::StatusOr<NodeStatus> Follow(ScriptedNode& node, Duration wait) {
    const DrainPatience patience{.wait = wait, .timeout = milliseconds(200), .pause = milliseconds(1)};
    return FollowDrain(node, patience,
                       {.out = file_.get(), .terminal = 0, .clock = [this] { return now_ += seconds(1); }});
  }
  std::string Written() {
    std::string text(static_cast<size_t>(std::ftell(file_.get())), '\0');
    std::rewind(file_.get());
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file_.get()), text.size());
    return text;
  }
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  std::chrono::steady_clock::time_point now_{};
};

TEST_F(DrainTest, ShowsBytesRateAndEstimateAndEndsDrained) {
  ScriptedNode node({Draining(0, 0), Draining(10, 20), Draining(20, 40), Draining(30, 40), Drained()}, Drained(), true);
  const auto last = Follow(node, minutes(10));
  ASSERT_TRUE(last.ok()) << last.status();
  EXPECT_EQ(node.asked_wait, minutes(10));
  EXPECT_TRUE(JudgeDrain(*last, minutes(10)).ok());
  EXPECT_EQ(Written(),
            "drain b  50%  10.0 MiB of 20.0 MiB\n"
            "drain b  75%  30.0 MiB of 40.0 MiB  6.99 MB/s  2.00 s left\n"
            "drain b  100%  40.0 MiB of 40.0 MiB  drained\n")
      << "the total grew, and what was done before is no part of the rate";
}

TEST_F(DrainTest, TimeIsUp) {
  ScriptedNode node({Draining(10, 40)}, Draining(28, 40, 3), true);
  const auto last = Follow(node, seconds(90));
  ASSERT_TRUE(last.ok()) << last.status();
  const absl::Status judged = JudgeDrain(*last, seconds(90));
  EXPECT_EQ(ExitStatusOf(judged), kExitFailure);
  EXPECT_EQ(judged.message(),
            "node b is not drained after 1m 30s: 12.0 MiB of 40.0 MiB are not with others yet, readers hold 3 leases. "
            "It goes on by "
            "itself. Wait longer: kvasir node drain b --yes --wait 30m. If it stands still, the others lack room or do "
            "not reach it: "
            "kvasir status --cluster. Give up: kvasir node uncordon b");
  EXPECT_NE(Written().find("drain b  70%  28.0 MiB of 40.0 MiB  not drained\n"), std::string::npos);
}

TEST_F(DrainTest, ReadersHoldOn) {
  const absl::Status judged = JudgeDrain(Draining(40, 40, 1), seconds(10));
  EXPECT_EQ(judged.message(),
            "node b is not drained after 10.0 s: readers hold 1 lease; a lease ends when its reader is done or dead. "
            "Wait longer: "
            "kvasir node drain b --yes --wait 30m. Give up: kvasir node uncordon b");
}

TEST_F(DrainTest, NobodyTakesOver) {
  NodeStatus alone = Drained();
  alone.membership_source = "static";
  const absl::Status judged = JudgeDrain(alone, seconds(10));
  EXPECT_EQ(ExitStatusOf(judged), kExitFailure);
  EXPECT_EQ(judged.message(),
            "node b takes no new blocks and no reader holds anything, but nobody takes over what it holds (membership: "
            "static): 10 blocks, "
            "200 B in DRAM, 0 B on SSD. Stop it if other copies or its SSD are enough; else: kvasir node uncordon b");
}

TEST_F(DrainTest, WhatHoldsNothingIsDrained) {
  NodeStatus empty = Draining(0, 0);
  empty.blocks = 0;
  EXPECT_TRUE(JudgeDrain(empty, seconds(10)).ok());
  empty.leases = 1;
  EXPECT_FALSE(JudgeDrain(empty, seconds(10)).ok());
}

TEST_F(DrainTest, NodeDies) {
  ScriptedNode node({Draining(10, 40), absl::UnavailableError("gone")}, absl::UnavailableError("gone"), true);
  EXPECT_EQ(Follow(node, minutes(10)).status().message(), "gone");
  EXPECT_NE(Written().find("no answer any more\n"), std::string::npos);
}

TEST_F(DrainTest, NodeThatNeverAnswersIsGivenUp) {
  ScriptedNode node({absl::UnavailableError("gone")}, absl::UnavailableError("gone"), false);
  EXPECT_EQ(Follow(node, milliseconds(1)).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(PlanDrain, CountsWhatMovesAndTheRoomForIt) {
  AskedCluster cluster = FakeCluster();
  DrainPlan plan = PlanDrain(cluster, cluster.nodes[1]);
  EXPECT_EQ(plan.takers, 2u);
  EXPECT_EQ(plan.room, 1500u);
  EXPECT_EQ(
      plan.Text(),
      "Drain b at 10.0.0.2:7070: it takes no new blocks from now on, and 2 other nodes take over 10 blocks in 20 parts "
      "(200 B in DRAM, 0 B on SSD); readers hold 0 leases.\n");
  cluster.nodes[1].status->membership_source = "static";
  EXPECT_NE(PlanDrain(cluster, cluster.nodes[1])
                .Text()
                .find("from now on. The member list is static: nobody takes over its 10 blocks"),
            std::string::npos);
  cluster = FakeCluster();
  cluster.nodes[0].status->tiers[0].used = 990;
  cluster.nodes[2].status->tiers[0].state = "read-only: cause";
  EXPECT_NE(PlanDrain(cluster, cluster.nodes[1]).Text().find("They have 10 B free: the coldest blocks"),
            std::string::npos);
  cluster.nodes[0].status->state = "draining";
  Silence(&cluster, 2);
  plan = PlanDrain(cluster, cluster.nodes[1]);
  EXPECT_EQ(plan.takers, 0u);
  EXPECT_NE(plan.Text().find("No other node takes new blocks: nothing can be handed over.\n"), std::string::npos);
}

}  // namespace
}  // namespace kvasir::testing
