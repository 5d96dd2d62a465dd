// SPDX-License-Identifier: Apache-2.0
// Goal: the cold end of the list is what should be forgotten next, and a parent knows whether a child is in DRAM.
#include "store/index.h"

#include <gtest/gtest.h>

namespace kvasir::testing {
namespace {

BlockId Id(uint8_t n, uint32_t domain = 0) {
  BlockId id{domain, {}};
  id.key.bytes[0] = n;
  return id;
}

Block& Add(Index& index, uint8_t n, uint8_t parent) {
  bool made = false;
  Block& block = index.Make(Id(n), Id(parent).key, {}, Instant{}, &made);
  EXPECT_TRUE(made);
  index.GainExtent(block);
  return block;
}

std::vector<int> Order(Index& index) {
  std::vector<int> out;
  for (const Block* block : index.cold_to_warm()) out.push_back(block->id.key.bytes[0]);
  return out;
}

TEST(Index, TouchingAChildWarmsItsAncestorsMore) {
  Index index;
  for (uint8_t n = 1; n <= 4; ++n) Add(index, n, n - 1);
  Add(index, 9, 0);
  index.Touch(*index.Find(Id(3)), Instant{}, 16);
  EXPECT_EQ(Order(index), (std::vector<int>{4, 9, 3, 2, 1}));
  index.Touch(*index.Find(Id(4)), Instant{}, 1);
  EXPECT_EQ(Order(index), (std::vector<int>{9, 2, 1, 4, 3}));
  index.Cool(*index.Find(Id(4)));
  EXPECT_EQ(Order(index).front(), 4);
}

TEST(Index, ParentsKnowTheirChildrenInWhateverOrderTheyCame) {
  Index index;
  Block& child = Add(index, 2, 1);
  Block& parent = Add(index, 1, 0);
  EXPECT_TRUE(index.HasChildInDram(parent));
  EXPECT_FALSE(index.HasChildInDram(child));
  index.LoseExtent(child);
  EXPECT_FALSE(index.HasChildInDram(parent));
  EXPECT_EQ(Order(index), std::vector<int>{1});
  EXPECT_TRUE(index.Tidy(child));
  EXPECT_EQ(index.Find(Id(2)), nullptr);
}

TEST(Index, DomainsAreApart) {
  Index index;
  bool made = false;
  index.Make(Id(1, 0), {}, {}, Instant{}, &made);
  EXPECT_EQ(index.Find(Id(1, 1)), nullptr);
}

TEST(Index, TidyKeepsWhatIsAnywhere) {
  Index index;
  bool made = false;
  Block& block = index.Make(Id(1), {}, {}, Instant{}, &made);
  BlockView view;
  view.parts.resize(2);
  view.parts[1].ssd.segment = 3;
  block.views.push_back(view);
  EXPECT_FALSE(index.Tidy(block));
  block.views[0].parts[1].ssd = {};
  EXPECT_TRUE(index.Tidy(block));
  EXPECT_EQ(index.blocks(), 0u);
}

}  // namespace
}  // namespace kvasir::testing
