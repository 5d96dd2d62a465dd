// SPDX-License-Identifier: Apache-2.0
// Goal: the cluster on paper says what Placement does, the same on every machine. Method: fixed seeds; exact counts
// where arithmetic gives them, hard bounds elsewhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "deploy/kvasir/sim_cluster.h"
#include "deploy/kvasir/sim_loads.h"

namespace kvasir {
namespace {

SimOptions Options(uint32_t nodes, uint32_t zones) {
  SimOptions options;
  options.nodes = nodes;
  options.zones = zones;
  options.threads = 2;
  return options;
}

TEST(SimCluster, SixthNodeTakesItsShareAndNobodyElseMoves) {
  constexpr uint64_t kRuns = 10'000;
  const SimPoint point = SimulateNodes(Options(5, 0), 5, kRuns);
  const Moves& join = point.changes.join;
  EXPECT_EQ(join.copies, 2 * kRuns);
  EXPECT_LE(join.share(), 1.1 / 6);
  EXPECT_GE(join.share(), 0.9 / 6);
  EXPECT_EQ(join.others, 0u) << "copies that neither went to nor came from the sixth";
  EXPECT_DOUBLE_EQ(join.ideal, 1.0 / 6);
  EXPECT_EQ(join.moved, 3328u) << "seed 1: placement is the same on every machine";
  EXPECT_EQ(join.readers_ask_max, 4u) << "three owners of now, and one of before that the sixth displaced";
}

/// Whatever the weights, zones and copies: a change moves what the node that changed gets or gives, nothing else.
TEST(SimCluster, OthersNeverMove) {
  for (const uint32_t zones : {0u, 1u, 2u, 3u, 7u}) {
    for (const uint32_t replicas : {1u, 2u, 3u}) {
      SimOptions options = Options(9, zones);
      options.replicas = replicas;
      options.weights = {100, 50, 300};
      options.seed = zones * 10 + replicas;
      const SimPoint point = SimulateNodes(options, 9, 2000);
      for (const Moves* moves : {&point.changes.join, &point.changes.leave, &point.changes.drain}) {
        EXPECT_EQ(moves->copies, uint64_t{2000} * replicas);
        EXPECT_GT(moves->moved, 0u);
        EXPECT_EQ(moves->others, 0u) << zones << " zones, " << replicas << " copies";
      }
      EXPECT_EQ(point.changes.leave.moved, point.changes.drain.moved) << "a drain moves what a death does";
      EXPECT_EQ(point.changes.leave.bytes, point.changes.drain.bytes);
    }
  }
}

TEST(SimCluster, ThreadsChangeNoNumber) {
  SimOptions one = Options(20, 3), many = one;
  one.threads = 1;
  many.threads = 7;
  const SimPoint a = SimulateNodes(one, 20, 3000), b = SimulateNodes(many, 20, 3000);
  EXPECT_EQ(a.balance.node_bytes.max_over_mean, b.balance.node_bytes.max_over_mean);
  EXPECT_EQ(a.balance.shard_copies.min_over_mean, b.balance.shard_copies.min_over_mean);
  EXPECT_EQ(a.changes.join.moved, b.changes.join.moved);
  EXPECT_EQ(a.changes.join.bytes, b.changes.join.bytes);
  EXPECT_EQ(a.changes.drain.readers_ask, b.changes.drain.readers_ask);
}

TEST(SimCluster, BalanceFollowsWeightsAndChance) {
  SimOptions options = Options(50, 0);
  options.weights = {100, 400};
  const Balance balance = SimulateNodes(options, 50, 20'000).balance;
  EXPECT_DOUBLE_EQ(balance.node_copies.mean, 2 * 20'000 / 50.0);
  EXPECT_DOUBLE_EQ(balance.shard_copies.mean, 2 * 20'000 / 200.0);
  EXPECT_GT(balance.node_copies.max_over_mean, 1.0);
  EXPECT_LT(balance.node_copies.max_over_mean, 1.1 * balance.node_copies.by_chance);
  EXPECT_LT(balance.shard_copies.max_over_mean, 1.1 * balance.shard_copies.by_chance);
  EXPECT_GT(balance.shard_copies.by_chance, balance.node_copies.by_chance) << "fewer on each: more chance";
}

TEST(SimCluster, MembersAndRunsAreAsSaid) {
  SimOptions options = Options(12, 5);
  options.weights = {1, 2};
  const Membership members = SimMembers(options, 12), more = SimMembers(options, 13);
  EXPECT_TRUE(std::is_sorted(more.members.begin(), more.members.end(),
                             [](const Member& a, const Member& b) { return a.id < b.id; }));
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(members.members[i], more.members[i]);
  EXPECT_EQ(members.members[6].zone, "zone-1");
  EXPECT_EQ(members.members[6].weight, 1u);
  const std::vector<uint32_t> blocks = SimRunBlocks(options, 1000);
  ASSERT_EQ(blocks.size(), 1000u);
  std::map<uint32_t, int> counts;
  for (const uint32_t count : blocks) ++counts[count];
  EXPECT_EQ(counts.begin()->first, 1u);
  EXPECT_EQ(counts.rbegin()->first, 16u);
  EXPECT_GT(counts[16], 500) << "most runs of long prompts are whole";
  std::set<BlockKey> keys;
  for (uint64_t run = 0; run < 1000; ++run) keys.insert(SimRunKey(1, run));
  EXPECT_EQ(keys.size(), 1000u);
  EXPECT_NE(SimRunKey(1, 0), SimRunKey(2, 0));
}

TEST(SimCluster, LargestOfPoissonLoads) {
  EXPECT_EQ(ExpectedMaxOverMean({}), 0);
  EXPECT_NEAR(ExpectedMaxOverMean({5}), 1, 0.01) << "the largest of one is its mean";
  // The larger of two with mean 1: 1 + E|X - Y| / 2, E|X - Y| = 2 exp(-2) (I0(2) + I1(2)).
  EXPECT_NEAR(ExpectedMaxOverMean({1, 1}), 1 + 0.135335 * (2.279585 + 1.590637), 0.02);
  EXPECT_LT(ExpectedMaxOverMean(std::vector<double>(100, 1e4)), 1.03);
}

TEST(SimCluster, FanOutOfAPrompt) {
  SimOptions options = Options(100, 0);
  options.prompt_tokens = 10'000;  // 40 blocks, 3 runs
  ASSERT_EQ(options.PromptRuns(), 3u);
  const FanOut fan_out = SimulateFanOut(options);
  EXPECT_LE(fan_out.nodes_max, 3u);
  EXPECT_GT(fan_out.nodes, 2.9);
  EXPECT_GE(fan_out.calls, fan_out.nodes);
  EXPECT_EQ(fan_out.rounds, 3u) << "two copies and one more";
  EXPECT_GT(fan_out.cold_calls, 8.5);
  EXPECT_LE(fan_out.cold_calls, 9.0);

  SimOptions two = Options(2, 0);
  two.replicas = 1;
  EXPECT_EQ(SimulateFanOut(two).nodes_max, 2u);
  EXPECT_EQ(SimulateFanOut(two).rounds, 2u);
  const std::vector<Met> met = SimulateClient(options);
  ASSERT_EQ(met.size(), 3u);
  EXPECT_LT(met[0].nodes, met[1].nodes);
  EXPECT_LT(met[1].nodes, met[2].nodes);
  EXPECT_LE(met[2].nodes, 100.0);
  EXPECT_GE(met[2].shards, met[2].nodes);
}

TEST(SimLoads, ArithmeticIsAsSaid) {
  SimOptions options = Options(10, 0);
  options.clients = 300;
  options.runs = 40'960;
  options.shards = 2;
  options.replicas = 1;
  const LoadInputs inputs{.options = options,
                          .fan_out = {},
                          .met = {},
                          .wire = {.membership = 500, .probe = 100, .inventory_block = 10, .touch = 20},
                          .place = {.replicas_ns = 1000, .readers_ns = 0, .all_ns = 0},
                          .joining_owners = 2.5};
  std::map<std::string, double> value;
  for (const Figure& figure : LoadFigures(inputs)) {
    EXPECT_TRUE(value.emplace(figure.key, figure.value).second) << figure.key << " is there twice";
    EXPECT_FALSE(figure.how.empty()) << figure.key;
  }
  EXPECT_EQ(value["client_connections"], 10 + 20);
  EXPECT_EQ(value["node_connections"], 300 * 3);
  EXPECT_EQ(value["news_messages"], 3000);
  EXPECT_EQ(value["news_bytes"], 3000 * 500);
  EXPECT_EQ(value["etcd_events"], 10);
  EXPECT_EQ(value["etcd_restart_events"], 400);
  EXPECT_EQ(value["etcd_lease_renewals"], 5);
  EXPECT_EQ(value["probe_peers"], 9) << "fewer than 16 others";
  EXPECT_EQ(value["probes_node"], 45);
  EXPECT_EQ(value["inventory_calls"], 10 * 2 * 9 * 2 * 3)
      << "2,048 runs a shard: two pages, and a word that it is done";
  EXPECT_EQ(value["inventory_calls_node"], 2 * 9 * 2 * 3);
  EXPECT_EQ(value["inventory_loop_ns"], 2048 * 18 * 1000.0);
  EXPECT_EQ(value["owners_per_run_joining"], 2.5);
  EXPECT_EQ(MemoryOf({}), sizeof(Membership));
}

}  // namespace
}  // namespace kvasir
