// SPDX-License-Identifier: Apache-2.0
// Goal: planes are parts of their own: a block is held with plane 0 of every cell, precision leaves before tokens, and
// no plane outlives the one below it to meet another write. Method: events by hand.
#include "store/verify.h"
#include "tests/store/core_harness.h"

namespace kvasir::testing {
namespace {

/// Two planes a cell, 4 KiB each: a block has 32 KiB, half of it precision.
class CorePlanes : public ::testing::Test {
 protected:
  static CoreOptions Options(bool ssd, uint64_t bytes, uint32_t ssd_planes = 0) {
    CoreOptions options;
    options.extents = {bytes, bytes, 1};
    options.ssd = ssd;
    options.ssd_planes = ssd_planes;
    return options;
  }
  void Start(const CoreOptions& options) {
    h.emplace(options);
    h->view.planes = 2;
    h->OpenSession(1);
  }
  void Push(uint32_t n) {
    h->Offer(1, n);
    h->FinishAll();
  }
  /// Planes of every cell of a block, as a reader finds them; 0 = not held.
  uint32_t PlanesOf(uint32_t n, uint32_t limit = 0) {
    const AcquireReply& reply = *h->acquires.at(h->Acquire(1, n, 1, 2, limit));
    h->Touch(1, {}, {reply.lease});
    return reply.held[0] == 0 ? 0 : static_cast<uint32_t>(reply.blocks[0].parts.size()) / 4;
  }
  bool Holds(uint32_t n, uint32_t planes, bool durable = false) {
    return h->core.HoldsWhole(CoreHarness::DomainOf(1), KeyOf(n), h->view.Digest(), planes, durable);
  }
  std::optional<CoreHarness> h;
};

TEST_F(CorePlanes, AReaderGetsAsManyAsItAsksFor) {
  Start(Options(false, 1 << 20));
  Push(1);
  EXPECT_EQ(PlanesOf(1), 2u);
  EXPECT_EQ(PlanesOf(1, 1), 1u);
  EXPECT_EQ(PlanesOf(1, 2), 2u);
  EXPECT_EQ(PlanesOf(1, 9), 2u);
}

TEST_F(CorePlanes, PlaneZeroMakesABlockHeld) {
  Start(Options(false, 1 << 20));
  h->Offer(1, 1);
  ASSERT_EQ(h->open.size(), 8u);  // cells of a part: planes side by side
  for (int i = 0; i < 8; ++i) h->Finish(0);
  for (int i = 0; i < 8; ++i) {  // verified: of the upper planes only the last
    EXPECT_EQ(PlanesOf(1), i < 7 ? 0u : 1u) << i;
    h->Finish(0, i % 2 == 0 || i == 7);
  }
  EXPECT_EQ(h->acquires.at(h->Acquire(1, 1, 1))->blocks[0].parts.size(), 5u);
  EXPECT_TRUE(Holds(1, 1));
  EXPECT_FALSE(Holds(1, 2));
  h->Pass(std::chrono::seconds(61));  // and it is not unfinished
  EXPECT_EQ(h->core.parts(), 5u);
  Push(1);  // another writer brings what is missing
  EXPECT_EQ(PlanesOf(1), 2u);
  EXPECT_TRUE(Holds(1, 2));
}

TEST_F(CorePlanes, AnOfferOfAPlaneThatTheViewHasNotIsRefused) {
  Start(Options(false, 1 << 20));
  OfferRequest r;
  r.session = 1;
  r.views = {h->view};
  r.blocks = {{KeyOf(1), KeyOf(0), 1, 32}};
  r.parts = {{0, 0, 0, 0, 4096, std::string(16, 'r'), "x", 0, 2}};
  h->Step(event::OfferArrived{100, r});
  EXPECT_EQ(h->offers.at(100).status().message(), "offer: parts[0].plane is out of range");
}

TEST_F(CorePlanes, PrecisionLeavesBeforeTokens) {
  Start(Options(false, 64 << 10));  // two blocks
  for (const uint32_t n : {10, 20}) Push(n);
  EXPECT_EQ(PlanesOf(10), 2u);
  EXPECT_EQ(PlanesOf(20), 2u);
  Push(30);
  EXPECT_EQ(PlanesOf(10), 1u);
  EXPECT_EQ(PlanesOf(20), 1u);
  EXPECT_EQ(PlanesOf(30), 2u);
  EXPECT_EQ(h->counters.Get(Counter::kPlanesEvicted), 8u);
  EXPECT_EQ(h->counters.Get(Counter::kEvictedUnsaved), 8u);
  Push(40);  // the last precision, then the coldest block
  EXPECT_EQ(PlanesOf(10), 0u);
  EXPECT_EQ(PlanesOf(20), 1u);
  EXPECT_EQ(PlanesOf(30), 1u);
  EXPECT_EQ(PlanesOf(40), 2u);
  EXPECT_EQ(h->counters.Get(Counter::kPlanesEvicted), 12u);
}

/// Only tokens must go leaf first: a parent may lose its precision.
TEST_F(CorePlanes, AParentGivesUpPrecisionBeforeItsLeafIsForgotten) {
  Start(Options(false, 64 << 10));
  for (uint32_t n = 1; n <= 3; ++n) Push(n);  // a chain
  EXPECT_EQ(h->acquires.at(h->Acquire(1, 1, 3))->held[0], 3u);
  EXPECT_EQ(PlanesOf(3), 2u);
}

TEST_F(CorePlanes, LeasedAndKeptPrecisionStays) {
  Start(Options(false, 64 << 10));
  Push(10);
  Push(20);
  const uint64_t lease = h->acquires.at(h->Acquire(1, 10, 1))->lease;
  TouchRequest keep;
  keep.session = 1;
  keep.keep = {KeyOf(20)};
  keep.keep_for = std::chrono::seconds(1);
  h->Step(event::TouchArrived{++h->calls, keep});
  const uint64_t refused = h->Offer(1, 30);
  for (const absl::Status& part : h->offers.at(refused)->parts) EXPECT_TRUE(absl::IsResourceExhausted(part)) << part;
  EXPECT_NE(h->core.refused_since(), Instant::max());
  h->Touch(1, {}, {lease});
  h->Step(event::Tick{});
  EXPECT_EQ(h->core.refused_since(), Instant::max()) << "there is precision to give up";
  Push(30);
  EXPECT_EQ(PlanesOf(20), 2u);
  EXPECT_EQ(PlanesOf(10), 0u) << "its precision was not enough, and the other block is kept";
}

TEST_F(CorePlanes, ThatPlanesOfOneWriteMeetNoOther) {
  Start(Options(false, 1 << 20));
  Push(1);
  TouchRequest damaged;
  damaged.session = 1;
  damaged.damaged = {{KeyOf(1), h->view, 1, 0, 0}};
  h->Step(event::TouchArrived{++h->calls, damaged});
  ASSERT_EQ(h->open.size(), 1u);
  h->Finish(0, false);
  EXPECT_EQ(h->core.parts(), 6u) << "plane 0 of the cell, and the plane above it";
  EXPECT_EQ(PlanesOf(1), 0u);
  ASSERT_EQ(h->missed.size(), 1u);
}

TEST_F(CorePlanes, ADamagedUpperPlaneIsNoMiss) {
  Start(Options(false, 1 << 20));
  Push(1);
  TouchRequest damaged;
  damaged.session = 1;
  damaged.damaged = {{KeyOf(1), h->view, 1, 0, 1}};
  h->Step(event::TouchArrived{++h->calls, damaged});
  h->Finish(0, false);
  EXPECT_EQ(h->core.parts(), 7u);
  EXPECT_EQ(h->acquires.at(h->Acquire(1, 1, 1))->held[0], 1u);
  EXPECT_EQ(h->missed.size(), 1u) << "others may have it";
}

TEST_F(CorePlanes, TheSsdIsGivenAsManyAsItMayHave) {
  for (const uint32_t ssd_planes : {0u, 1u}) {
    Start(Options(true, 64 << 10, ssd_planes));
    for (uint32_t n = 1; n <= 12; ++n) Push(10 * n);
    EXPECT_GT(h->counters.Get(Counter::kDemoted), 0u);
    const AcquireReply& reply = *h->acquires.at(h->Acquire(1, 10, 1));
    ASSERT_EQ(reply.held[0], 1u) << "all tokens are there";
    EXPECT_EQ(reply.blocks[0].parts.size(), ssd_planes == 0 ? 8u : 4u);
    EXPECT_TRUE(reply.blocks[0].parts[0].pending);
    h->FinishAll();
    for (const auto& r : h->ready) EXPECT_TRUE(r.ready.status.ok()) << r.ready.status;
    EXPECT_EQ(h->ready.size(), ssd_planes == 0 ? 8u : 4u);
    EXPECT_EQ(h->counters.Get(Counter::kEvictedUnsaved) > 0, ssd_planes == 1);
    EXPECT_TRUE(Holds(10, 1, true)) << "durable is said of plane 0";
  }
}

/// What was promised as DURABLE is on the disk, whatever the disk is given when DRAM runs short.
TEST_F(CorePlanes, DurableMeansAllPlanes) {
  Start(Options(true, 1 << 20, 1));
  h->Offer(1, 1, Ack::kDurable);
  h->FinishAll();
  EXPECT_EQ(h->disk.size(), 8u);
}

TEST_F(CorePlanes, RotOfPlaneZeroOnTheDiskTakesTheUpperPlanesWithIt) {
  Start(Options(true, 64 << 10));
  for (uint32_t n = 1; n <= 12; ++n) Push(10 * n);
  h->Acquire(1, 10, 1, 1, 1);  // plane 0 of one head
  while (!h->open.empty()) h->Finish(0, !std::holds_alternative<action::Promote>(h->open[0]));
  EXPECT_EQ(PlanesOf(10), 0u);
  uint32_t parts = 0;
  for (const BlockInfo& block : h->core.List({}, h->now)) parts += block.block_index == 10 ? block.parts : 0;
  EXPECT_EQ(parts, 4u) << "the other head's cells, of two planes each";
}

TEST_F(CorePlanes, AnInventorySaysHowManyAreThere) {
  Start(Options(false, 64 << 10));
  for (uint32_t n = 1; n <= 3; ++n) Push(4 * n);
  const InventoryReply page = h->core.Inventory("", 100, [](const BlockKey&, uint32_t) { return true; });
  std::map<uint32_t, uint32_t> planes;
  for (const InventoryBlock& block : page.blocks) planes[block.block_index] = block.planes;
  EXPECT_EQ(planes, (std::map<uint32_t, uint32_t>{{4, 1}, {8, 1}, {12, 2}}));
  for (const InventoryBlock& block : page.blocks) EXPECT_EQ(block.bytes, block.planes * 4 * 4096u);
  for (const BlockInfo& block : h->core.List({}, h->now)) {
    EXPECT_EQ(block.planes, planes[block.block_index]);
    EXPECT_EQ(block.planes_of, 2u);
  }
}

/// What was stored whole under a view with planes, by a build that knew none, is refused; so is a plane under a view
/// without.
TEST(VerifyPlanes, APartIsCutAsItsViewSays) {
  const std::string spec = "P:raw";
  for (const uint16_t written : {0, 2, 3}) {
    const uint64_t room = FramesOffset(static_cast<uint32_t>(spec.size()), 2);
    std::vector<std::byte> part(room + 32);
    const uint32_t crc = Crc32c(std::span(part).last(16));
    PartHeader header;
    header.layers = header.heads = 1;
    header.token_count = 4;
    header.planes = written;
    if (written > 0) header.planes_digest[0] = 1;
    SealHeader(header, spec, std::vector<FrameEntry>{{0, 16, crc, 0}, {16, 16, crc, 0}}, 32, part);
    PartClaim claim;
    claim.spec = spec;
    claim.geometry = {0, 1, 0, 1, 0, 4};
    for (const uint32_t planes : {1u, 2u}) {
      claim.planes = planes;
      std::vector<std::byte> landed = part;
      const absl::Status status = VerifyAndStamp(landed, claim, "", 0).status();
      const bool fits = written == (planes == 1 ? 0 : planes);
      EXPECT_EQ(status.ok(), fits) << written << " of " << planes << ": " << status;
      if (!fits) {
        EXPECT_EQ(status.message(), "the part's number of planes is not what was offered");
      }
    }
  }
}

}  // namespace
}  // namespace kvasir::testing
