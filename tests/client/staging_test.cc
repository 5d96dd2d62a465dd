// SPDX-License-Identifier: Apache-2.0
// Goal: slots never overlap and no room is lost; gates count what is in place. Method: random histories against a shadow,
// and gates raised out of order.
#include "client/staging.h"

#include <gtest/gtest.h>

#include <thread>

#include "client/layer_gate.h"
#include "tests/support/seed.h"

namespace kvasir::client {
namespace {

TEST(ArenaTest, SlotsNeverOverlapAndAllRoomComesBack) {
  constexpr uint64_t kBegin = 1 << 20, kBytes = 64 << 10;
  Arena arena(kBegin, kBytes);
  int told = 0;
  arena.on_room = [&told] { ++told; };
  std::mt19937_64 rng = testing::Rng(1);
  std::vector<Slot> held;
  std::vector<bool> taken(kBytes / kSlotAlignment);
  const auto mark = [&](const Slot& slot, bool on) {
    for (uint64_t at = slot.offset - kBegin; at < slot.offset - kBegin + slot.bytes; at += kSlotAlignment) {
      ASSERT_NE(taken[at / kSlotAlignment], on);
      taken[at / kSlotAlignment] = on;
    }
  };
  for (int step = 0; step < 20000; ++step) {
    const size_t which = held.empty() ? 0 : rng() % held.size();
    if (rng() % 2 == 0) {
      const uint64_t bytes = rng() % 9000;
      const std::optional<Slot> slot = arena.Allocate(bytes);
      if (!slot) continue;
      ASSERT_GE(slot->bytes, std::max<uint64_t>(bytes, 1));
      ASSERT_GE(slot->offset, kBegin);
      ASSERT_LE(slot->offset + slot->bytes, kBegin + kBytes);
      mark(*slot, true);
      held.push_back(*slot);
    } else if (!held.empty() && rng() % 3 == 0) {
      mark(held[which], false);
      arena.Shrink(held[which], rng() % held[which].bytes);
      mark(held[which], true);
    } else if (!held.empty()) {
      mark(held[which], false);
      arena.Free(held[which]);
      held.erase(held.begin() + static_cast<ptrdiff_t>(which));
    }
  }
  for (const Slot& slot : held) arena.Free(slot);
  EXPECT_EQ(arena.used(), 0u);
  EXPECT_GT(told, 0);
  EXPECT_TRUE(arena.Allocate(kBytes).has_value()) << "neighbours are merged";
  EXPECT_FALSE(arena.Allocate(1).has_value());
}

TEST(LayerGateTest, LeadingBlocksCountWhateverTheOrder) {
  LayerGate gate;
  gate.Begin(2, 2, 3);
  gate.Raise(2, 1);
  gate.Raise(2, 0);
  gate.Raise(3, 0);
  gate.Found(2);
  EXPECT_EQ(gate.WaitFound(), 2u);
  EXPECT_EQ(gate.WaitLayer(2), 2u);
  EXPECT_EQ(gate.WaitLayer(9), 0u) << "not a layer of this fetch";
  std::thread engine([&gate] { EXPECT_EQ(gate.WaitLayer(3), 1u); });
  gate.Finish(1);
  engine.join();
  EXPECT_TRUE(gate.finished());
}

TEST(GateTableTest, TheLastThousandAreRemembered) {
  GateTable table;
  const auto [first, unfinished] = table.Make();
  const auto [second, gate] = table.Make();
  gate->Finish(0);
  for (uint64_t i = 0; i < GateTable::kRemembered; ++i) table.Make().second->Finish(0);
  EXPECT_NE(table.Find(second), nullptr);
  table.Make();
  EXPECT_EQ(table.Find(second), nullptr);
  EXPECT_NE(table.Find(first), nullptr) << "not while it is under way";
  EXPECT_EQ(table.Find(0), nullptr);
}

}  // namespace
}  // namespace kvasir::client
