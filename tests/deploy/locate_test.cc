// SPDX-License-Identifier: Apache-2.0
// Goal: who should hold a block is what Placement says, beside who does. Method: a membership in which one node joins
// and one drains, many keys.
#include "deploy/kvasir/locate.h"

#include <gtest/gtest.h>

#include "tests/deploy/fake_cluster.h"
#include "tests/support/seed.h"

namespace kvasir::testing {
namespace {

HeldBlock Copy(const std::string& node, uint32_t parts) {
  HeldBlock copy{.node = node, .block = {}};
  copy.block.parts = parts;
  copy.block.parts_of = 4;
  return copy;
}

TEST(NodesOf, RanksAreThePlacements) {
  auto rng = Rng(1);
  AskedCluster cluster = FakeCluster();
  cluster.membership.members[0].state = MemberState::kDraining;
  cluster.membership.members[2].state = MemberState::kJoining;
  for (int i = 0; i < 200; ++i) {
    Located located{
        .key = {}, .run = BlockKey{}, .run_blocks = 16, .replicas = 2, .copies = {Copy("a", 4), Copy("a", 1)}};
    for (uint8_t& byte : located.run->bytes) byte = static_cast<uint8_t>(rng());
    const auto nodes = NodesOf(cluster, located);
    const auto now = Place(*located.run, cluster.membership, 3),
               before = Place(*located.run, cluster.membership, 3, Owning::kBefore);
    ASSERT_EQ(nodes.size(), 3u);
    for (size_t rank = 0; rank < 2; ++rank) {
      EXPECT_EQ(nodes[rank].id, cluster.membership.members[now[rank].member].id);
      EXPECT_EQ(nodes[rank].rank, rank + 1);
      EXPECT_TRUE(nodes[rank].should);
      EXPECT_TRUE(nodes[rank].copies.empty());
    }
    EXPECT_EQ(nodes[2].id, "a");
    EXPECT_EQ(nodes[2].rank, 0u) << "it drains";
    EXPECT_EQ(cluster.membership.members[before[nodes[2].rank_before - 1].member].id, "a");
    EXPECT_TRUE(nodes[2].should_before);
    EXPECT_EQ(nodes[2].copies.size(), 2u);
    EXPECT_EQ(VerdictOf(nodes, located).find("0 of 2 nodes that should hold it do. Not "), 0u);
    EXPECT_NE(VerdictOf(nodes, located).find("Also held by a: from before"), std::string::npos);
  }
}

TEST(VerdictOf, SaysWhereCopiesLack) {
  AskedCluster cluster = FakeCluster();
  Located located{.key = {},
                  .run = BlockKey{},
                  .run_blocks = 16,
                  .replicas = 3,
                  .copies = {Copy("a", 4), Copy("b", 4), Copy("c", 4)}};
  EXPECT_EQ(VerdictOf(NodesOf(cluster, located), located), "3 of 3 nodes that should hold it do.");
  located.copies[1].block.parts = 3;
  EXPECT_EQ(
      VerdictOf(NodesOf(cluster, located), located).find("2 of 3 nodes that should hold it do. Not b: it was pushed"),
      0u);
  located.copies.erase(located.copies.begin() + 1);
  Silence(&cluster, 1);
  EXPECT_EQ(VerdictOf(NodesOf(cluster, located), located), "2 of 3 nodes that should hold it do. b does not answer.");
  located.run.reset();
  const auto nodes = NodesOf(cluster, located);
  EXPECT_EQ(nodes.size(), 2u) << "only who holds it";
  EXPECT_EQ(VerdictOf(nodes, located), "Who should hold it is not known; who does is above.");
  located.copies.clear();
  located.run = BlockKey{};
  EXPECT_EQ(VerdictOf(NodesOf(cluster, located), located), "No node that answered holds it.");
}

TEST(CheckKeyPrefix, RefusesWhatIsNoKey) {
  EXPECT_TRUE(CheckKeyPrefix("").ok());
  EXPECT_TRUE(CheckKeyPrefix(std::string(64, 'f')).ok());
  EXPECT_FALSE(CheckKeyPrefix(std::string(65, 'f')).ok());
  EXPECT_FALSE(CheckKeyPrefix("xyz").ok());
}

}  // namespace
}  // namespace kvasir::testing
