// SPDX-License-Identifier: Apache-2.0
// Goal: the core publishes only what was verified, never lets bytes go that somebody may read or write, answers every
// call once, and stays within its room. Method: events by hand for each rule, then seeded random histories.
#include "tests/store/core_harness.h"
#include "tests/support/seed.h"

namespace kvasir::testing {
namespace {

CoreOptions Small(bool ssd, uint64_t bytes = 1 << 20) {
  CoreOptions options;
  options.extents = {bytes, bytes, 1};
  options.ssd = ssd;
  return options;
}

TEST(CoreOffer, IsInvisibleUntilVerifiedAndVisibleAtOnceAfter) {
  CoreHarness h(Small(false));
  h.OpenSession(1);
  const uint64_t offer = h.Offer(1, 1);
  ASSERT_EQ(h.open.size(), 4u);
  for (int step = 0; step < 8; ++step) {
    const uint64_t seen = h.Acquire(1, 1, 1);
    EXPECT_EQ(h.acquires.at(seen)->held[0], 0u) << step;
    EXPECT_EQ(h.offers.count(offer), 0u);
    h.Finish(0);
  }
  ASSERT_TRUE(h.offers.at(offer).ok());
  for (const absl::Status& part : h.offers.at(offer)->parts) EXPECT_TRUE(part.ok()) << part;
  const uint64_t seen = h.Acquire(1, 1, 1);
  ASSERT_TRUE(h.acquires.at(seen).ok());
  EXPECT_EQ(h.acquires.at(seen)->held[0], 1u);
  EXPECT_EQ(h.acquires.at(seen)->blocks[0].parts.size(), 4u);
}

TEST(CoreOffer, FailedCheckLeavesNothingAndASecondWriterMaySucceed) {
  CoreHarness h(Small(false));
  h.OpenSession(1);
  h.OpenSession(2);
  const uint64_t bad = h.Offer(1, 1);
  const uint64_t joined = h.Offer(2, 1);
  for (int i = 0; i < 4; ++i) h.Finish(0);
  for (int i = 0; i < 4; ++i) h.Finish(0, false);
  for (const absl::Status& part : h.offers.at(bad)->parts) EXPECT_TRUE(absl::IsDataLoss(part)) << part;
  for (const absl::Status& part : h.offers.at(joined)->parts) EXPECT_TRUE(absl::IsAborted(part)) << part;
  EXPECT_EQ(h.core.extents().used(), 0u);
  EXPECT_EQ(h.counters.Get(Counter::kWrongPreventedSeal), 4u);
  const uint64_t good = h.Offer(2, 1);
  h.FinishAll();
  for (const absl::Status& part : h.offers.at(good)->parts) EXPECT_TRUE(part.ok()) << part;
}

TEST(CoreOffer, SecondWriterHearsAlreadyExists) {
  CoreHarness h(Small(true));
  h.OpenSession(1);
  h.Offer(1, 1);
  h.FinishAll();
  const uint64_t again = h.Offer(1, 1);
  for (const absl::Status& part : h.offers.at(again)->parts) EXPECT_TRUE(absl::IsAlreadyExists(part)) << part;
  // At the level asked: DURABLE writes the sealed copy first.
  const uint64_t durable = h.Offer(1, 1, Ack::kDurable);
  EXPECT_EQ(h.offers.count(durable), 0u);
  h.FinishAll();
  for (const absl::Status& part : h.offers.at(durable)->parts) EXPECT_TRUE(absl::IsAlreadyExists(part)) << part;
  EXPECT_EQ(h.disk.size(), 4u);
}

TEST(CoreOffer, DurableIsPublishedAfterTheDisk) {
  CoreHarness h(Small(true));
  h.OpenSession(1);
  const uint64_t offer = h.Offer(1, 1, Ack::kDurable);
  for (int i = 0; i < 8; ++i) h.Finish(0);
  EXPECT_EQ(h.offers.count(offer), 0u);
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 1, 1))->held[0], 0u);
  h.FinishAll();
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 1, 1))->held[0], 1u);
  for (const absl::Status& part : h.offers.at(offer)->parts) EXPECT_TRUE(part.ok()) << part;
}

TEST(CoreOffer, DurableWithoutSsdSaysSo) {
  CoreHarness h(Small(false));
  h.OpenSession(1);
  const uint64_t offer = h.Offer(1, 1, Ack::kDurable);
  for (const absl::Status& part : h.offers.at(offer)->parts) EXPECT_TRUE(absl::IsUnavailable(part)) << part;
}

TEST(CoreOffer, QuarantineKeepsBytesUntilReleased) {
  CoreHarness h(Small(false));
  h.OpenSession(1);
  h.Offer(1, 1);
  for (int i = 0; i < 4; ++i) h.Finish(0, false, true);
  EXPECT_GT(h.core.extents().used(), 0u);
  for (const ExtentRef& extent : h.released) h.Step(event::PullReleased{extent});
  EXPECT_EQ(h.core.extents().used(), 0u);
}

TEST(CoreOffer, DeadlineAnswersButFreesNothingUnderWay) {
  CoreHarness h(Small(false));
  h.OpenSession(1);
  const uint64_t offer = h.Offer(1, 1);
  h.Pass(std::chrono::seconds(6));
  for (const absl::Status& part : h.offers.at(offer)->parts) EXPECT_TRUE(absl::IsDeadlineExceeded(part)) << part;
  EXPECT_EQ(h.core.extents().used(), 4u * 4096);
  h.FinishAll();
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 1, 1))->held[0], 1u);
}

TEST(CoreOffer, RefusesWhatIsOutOfRangeAndNamesIt) {
  CoreHarness h(Small(false));
  h.OpenSession(1);
  OfferRequest r;
  r.session = 1;
  r.views = {h.view};
  r.blocks = {{KeyOf(1), KeyOf(0), 1, 32}};
  r.parts = {{0, 0, 9, 0, 4096, std::string(16, 'r'), "x"}};
  h.Step(event::OfferArrived{100, r});
  EXPECT_EQ(h.offers.at(100).status().message(), "offer: parts[0].layer_group is out of range");
  r.session = 9;
  h.Step(event::OfferArrived{101, r});
  EXPECT_TRUE(absl::IsAborted(h.offers.at(101).status()));
}

TEST(CoreOffer, ABlockKeepsItsNamespace) {
  CoreHarness h(Small(false));
  h.OpenSession(1);
  h.Offer(1, 1);
  h.FinishAll();
  h.ns.layout.layers = 4;  // a larger grid under the same key: no honest writer can have it
  h.OpenSession(2);
  OfferRequest r;
  r.session = 2;
  r.views = {h.view};
  r.blocks = {{KeyOf(1), KeyOf(0), 1, 32}};
  r.parts = {{0, 0, 3, 1, 4096, std::string(16, 'r'), "x"}};
  r.deadline = std::chrono::seconds(1);
  h.Step(event::OfferArrived{100, r});
  ASSERT_TRUE(h.offers.at(100).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(h.offers.at(100)->parts[0])) << h.offers.at(100)->parts[0];
  EXPECT_TRUE(h.open.empty());
}

TEST(CoreDomains, NeverMeet) {
  CoreHarness h(Small(false));
  h.OpenSession(1, 1);
  h.OpenSession(2, 2);
  h.Offer(1, 1);
  h.FinishAll();
  EXPECT_EQ(h.acquires.at(h.Acquire(2, 1, 1))->held[0], 0u);
  const uint64_t theirs = h.Offer(2, 1);  // the same key is not "there already"
  h.FinishAll();
  for (const absl::Status& part : h.offers.at(theirs)->parts) EXPECT_TRUE(part.ok()) << part;
}

TEST(CoreLease, PinsUntilReleasedOrExpired) {
  CoreHarness h(Small(false, 64 << 10));  // 16 KiB slabs: one block each
  h.OpenSession(1);
  for (uint32_t n = 1; n <= 4; ++n) h.Offer(1, 10 * n);
  h.FinishAll();
  std::vector<uint64_t> leases;
  for (uint32_t n = 1; n <= 4; ++n) leases.push_back(h.acquires.at(h.Acquire(1, 10 * n, 1))->lease);
  const uint64_t full = h.Offer(1, 50);
  for (const absl::Status& part : h.offers.at(full)->parts) EXPECT_TRUE(absl::IsResourceExhausted(part)) << part;
  h.Touch(1, {leases[0]}, {leases[1]});
  const uint64_t fits = h.Offer(1, 51);
  h.FinishAll();
  for (const absl::Status& part : h.offers.at(fits)->parts) EXPECT_TRUE(part.ok()) << part;
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 20, 1))->held[0], 0u) << "the released block made room";
  h.Pass(std::chrono::seconds(3));
  EXPECT_EQ(h.core.leases(), 0u);
  EXPECT_EQ(h.counters.Get(Counter::kLeasesExpired), 3u);
  h.Touch(1, {leases[0]}, {});
  EXPECT_EQ(h.touches.at(h.calls)->gone, std::vector<uint64_t>{leases[0]});
}

TEST(CoreLease, ARefusalForWantOfRoomIsRememberedUntilThereIsRoom) {
  CoreHarness h(Small(false, 64 << 10));
  h.OpenSession(1);
  std::vector<uint64_t> leases;
  for (uint32_t n = 1; n <= 4; ++n) {
    h.Offer(1, 10 * n);
    h.FinishAll();
    leases.push_back(h.acquires.at(h.Acquire(1, 10 * n, 1))->lease);
  }
  EXPECT_EQ(h.core.refused_since(), Instant::max());
  const Instant refused = h.now;
  h.Offer(1, 50);
  EXPECT_EQ(h.core.refused_since(), refused);
  h.now += std::chrono::milliseconds(100);
  h.Step(event::Tick{});
  h.Offer(1, 60);
  EXPECT_EQ(h.core.refused_since(), refused) << "the first refusal counts, nothing has changed since";
  h.Touch(1, {}, {leases[2]});
  EXPECT_EQ(h.core.refused_since(), refused) << "nobody looked";
  h.Step(event::Tick{});
  EXPECT_EQ(h.core.refused_since(), Instant::max()) << "a block may be evicted now, though nobody asks for its room";
}

TEST(CoreLease, EvictedBytesWaitForQuiet) {
  CoreHarness h(Small(false, 64 << 10));
  h.quiet_at_once = false;
  h.OpenSession(1);
  h.Offer(1, 1);
  h.FinishAll();
  const uint64_t lease = h.acquires.at(h.Acquire(1, 1, 1))->lease;
  h.Touch(1, {}, {lease});
  ASSERT_EQ(h.revoked, std::vector<uint64_t>{lease});
  for (uint32_t n = 2; n <= 4; ++n) h.Offer(1, 10 * n);
  h.FinishAll();
  const uint64_t refused = h.Offer(1, 90);
  h.FinishAll();
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 1, 1))->held[0], 1u) << "pinned while a read may be under way";
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 20, 1))->held[0], 0u) << "another one went";
  EXPECT_TRUE(h.offers.at(refused).ok());
  h.Quiet(lease);
}

TEST(CoreEviction, LeavesGoFirst) {
  CoreHarness h(Small(false, 64 << 10));
  h.OpenSession(1);
  for (uint32_t n = 1; n <= 4; ++n) h.Offer(1, n), h.FinishAll();  // a chain 1 -> 2 -> 3 -> 4 fills the room
  h.Touch(1, {}, {h.acquires.at(h.Acquire(1, 4, 1))->lease});      // its leaf is the most recently used
  h.Offer(1, 50);
  h.FinishAll();
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 1, 4))->held[0], 3u) << "the leaf went, the prefix stayed whole";
}

TEST(CoreTiers, ColdBlocksAreDemotedAndComeBack) {
  CoreHarness h(Small(true, 64 << 10));
  h.OpenSession(1);
  for (uint32_t n = 1; n <= 12; ++n) {
    h.Offer(1, 10 * n);
    h.FinishAll();
  }
  EXPECT_GT(h.counters.Get(Counter::kDemoted), 0u);
  EXPECT_EQ(h.counters.Get(Counter::kEvictedUnsaved), 0u);
  const uint64_t call = h.Acquire(1, 10, 1);
  ASSERT_EQ(h.acquires.at(call)->held[0], 1u);
  EXPECT_TRUE(h.acquires.at(call)->blocks[0].parts[0].pending);
  h.FinishAll();
  ASSERT_EQ(h.ready.size(), 4u);
  for (const auto& r : h.ready) EXPECT_TRUE(r.ready.status.ok()) << r.ready.status;
  EXPECT_EQ(h.ready[0].ready.part.layer_group, 0);
  EXPECT_EQ(h.ready[3].ready.part.layer_group, 1) << "in layer order";
}

TEST(CoreTiers, AnOfferWaitsForRoomThatTheDiskIsMaking) {
  CoreHarness h(Small(true, 64 << 10));
  h.OpenSession(1);
  for (uint32_t n = 1; n <= 4; ++n) h.Offer(1, 10 * n, Ack::kDurable);  // all there is
  while (!std::holds_alternative<action::Persist>(h.open.front())) h.Finish(0);
  const uint64_t call = h.Offer(1, 50, Ack::kDurable);
  EXPECT_FALSE(h.offers.contains(call)) << "neither taken nor refused";
  h.FinishAll();
  for (const absl::Status& part : h.offers.at(call)->parts) EXPECT_TRUE(part.ok()) << part;
  EXPECT_EQ(h.counters.Get(Counter::kPartsRefusedFull), 0u);
}

/// Block 20 waits until something is saved to the disk and leaves its room. Its reader stays, goes, or has no time left.
TEST(CoreTiers, NothingIsReadForWhoWaitsNoMore) {
  for (const std::string reader : {"stays", "goes", "is late"}) {
    CoreHarness h(Small(true, 64 << 10));
    h.OpenSession(1);
    for (uint32_t n = 1; n <= 12; ++n) h.Offer(1, 10 * n), h.FinishAll();
    h.Acquire(1, 10, 1);
    const uint64_t waiting = h.acquires.at(h.Acquire(1, 20, 1))->lease;
    if (reader == "goes") h.Touch(1, {}, {waiting});
    if (reader == "is late") h.Pass(std::chrono::milliseconds(1001));
    h.FinishAll();
    EXPECT_EQ(h.counters.Get(Counter::kPromoted), reader == "stays" ? 8u : 4u) << reader;
    ASSERT_EQ(h.ready.size(), reader == "goes" ? 4u : 8u) << reader;
    for (const auto& r : h.ready) {
      const bool late = r.ready.block_index == 20 && reader == "is late";
      EXPECT_EQ(r.ready.status.code(), late ? absl::StatusCode::kDeadlineExceeded : absl::StatusCode::kOk) << reader;
    }
  }
}

TEST(CoreTiers, RotOnTheDiskIsACountedMiss) {
  CoreHarness h(Small(true, 64 << 10));
  h.OpenSession(1);
  for (uint32_t n = 1; n <= 12; ++n) h.Offer(1, 10 * n), h.FinishAll();
  h.Acquire(1, 10, 1);
  while (!h.open.empty()) h.Finish(0, !std::holds_alternative<action::Promote>(h.open[0]));
  ASSERT_EQ(h.ready.size(), 4u);
  for (const auto& r : h.ready) EXPECT_TRUE(absl::IsDataLoss(r.ready.status)) << r.ready.status;
  EXPECT_EQ(h.counters.Get(Counter::kWrongPreventedSsd), 4u);
  EXPECT_EQ(h.acquires.at(h.Acquire(1, 10, 1))->held[0], 0u);
}

TEST(CoreBlocks, UnfinishedOnesExpire) {
  CoreHarness h(Small(false));
  h.OpenSession(1);
  h.Offer(1, 1);
  h.Finish(0);
  h.Finish(3);  // one part is sealed, three pulls break
  while (!h.open.empty()) h.Finish(0, false);
  EXPECT_EQ(h.core.parts(), 1u);
  h.Pass(std::chrono::seconds(61));
  EXPECT_EQ(h.core.parts(), 0u);
  EXPECT_EQ(h.core.blocks(), 0u);
  EXPECT_EQ(h.core.extents().used(), 0u);
}

/// Random histories: operations end in any order, well or badly; sessions come and go; time passes. Ends by letting
/// everything finish: then nothing may be held.
TEST(CoreHistories, NothingWrongNothingLeaks) {
  for (uint64_t run = 0; run < 40; ++run) {
    auto rng = Rng(run);
    const auto pick = [&](uint64_t n) { return static_cast<uint32_t>(rng() % n); };
    CoreHarness h(Small(pick(2) == 0, (32 + pick(128)) << 10));
    h.quiet_at_once = false;
    h.view.planes = 1 + pick(3);
    std::vector<uint64_t> sessions = {1, 2, 3};
    for (uint64_t s : sessions) h.OpenSession(s, static_cast<uint8_t>(1 + s % 2));
    uint64_t next_session = 10;
    for (int step = 0; step < 1500; ++step) {
      const uint64_t session = sessions[pick(sessions.size())];
      switch (pick(10)) {
        case 0:
        case 1: h.Offer(session, 1 + pick(40), pick(3) == 0 ? Ack::kDurable : Ack::kVolatile, 1024 + pick(8000)); break;
        case 2:
        case 3:
          h.Acquire(session, 1 + pick(40), 1 + pick(6), 1 + pick(2), pick(3));
          break;
        case 4: {
          std::vector<uint64_t> held;
          for (const auto& [lease, ranges] : h.leased) held.push_back(lease);
          if (!held.empty()) h.Touch(session, {held[pick(held.size())]}, {held[pick(held.size())]});
          break;
        }
        case 5: h.Pass(std::chrono::milliseconds(pick(400))); break;
        case 6:
          if (!h.revoked.empty()) {
            h.Quiet(h.revoked.back());
            h.revoked.pop_back();
          }
          break;
        case 7:
          if (pick(30) == 0) {
            h.Step(event::SessionClosed{session});
            std::erase(sessions, session);
            sessions.push_back(next_session);
            h.OpenSession(next_session, static_cast<uint8_t>(1 + next_session % 2));
            ++next_session;
          }
          break;
        default:
          if (!h.open.empty()) h.Finish(pick(h.open.size()), pick(12) != 0, pick(2) == 0);
      }
    }
    h.quiet_at_once = true;
    for (uint64_t lease : std::exchange(h.revoked, {})) h.Quiet(lease);
    for (uint64_t s : sessions) h.Step(event::SessionClosed{s});
    h.FinishAll();
    for (const ExtentRef& extent : h.released) h.Step(event::PullReleased{extent});
    h.FinishAll();
    EXPECT_EQ(h.core.leases(), 0u);
    h.Pass(std::chrono::seconds(200));
    h.FinishAll();
    uint64_t rounded = 0;
    for (const BlockInfo& b : h.core.List({}, h.now)) rounded += b.dram_bytes;
    EXPECT_LE(rounded, h.core.extents().used());
    EXPECT_LE(h.core.extents().used(), rounded + h.core.dram_parts() * Extents::kAlignment) << "only sealed parts hold room";
    ASSERT_FALSE(::testing::Test::HasFailure()) << "run " << run;
  }
}

}  // namespace
}  // namespace kvasir::testing
