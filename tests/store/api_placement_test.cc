// SPDX-License-Identifier: Apache-2.0
// Goal: everybody agrees, shares follow weights, a change moves only what it must, zones are kept apart. Method: many
// keys, fixed seed, exact sets; the values themselves are pinned by api_vectors_test.
#include "store/api/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tests/support/seed.h"

namespace kvasir {
namespace {

BlockKey RandomKey(std::mt19937_64& rng) {
  BlockKey key;
  for (uint8_t& b : key.bytes) b = static_cast<uint8_t>(rng());
  return key;
}

Membership Nodes(std::vector<uint32_t> weights) {
  Membership m;
  for (size_t i = 0; i < weights.size(); ++i) {
    m.members.push_back({"node-" + std::to_string(10 + i), "", 4, weights[i], ""});
  }
  return m;
}

std::vector<std::string> Ids(const BlockKey& key, const Membership& m, uint32_t count) {
  std::vector<std::string> ids;
  for (const Placed& p : Place(key, m, count)) ids.push_back(m.members[p.member].id);
  return ids;
}

TEST(Placement, CountsAndEdges) {
  auto rng = testing::Rng(1);
  const BlockKey key = RandomKey(rng);
  EXPECT_TRUE(Place(key, {}, 3).empty());
  EXPECT_TRUE(Place(key, Nodes({1, 1}), 0).empty());
  EXPECT_EQ(Place(key, Nodes({1}), 3).size(), 1u);
  EXPECT_EQ(Place(key, Nodes({1, 1, 1}), 2).size(), 2u);
  Membership odd = Nodes({0, 1000000});
  odd.members[0].shards = 0;
  const auto placed = Place(key, odd, 2);
  ASSERT_EQ(placed.size(), 2u);
  EXPECT_EQ(placed[0].member, 1u);  // weight 0 comes last
  EXPECT_EQ(placed[1].shard, 0u);
}

TEST(Placement, FewerReplicasAreAPrefixOfMore) {
  auto rng = testing::Rng(2);
  const Membership m = Nodes({100, 50, 200, 100, 70});
  for (int i = 0; i < 500; ++i) {
    const BlockKey key = RandomKey(rng);
    const auto all = Place(key, m, 5);
    for (uint32_t count = 0; count < 5; ++count) {
      EXPECT_EQ(Place(key, m, count), std::vector<Placed>(all.begin(), all.begin() + count));
    }
  }
}

TEST(Placement, SharesFollowWeights) {
  auto rng = testing::Rng(3);
  const std::vector<uint32_t> weights = {100, 200, 50, 1, 649};
  const Membership m = Nodes(weights);
  constexpr double kKeys = 100000;
  std::vector<double> primaries(weights.size());
  std::vector<double> shards(4);
  for (int i = 0; i < kKeys; ++i) {
    const Placed p = Place(RandomKey(rng), m, 1)[0];
    ++primaries[p.member];
    ++shards[p.shard];
  }
  for (size_t i = 0; i < weights.size(); ++i) {
    const double share = weights[i] / 1000.0;
    EXPECT_NEAR(primaries[i], kKeys * share, 5 * std::sqrt(kKeys * share * (1 - share))) << i;
  }
  for (const double count : shards) EXPECT_NEAR(count, kKeys / 4, 5 * std::sqrt(kKeys * 3 / 16));
}

TEST(Placement, ChangesMoveOnlyWhatTheyMust) {
  auto rng = testing::Rng(4);
  const Membership before = Nodes({100, 150, 100, 80, 100, 120});
  Membership without = before, heavier = before;
  without.members.erase(without.members.begin() + 2);
  heavier.members[2].weight = 300;
  for (int i = 0; i < 5000; ++i) {
    const BlockKey key = RandomKey(rng);
    auto full = Ids(key, before, 6);
    const auto less = Ids(key, without, 5);
    const std::string first = full[0];
    // The member that joins takes what is its own; nobody else's order changes.
    full.erase(std::find(full.begin(), full.end(), "node-12"));
    EXPECT_EQ(full, less);
    // The member that grows takes keys, it never gives one away.
    const std::string grown = Ids(key, heavier, 1)[0];
    EXPECT_TRUE(grown == first || grown == "node-12");
  }
}

TEST(Placement, PositionInTheListDecidesNothing) {
  auto rng = testing::Rng(5);
  Membership m = Nodes({100, 150, 100, 80}), shuffled = m;
  std::shuffle(shuffled.members.begin(), shuffled.members.end(), rng);
  for (int i = 0; i < 1000; ++i) {
    const BlockKey key = RandomKey(rng);
    EXPECT_EQ(Ids(key, m, 4), Ids(key, shuffled, 4));
  }
}

TEST(Placement, AZoneRepeatsOnlyWhenZonesRunOut) {
  auto rng = testing::Rng(6);
  Membership m = Nodes({100, 100, 100, 100, 100, 100, 100});
  const std::vector<std::string> zones = {"a", "a", "a", "b", "b", "c", ""};  // "" is a zone of its own: four zones
  for (size_t i = 0; i < zones.size(); ++i) m.members[i].zone = zones[i];
  for (int i = 0; i < 2000; ++i) {
    const auto placed = Place(RandomKey(rng), m, 7);
    ASSERT_EQ(placed.size(), 7u);
    std::set<uint32_t> members;
    std::map<std::string, int> owners;
    for (size_t n = 0; n < placed.size(); ++n) {
      members.insert(placed[n].member);
      const int before = owners[zones[placed[n].member]]++;
      EXPECT_EQ(before, n < 4 ? 0 : n < 6 ? 1 : 2) << n;
    }
    EXPECT_EQ(members.size(), 7u);
  }
}

/// Any members join, drain or are cordoned at once, in any zones: a reader still asks whoever held a run before.
TEST(Placement, ReadersAskWhoHeldARunBefore) {
  auto rng = testing::Rng(7);
  for (int i = 0; i < 2000; ++i) {
    Membership before, now;
    for (size_t n = 0; n < 3 + rng() % 8; ++n) {
      Member member{"node-" + std::to_string(10 + n), "", 4, static_cast<uint32_t>(50 + rng() % 100), std::string(1, "abc"[rng() % 3])};
      const uint64_t fate = rng() % 5;
      member.state = fate == 0   ? MemberState::kJoining
                     : fate == 1 ? MemberState::kDraining
                     : fate == 2 ? MemberState::kCordoned
                                 : MemberState::kServing;
      now.members.push_back(member);
      if (member.state == MemberState::kJoining) continue;
      member.state = MemberState::kServing;
      before.members.push_back(member);
    }
    const BlockKey key = RandomKey(rng);
    const uint32_t replicas = 1 + rng() % 3;
    std::set<std::string> asked, written;
    for (const Placed& p : PlaceForReading(key, now, replicas)) {
      EXPECT_TRUE(asked.insert(now.members[p.member].id).second) << "nobody is asked twice";
    }
    for (const std::string& id : Ids(key, before, replicas)) EXPECT_TRUE(asked.contains(id)) << id;
    for (const std::string& id : Ids(key, now, replicas)) {
      EXPECT_TRUE(asked.contains(id)) << id;
      const MemberState state = now.Find(id)->state;
      EXPECT_TRUE(state == MemberState::kServing || state == MemberState::kJoining) << id;
    }
  }
}

TEST(Placement, NobodyTakesNewBlocksWhereAllAreCordoned) {
  auto rng = testing::Rng(8);
  Membership m = Nodes({100, 100});
  for (Member& member : m.members) member.state = MemberState::kCordoned;
  EXPECT_TRUE(Place(RandomKey(rng), m, 2).empty());
  EXPECT_EQ(PlaceForReading(RandomKey(rng), m, 1).size(), 2u);
  EXPECT_EQ(m.Find("node-11"), &m.members[1]);
  EXPECT_EQ(m.Find("node-12"), nullptr);
  for (const MemberState state : {MemberState::kServing, MemberState::kJoining, MemberState::kCordoned, MemberState::kDraining}) {
    EXPECT_EQ(ParseMemberState(Name(state)), state);
  }
  EXPECT_EQ(ParseMemberState("gone"), std::nullopt);
}

}  // namespace
}  // namespace kvasir
