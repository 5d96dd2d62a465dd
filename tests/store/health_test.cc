// SPDX-License-Identifier: Apache-2.0
// Goal: whatever stalls in a node, it is not ready within 5 s by the judge's clock, says what stalls, and is ready again by
// itself when the stall has ended (R35). Method: a real node on real threads and a real disk for each stall of the table;
// the stall is made at a named place, with short limits. The default limits are held to the 5 s in health_judge_test; gRPC's
// threads, memory and descriptors, which belong to the process, in tests/deploy/vitals_test.
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/store/stall_stage.h"

namespace kvasir::testing {
namespace {

using Does = DiskGate::Does;
using Kind = DiskOp::Kind;

struct Stall {
  const char* name;
  const char* vital;    ///< that must tell of it
  const char* says;     ///< within its trouble
  const char* service;  ///< the tier that is not serving
  std::function<void(StallStage&)> prepare;  ///< before the node starts; may be empty
  std::function<void(StallStage&)> begin;
  std::function<void(StallStage&)> end = nullptr;  ///< empty = StallStage::Go
};

void WithSsd(StallStage& s) { s.ssd = true; }
void Cold(StallStage& s) { s.ssd = s.cold = true; }
void OwnClock(StallStage& s) {
  s.options.clock = [&s] { return s.clock.Now(); };
}

/// An Offer of block `block` beside the test; how it ends is not the question.
void Offer(StallStage& s, uint32_t block, Ack ack = Ack::kVolatile) {
  s.Aside([&s, block, ack] { (void)s.client().Offer(s.chain(), block, ack); });
}
/// A reader wants the cold block.
void Read(StallStage& s) {
  const auto acquired = s.client().Acquire(s.chain());
  ASSERT_TRUE(acquired.ok()) << acquired.status();
  ASSERT_EQ(acquired->held[0], 1u);
  ASSERT_TRUE(acquired->blocks[0].parts[0].pending);
}
/// DURABLE offers one after the other, until the disk lets all of them go.
void OfferUntil(StallStage& s, std::atomic<bool>& enough) {
  s.Aside([&s, &enough] {
    for (uint32_t block = 1; !enough && block < 200; ++block) (void)s.client().Offer(s.chain(), block, Ack::kDurable);
  });
}
/// Blocks under leases until one is refused.
void PinEverything(StallStage& s) {
  for (uint32_t block = 0; block < s.chain().size(); ++block) {
    const auto offered = s.client().Offer(s.chain(), block);
    ASSERT_TRUE(offered.ok()) << offered.status();
    for (const absl::Status& part : offered->parts) {
      if (absl::IsResourceExhausted(part)) return;
    }
    ASSERT_TRUE(s.client().Acquire(s.chain()).ok());
  }
  FAIL() << "the DRAM of a node is larger than the chain";
}

std::atomic<bool> enough{false};  // for the slow disks: one stall at a time

const Stall kStalls[] = {
    {"the Loop of shard 0 is stopped", "shard.0.loop", "the Loop of shard 0 does not answer", "dram", nullptr,
     [](StallStage& s) { s.StopLoop(0); }},
    {"the Loop of shard 1 is stopped", "shard.1.loop", "the Loop of shard 1 does not answer", "dram",
     [](StallStage& s) { s.options.shards = s.options.membership.members[0].shards = 2; },
     [](StallStage& s) { s.StopLoop(1); }},
    {"the Loop of the sessions' keeper is stopped", "keeper", "the Loop that keeps sessions does not answer", "", nullptr,
     [](StallStage& s) { s.sites.Block("keeper"); }},
    {"the clock of a Loop stands still", "shard.0.clock", "the clock of shard 0 is ", "dram", OwnClock,
     [](StallStage& s) { s.clock.Stop(); }},
    {"the timers of a Loop do not run", "shard.0.timers", "the timers of shard 0 are late", "dram", OwnClock,
     [](StallStage& s) {
       s.client().offer_deadline = std::chrono::milliseconds(50);
       s.sites.Keep("pulled");
       Offer(s, 1);  // its deadline is what the stopped clock never reaches
       s.sites.AwaitVisits("pulled", 1);
       s.clock.Stop();
     }},
    {"a pull never ends", "shard.0.pulls", "a pull of shard 0 did not end at its deadline", "dram", nullptr,
     [](StallStage& s) {
       s.client().offer_deadline = std::chrono::milliseconds(50);
       s.sites.Keep("pulled");
       Offer(s, 1);
     }},
    {"a lost wake-up: landed bytes were checked and nobody hears of it", "shard.0.checks", "wait for their check, and none ends", "dram",
     nullptr,
     [](StallStage& s) {
       s.sites.Keep("checked");
       Offer(s, 1);
     }},
    {"a lost wake-up: parts are on the disk and nobody hears of it", "shard.0.writes", "wait to be on the SSD, and none comes", "ssd",
     WithSsd,
     [](StallStage& s) {
       s.sites.Keep("persisted");
       Offer(s, 1, Ack::kDurable);
     }},
    {"a lost wake-up: parts were read and nobody hears of it", "shard.0.reads", "wait to come from the SSD, and none does", "ssd", Cold,
     [](StallStage& s) {
       s.sites.Keep("promoted");
       Read(s);
     }},
    {"DRAM is full of leased blocks", "shard.0.room", "DRAM of shard 0 is full and nothing may be evicted", "dram",
     [](StallStage& s) {
       s.options.dram_bytes = 1 << 20;
       s.options.slab_bytes = 256 << 10;
       s.options.lease = std::chrono::seconds(30);
       s.options.session_ttl = std::chrono::seconds(60);
     },
     PinEverything,
     [](StallStage& s) {
       for (uint64_t lease = 1; lease <= 250; ++lease) (void)s.client().Release(lease);
     }},
    {"one of two checking threads is stopped", "check.", "does not end what it took", "dram",
     [](StallStage& s) { s.options.codec_threads = 2; },
     [](StallStage& s) {
       s.sites.Block("checking", 1);  // the other parts of the block pass
       Offer(s, 1);
     }},
    {"all checking threads are stopped and work queues up", "check.queue", "no thread takes them", "dram", nullptr,
     [](StallStage& s) {
       s.sites.Block("checking");
       Offer(s, 1);
     }},
    {"the disk's writing thread is stuck in a write", "ssd.writer", "the disk's writing thread does not end", "ssd", WithSsd,
     [](StallStage& s) {
       s.disk.Set(Does::kWait, {Kind::kWrite});
       Offer(s, 1, Ack::kDurable);
     }},
    {"the disk's writing thread is stuck in fdatasync", "ssd.writer", "the disk's writing thread does not end", "ssd", WithSsd,
     [](StallStage& s) {
       s.disk.Set(Does::kWait, {Kind::kSync});
       Offer(s, 1, Ack::kDurable);
     }},
    {"the disk's reading thread is stuck", "ssd.reader.0", "the disk's reading thread 0 does not end", "ssd", Cold,
     [](StallStage& s) {
       s.disk.Set(Does::kWait, {Kind::kRead});
       Read(s);
     }},
    {"the disk is slow to write", "ssd.slow_writes", "the disk is slow: a write waits", "ssd", WithSsd,
     [](StallStage& s) {
       enough = false;
       s.disk.Set(Does::kSlow, {Kind::kWrite, Kind::kSync});
       OfferUntil(s, enough);
     },
     [](StallStage& s) {
       enough = true;
       s.Go();
     }},
    {"the disk is slow to read", "ssd.slow_reads", "the disk is slow: a read waits", "ssd", Cold,
     [](StallStage& s) {
       s.disk.Set(Does::kSlow, {Kind::kRead});
       Read(s);
     }},
    {"the disk is full: no room for a segment", "ssd.space", "the disk is full: nothing new is kept there", "ssd", WithSsd,
     [](StallStage& s) {
       s.disk.Set(Does::kNoSpace, {Kind::kAllocate, Kind::kWrite});
       Offer(s, 1, Ack::kDurable);
     }},
    {"the disk is full: it takes half of a write", "ssd.space", "the disk is full: nothing new is kept there", "ssd", WithSsd,
     [](StallStage& s) {
       s.disk.Set(Does::kShort, {Kind::kWrite});
       Offer(s, 1, Ack::kDurable);
     }},
    {"the disk fails", "ssd.device", "the disk failed and is read only: fdatasync failed: Input/output error", "ssd", WithSsd,
     [](StallStage& s) {
       s.disk.Set(Does::kError, {Kind::kSync});
       Offer(s, 1, Ack::kDurable);
     },
     [](StallStage& s) {  // for good: who asked again would be told "fine" for bytes that are lost
       s.Go();
       s.Restart();
     }},
    {"the table of sessions is full", "sessions", "the table of sessions is full (1): new clients are refused", "",
     [](StallStage& s) {
       s.options.sessions_max = 1;
       s.options.lease = std::chrono::milliseconds(50);
       s.options.session_ttl = std::chrono::milliseconds(400);  // its one client falls silent
     },
     [](StallStage&) {}, [](StallStage&) {}},
    {"what was found on the disk is still being taken in", "recovery", "parts found on the SSD are being taken in", "",
     [](StallStage& s) {
       WithSsd(s);
       s.sites.Keep("recovered");
     },
     [](StallStage&) {}},
    {"the node drains", "serving", "draining: it takes no new blocks", "", nullptr,
     [](StallStage& s) { s.node().Drain(std::chrono::seconds(0), [](absl::StatusOr<NodeStatus>) {}); },
     [](StallStage& s) { s.node().Cordon(false, [](absl::StatusOr<NodeStatus>) {}); }},
    {"the judge itself is stopped", "judge", "the judge of this node's health has not looked for", "", nullptr,
     [](StallStage& s) { s.sites.Block("judge"); }},
};

class HealthOf : public ::testing::TestWithParam<Stall> {};

/// The vital of the report that begins with `name` and is in trouble, or null.
const VitalReport* Troubled(const HealthReport& report, const std::string& name) {
  for (const VitalReport& vital : report.vitals) {
    if (vital.name.starts_with(name) && !vital.trouble.empty()) return &vital;
  }
  return nullptr;
}

TEST_P(HealthOf, ANodeTellsTheTruth) {
  const Stall& stall = GetParam();
  StallStage stage;
  if (stall.prepare) stall.prepare(stage);
  stage.Start();
  if (HasFatalFailure()) return;
  const bool from_the_start = std::string(stall.vital) == "sessions" || std::string(stall.vital) == "recovery";
  if (!from_the_start) {
    ASSERT_TRUE(stage.Await([](const HealthReport& report) { return report.ready; })) << "well before the stall";
  }

  const Instant begun = std::chrono::steady_clock::now();
  stall.begin(stage);
  if (HasFatalFailure()) return;
  HealthReport told;
  ASSERT_TRUE(stage.Await([&](const HealthReport& report) {
    told = report;
    return Troubled(report, stall.vital) != nullptr;
  })) << "nobody noticed that " << stall.name;
  const Instant noticed = std::chrono::steady_clock::now();
  EXPECT_FALSE(told.ready);
  EXPECT_LE(noticed - begun, HealthOptions::kTruth);
  const VitalReport vital = *Troubled(told, stall.vital);
  EXPECT_NE(vital.trouble.find(stall.says), std::string::npos) << vital.trouble;
  EXPECT_NE(told.Trouble().find(vital.name + ": " + vital.trouble), std::string::npos) << told.Trouble();
  EXPECT_EQ(vital.service, stall.service);
  EXPECT_FALSE(told.Serves(vital.service));

  const Instant ended = std::chrono::steady_clock::now();
  stall.end ? stall.end(stage) : stage.Go();
  ASSERT_TRUE(stage.Await([&](const HealthReport& report) {
    told = report;
    return report.ready;
  })) << "still not ready: " << told.Trouble();
  const Instant well = std::chrono::steady_clock::now();
  EXPECT_LE(well - ended, HealthOptions::kTruth);
  const auto ms = [](Duration d) { return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(d).count()); };
  std::printf("noticed after %d ms, over %d ms after its end: %s: %s\n", ms(noticed - begun), ms(well - ended), vital.name.c_str(),
              vital.trouble.c_str());
}

INSTANTIATE_TEST_SUITE_P(Stalls, HealthOf, ::testing::ValuesIn(kStalls), [](const auto& info) {
  std::string name = info.param.name;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
});

TEST(HealthTable, NamesAtLeastTwentyKinds) { EXPECT_GE(std::size(kStalls), 20u); }

/// A slow disk is not a stopped one: its thread moves all the while.
TEST(Health, ASlowDiskIsNotAStoppedThread) {
  StallStage stage;
  stage.ssd = true;
  stage.Start();
  ASSERT_TRUE(stage.Await([](const HealthReport& report) { return report.ready; }));
  enough = false;
  stage.disk.Set(Does::kSlow, {Kind::kWrite, Kind::kSync});
  OfferUntil(stage, enough);
  ASSERT_TRUE(stage.Await([](const HealthReport& report) {
    EXPECT_EQ(Troubled(report, "ssd.writer"), nullptr) << report.Trouble();
    return Troubled(report, "ssd.slow_writes") != nullptr;
  }));
  enough = true;
}

/// What is well and busy is ready: no vital cries wolf while blocks are pushed and read.
TEST(Health, ABusyNodeIsReady) {
  StallStage stage;
  stage.ssd = true;
  stage.options.health.thread = stage.options.health.overdue = stage.options.health.disk_slow = std::chrono::seconds(3);
  stage.Start();
  ASSERT_TRUE(stage.Await([](const HealthReport& report) { return report.ready; }));
  for (uint32_t block = 1; block < 40; ++block) {
    ASSERT_TRUE(stage.client().Offer(stage.chain(), block, block % 2 == 0 ? Ack::kDurable : Ack::kVolatile).ok());
    ASSERT_TRUE(stage.client().Acquire(stage.chain(), true).ok());
    EXPECT_TRUE(stage.node().health().ready()) << stage.node().health().Report(std::chrono::steady_clock::now()).Trouble();
  }
}

}  // namespace
}  // namespace kvasir::testing
