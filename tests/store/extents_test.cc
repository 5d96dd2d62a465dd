// SPDX-License-Identifier: Apache-2.0
// Goal: extents never overlap, never leave before their time, and their room comes back whole. Method: each edge of the
// state table by hand, then random reservations against a shadow map of every byte range.
#include "store/extents.h"

#include <gtest/gtest.h>

#include <map>

#include "tests/support/seed.h"

namespace kvasir::testing {
namespace {

void Seal(Extents& extents, ExtentRef ref) {
  extents.Move(ref, ExtentState::kLanded);
  extents.Move(ref, ExtentState::kSealed);
}

TEST(Extents, GenerationGrowsWithEveryReservation) {
  Extents extents({1 << 20, 1 << 20, 7});
  ExtentRef a, b;
  uint32_t retired = 0;
  ASSERT_TRUE(extents.Reserve(0, 100, &a, &retired));
  EXPECT_EQ(a.generation, 7u);
  extents.Abandon(a);
  ASSERT_TRUE(extents.Reserve(0, 100, &b, &retired));
  EXPECT_EQ(b.slot, a.slot);
  EXPECT_EQ(b.generation, 8u);
  EXPECT_FALSE(extents.Current(a));
  EXPECT_TRUE(extents.Current(b));
}

TEST(Extents, PinnedBytesOutliveCondemnation) {
  Extents extents({1 << 20, 1 << 20, 1});
  ExtentRef a;
  uint32_t retired = 0;
  ASSERT_TRUE(extents.Reserve(0, 1000, &a, &retired));
  Seal(extents, a);
  extents.Pin(a);
  extents.Pin(a);
  EXPECT_FALSE(extents.Condemn(a));
  EXPECT_FALSE(extents.Unpin(a));
  EXPECT_EQ(extents.used(), 1024u);
  EXPECT_TRUE(extents.Unpin(a));
  EXPECT_EQ(extents.used(), 0u);
}

TEST(ExtentsDeath, NoShortCutIntoFree) {
  Extents extents({1 << 20, 1 << 20, 1});
  ExtentRef a;
  uint32_t retired = 0;
  ASSERT_TRUE(extents.Reserve(0, 1000, &a, &retired));
  EXPECT_DEATH(extents.Condemn(a), "FILLING");
  EXPECT_DEATH(extents.Move(a, ExtentState::kSealed), "FILLING");
  EXPECT_DEATH(extents.Unpin(a), "unpin without pin");
  Seal(extents, a);
  EXPECT_DEATH(extents.Abandon(a), "SEALED");
  EXPECT_TRUE(extents.Condemn(a));
  EXPECT_DEATH(extents.At(a), "stale");
}

TEST(Extents, ASlabChangesDomainOnlyEmptyAndNew) {
  Extents extents({4096 * 4, 4096, 1});
  ExtentRef refs[4], other;
  uint32_t retired = 0;
  for (ExtentRef& ref : refs) {
    ASSERT_TRUE(extents.Reserve(1, 4096, &ref, &retired));
    EXPECT_EQ(retired, Extents::kNoSlab);
  }
  EXPECT_FALSE(extents.Reserve(2, 100, &other, &retired));
  const uint32_t slab = extents.At(refs[2]).slab;
  Seal(extents, refs[2]);
  extents.Condemn(refs[2]);
  ASSERT_TRUE(extents.Reserve(2, 100, &other, &retired));
  EXPECT_EQ(retired, slab) << "its memory is dropped before the other domain sees it";
  EXPECT_FALSE(extents.Fits(4097));
}

/// Extents of the two ends lie apart: when those of one end leave, their room is one.
TEST(Extents, WhatLeavesTogetherLiesTogether) {
  Extents extents({1 << 20, 1 << 18, 1});
  std::vector<ExtentRef> high;
  uint32_t retired = 0;
  for (int i = 0; i < 16; ++i) {
    ExtentRef low;
    ASSERT_TRUE(extents.Reserve(0, 5000, &low, &retired));
    ASSERT_TRUE(extents.Reserve(0, 3000, &high.emplace_back(), &retired, Extents::End::kHigh));
    EXPECT_EQ(extents.At(low).offset, 5120u * i);
    EXPECT_EQ(extents.At(high.back()).offset, (1u << 18) - 3072u * (i + 1));
  }
  for (const ExtentRef& ref : high) extents.Abandon(ref);
  ExtentRef rest;
  ASSERT_TRUE(extents.Reserve(0, (1u << 18) - 16 * 5120, &rest, &retired));
  EXPECT_EQ(extents.At(rest).slab, 0u);
}

TEST(Extents, RandomReservationsNeverOverlapAndAllRoomComesBack) {
  auto rng = Rng(1);
  Extents extents({1 << 20, 1 << 18, 1});
  std::map<std::pair<uint32_t, uint64_t>, uint64_t> shadow;  // (slab, offset) -> room
  std::vector<ExtentRef> live;
  for (int step = 0; step < 20000; ++step) {
    ExtentRef ref;
    uint32_t retired = 0;
    const Extents::End end = rng() % 2 == 0 ? Extents::End::kLow : Extents::End::kHigh;
    if (rng() % 5 < 3 && extents.Reserve(0, 1 + rng() % 9000, &ref, &retired, end)) {
      const Extent& e = extents.At(ref);
      const auto next = shadow.lower_bound({e.slab, e.offset});
      if (next != shadow.end() && next->first.first == e.slab) {
        ASSERT_LE(e.offset + e.room, next->first.second);
      }
      if (next != shadow.begin()) {
        const auto before = std::prev(next);
        if (before->first.first == e.slab) {
          ASSERT_LE(before->first.second + before->second, e.offset);
        }
      }
      ASSERT_LE(e.offset + e.room, extents.slab_bytes());
      shadow[{e.slab, e.offset}] = e.room;
      live.push_back(ref);
    } else if (!live.empty()) {
      std::swap(live[rng() % live.size()], live.back());
      const Extent& e = extents.At(live.back());
      shadow.erase({e.slab, e.offset});
      extents.Abandon(live.back());
      live.pop_back();
    }
  }
  for (const ExtentRef& ref : live) extents.Abandon(ref);
  EXPECT_EQ(extents.used(), 0u);
  ExtentRef whole;
  uint32_t retired = 0;
  for (int slab = 0; slab < 4; ++slab) EXPECT_TRUE(extents.Reserve(0, extents.slab_bytes(), &whole, &retired)) << "not merged";
}

}  // namespace
}  // namespace kvasir::testing
