// SPDX-License-Identifier: Apache-2.0
// Goal: the core tells peers exactly what they should hold, calls for help with what is hot, looks at what a reader found
// damaged, and sends for what it misses only while it is taking over. Method: events by hand, every page size.
#include "tests/store/core_harness.h"
#include "tests/support/seed.h"

namespace kvasir::testing {
namespace {

CoreOptions Small(bool ssd = false) {
  CoreOptions options;
  options.extents = {4 << 20, 4 << 20, 1};
  options.ssd = ssd;
  options.run_blocks = CoreHarness::kRunBlocks;
  options.hot_reads_per_s = 2;
  return options;
}

void Write(CoreHarness& h, uint32_t first, uint32_t count, uint64_t session = 1) {
  for (uint32_t n = first; n < first + count; ++n) h.Offer(session, n);
  h.FinishAll();
}

TEST(CoreInventory, PagesNameEveryWantedRunOnceWhateverTheirSize) {
  CoreHarness h(Small());
  h.OpenSession(1, 1);
  h.OpenSession(2, 2);
  h.replicas = 3;
  Write(h, 0, 40, 1);
  Write(h, 40, 10, 2);
  h.Offer(1, 100);  // not sealed yet: nobody hears of it
  const auto wants = [](const BlockKey& run, uint32_t replicas) {
    EXPECT_EQ(replicas, 3u);
    return run.bytes[0] % 2 == 0;
  };
  std::set<std::pair<uint8_t, BlockKey>> expected;  // by domain
  for (uint32_t n = 0; n < 50; ++n) {
    if (KeyOf(n - n % 4).bytes[0] % 2 == 0) expected.insert({n < 40 ? 1 : 2, KeyOf(n)});
  }
  for (uint32_t page = 1; page <= 20; ++page) {
    std::set<std::pair<uint8_t, BlockKey>> found;
    std::string cursor;
    int pages = 0;
    do {
      const InventoryReply reply = h.core.Inventory(cursor, page, wants);
      BlockKey last_run;
      uint32_t last_index = 0;
      for (const InventoryBlock& block : reply.blocks) {
        EXPECT_TRUE(found.insert({reply.domains[block.domain].bytes[0], block.key}).second) << "named twice";
        EXPECT_EQ(reply.namespaces[block.ns].Digest(), h.ns.Digest());
        EXPECT_EQ(reply.views[block.view], h.view);
        EXPECT_EQ(block.bytes, 4u * 4096u);
        EXPECT_EQ(block.replicas, 3u);
        EXPECT_FALSE(block.durable);
        if (block.run == last_run) {
          EXPECT_EQ(block.block_index, last_index + 1);
        }
        last_run = block.run;
        last_index = block.block_index;
      }
      cursor = reply.next;
      ASSERT_LT(++pages, 100);
    } while (!cursor.empty());
    EXPECT_EQ(found, expected) << "pages of " << page;
  }
  EXPECT_TRUE(h.core.Inventory("nonsense", 10, wants).next.empty() == false) << "a cursor that is none begins anew";
}

TEST(CoreInventory, SurplusIsWhatOthersOwnAndIsTheFirstToGo) {
  CoreOptions options = Small();
  options.extents = {16 * 4096, 16 * 4096, 1};  // four blocks
  CoreHarness h(options);
  h.OpenSession(1);
  for (const uint32_t n : {0u, 4u, 8u, 12u}) Write(h, n, 1);
  const auto surplus = h.core.Surplus([](const BlockKey& run, uint32_t) { return run != KeyOf(12); });
  ASSERT_EQ(surplus.size(), 1u);
  EXPECT_EQ(surplus[0].second, KeyOf(12));
  h.Step(event::RunsMoved{surplus});
  Write(h, 16, 1);  // there is room for four
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 12, 1))->held[0], 0u);
  for (const uint32_t n : {0u, 4u, 8u, 16u}) EXPECT_EQ(h.acquires.at(h.Acquire(1, n, 1))->held[0], 1u) << n;
}

TEST(CoreInventory, HoldsWholeMeansAllPartsAndDurableMeansOnTheDisk) {
  CoreHarness h(Small(true));
  h.OpenSession(1);
  const uint64_t offer = h.Offer(1, 1);
  const auto holds = [&](bool durable) {
    return h.core.HoldsWhole(CoreHarness::DomainOf(1), KeyOf(1), h.view.Digest(), 1, durable);
  };
  for (int i = 0; i < 7; ++i) {
    EXPECT_FALSE(holds(false));
    h.Finish(0);
  }
  h.Finish(0);
  ASSERT_TRUE(h.offers.contains(offer));
  EXPECT_TRUE(holds(false));
  EXPECT_FALSE(holds(true));
  h.Offer(1, 1, Ack::kDurable);
  h.FinishAll();
  EXPECT_TRUE(holds(true));
  EXPECT_FALSE(h.core.HoldsWhole(CoreHarness::DomainOf(2), KeyOf(1), h.view.Digest(), 1, false));
}

TEST(CorePeers, APeersPartIsJudgedByItsOwnHeaderAClientsNeedsARoot) {
  CoreHarness h(Small());
  h.OpenSession(1);
  h.OpenSession(2, 1, true);
  OfferRequest r;
  r.views = {h.view};
  r.blocks = {{KeyOf(1), KeyOf(0), 1, h.ns.block_tokens}};
  r.parts = {{0, 0, 0, 0, 4096, "", CoreHarness::Payload(1, 0, 0, 0), 77}};
  r.deadline = std::chrono::seconds(5);
  r.session = 1;
  h.Step(event::OfferArrived{1001, r});
  EXPECT_TRUE(absl::IsInvalidArgument(h.offers.at(1001).status())) << h.offers.at(1001).status();
  r.session = 2;
  h.Step(event::OfferArrived{1002, r});
  h.Finish(0);
  const auto* verify = std::get_if<action::Verify>(&h.open.front());
  ASSERT_NE(verify, nullptr);
  EXPECT_EQ(verify->claim.expect.generation, 77u) << "as the holder stamped it";
  EXPECT_EQ(verify->root, "");
  h.FinishAll();
  EXPECT_TRUE(h.offers.at(1002)->parts[0].ok());
  r.parts[0].generation = 0;  // a writer's part has a root, whoever sends it
  h.Step(event::OfferArrived{1003, r});
  EXPECT_TRUE(absl::IsInvalidArgument(h.offers.at(1003).status()));
}

TEST(CoreMissed, IsToldOnlyWhileTakingOverAndNotForPeers) {
  CoreHarness h(Small());
  h.OpenSession(1);
  h.OpenSession(2, 1, true);
  Write(h, 0, 2);
  h.Acquire(1, 0, 4);
  EXPECT_TRUE(h.missed.empty());
  h.Step(event::Settling{true});
  h.Acquire(2, 0, 4);
  EXPECT_TRUE(h.missed.empty());
  h.Acquire(1, 0, 4);
  ASSERT_EQ(h.missed.size(), 1u);
  EXPECT_EQ(h.missed[0].run, KeyOf(0));
  EXPECT_EQ(h.missed[0].first_block, 2u);
  EXPECT_EQ(h.missed[0].keys, (std::vector<BlockKey>{KeyOf(2), KeyOf(3)}));
  EXPECT_EQ(h.missed[0].domain, CoreHarness::DomainOf(1));
  h.Acquire(1, 0, 2);
  EXPECT_EQ(h.missed.size(), 1u) << "what is held is not missed";
  h.Step(event::Settling{false});
  h.Acquire(1, 0, 4);
  EXPECT_EQ(h.missed.size(), 1u);
}

TEST(CoreHot, CallsForHelpAtMostOnceASecondAndForgetsWhenCold) {
  CoreHarness h(Small());
  h.OpenSession(1);
  h.OpenSession(2, 1, true);
  h.replicas = 2;
  Write(h, 0, 4);
  for (int i = 0; i < 100; ++i) h.Acquire(2, 0, 4);
  EXPECT_TRUE(h.hot.empty()) << "peers make nothing popular";
  for (int i = 0; i < 100; ++i) h.Acquire(1, 0, 4);
  ASSERT_EQ(h.hot.size(), 1u);
  EXPECT_EQ(h.hot[0].run, KeyOf(0));
  EXPECT_EQ(h.hot[0].replicas, 2u);
  EXPECT_EQ(h.hot[0].spread, 0u);
  EXPECT_EQ(h.hot[0].blocks.blocks.size(), 4u);
  h.Step(event::RunSpread{CoreHarness::DomainOf(1), KeyOf(0), 3});
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 0, 4))->spread, std::vector<uint32_t>{3});
  h.Pass(std::chrono::seconds(1));
  for (int i = 0; i < 10; ++i) h.Acquire(1, 0, 4);
  ASSERT_EQ(h.hot.size(), 2u);
  EXPECT_EQ(h.hot[1].spread, 3u);
  h.Step(event::RunSpread{CoreHarness::DomainOf(1), KeyOf(0), 1000});
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 0, 4))->spread, std::vector<uint32_t>{8}) << "hot_spread_max";
  h.Pass(std::chrono::minutes(5));
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 0, 4))->spread, std::vector<uint32_t>{0}) << "cold again";
}

DamagedPart Damaged(CoreHarness& h, uint32_t n) { return {KeyOf(n), h.view, 1, 0}; }

TEST(CoreDamage, AGoodCopyStaysABadOneGoesAndIsSentFor) {
  for (const bool durable : {false, true}) {
    CoreHarness h(Small(true));
    h.OpenSession(1);
    h.Offer(1, 1, durable ? Ack::kDurable : Ack::kVolatile);
    h.FinishAll();
    TouchRequest touch;
    touch.session = 1;
    touch.damaged = {Damaged(h, 1), Damaged(h, 1), Damaged(h, 9)};
    h.Step(event::TouchArrived{1, touch});
    ASSERT_EQ(h.open.size(), 1u) << "one look, whoever reports";
    h.Finish(0, true);
    EXPECT_EQ(h.acquires.at(h.Acquire(1, 1, 1))->held[0], 1u);
    EXPECT_EQ(h.counters.Get(Counter::kWrongPreventedDram), 0u);
    h.Step(event::TouchArrived{2, touch});
    h.Finish(0, false);
    EXPECT_EQ(h.counters.Get(Counter::kWrongPreventedDram), 1u);
    EXPECT_EQ(h.acquires.at(h.Acquire(1, 1, 1))->held[0], durable ? 1u : 0u) << "the disk's copy stands in";
    EXPECT_EQ(h.missed.size(), durable ? 0u : 1u);
    if (!durable) {
      EXPECT_EQ(h.missed[0].keys, std::vector<BlockKey>{KeyOf(1)});
    }
    h.FinishAll();
  }
}

TEST(CoreDamage, ALookDuringAWriteToTheDiskLeavesThePart) {
  CoreHarness h(Small(true));
  h.OpenSession(1);
  h.Offer(1, 1);
  h.FinishAll();
  TouchRequest touch;
  touch.session = 1;
  touch.damaged = {Damaged(h, 1)};
  h.Step(event::TouchArrived{1, touch});
  h.Offer(1, 1, Ack::kDurable);  // four writes behind the look
  ASSERT_EQ(h.open.size(), 5u);
  h.Finish(0, false);
  h.FinishAll();
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 1, 1))->held[0], 1u);
}

}  // namespace
}  // namespace kvasir::testing
