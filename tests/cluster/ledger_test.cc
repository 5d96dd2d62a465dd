// SPDX-License-Identifier: Apache-2.0
// Goal: nothing that a client should not see passes the ledger uncounted, and nothing harmless is counted against the
// store. Method: each kind of event, alone.
#include "tests/cluster/ledger.h"

#include <gtest/gtest.h>

#include <chrono>
#include <utility>

namespace kvasir::cluster {
namespace {

Attempt Got(uint32_t prompt, uint32_t expected, uint32_t got, absl::Status status,
            std::vector<std::string> wrong = {}) {
  return {prompt, expected, got, std::move(status), std::move(wrong), false};
}
constexpr Instant At(int ms) { return Instant{} + std::chrono::milliseconds(ms); }

TEST(Ledger, AckedBlocksMustBeFound) {
  Ledger ledger(4);
  EXPECT_EQ(ledger.AckedPrefix(7), 0u);
  ledger.Pushed(7, 1, Level::kReplicated, absl::OkStatus(), false);
  EXPECT_EQ(ledger.AckedPrefix(7), 0u) << "block 0 may still fail";
  ledger.Pushed(7, 0, Level::kReplicated, absl::OkStatus(), true);
  ledger.Pushed(7, 3, Level::kReplicatedDurable, absl::OkStatus(), false);
  EXPECT_EQ(ledger.AckedPrefix(7), 2u);
  EXPECT_EQ(ledger.AckedBlocks().at(7).size(), 3u) << "behind a gap, too";
  EXPECT_EQ(ledger.AckedBlocks().at(7).at(3), Level::kReplicatedDurable);
  EXPECT_EQ(ledger.Total().acked, 3u);
  EXPECT_EQ(ledger.Total().existed, 1u);
  EXPECT_EQ(ledger.Total().errors, 0u);
}

TEST(Ledger, AFailedPushIsAnErrorAndNoPromise) {
  Ledger ledger(4);
  ledger.Pushed(1, 0, Level::kReplicated, absl::UnavailableError("gone"), false);
  EXPECT_EQ(ledger.Total().errors, 1u);
  EXPECT_EQ(ledger.Total().statuses.at("push UNAVAILABLE"), 1u);
  EXPECT_EQ(ledger.AckedPrefix(1), 0u);
  EXPECT_TRUE(ledger.AckedBlocks().empty());
}

TEST(Ledger, WhatFallsShortIsAMissAndForAnyCauseButAbsenceAnError) {
  Ledger ledger(8);
  ledger.Attempted(Got(0, 5, 5, absl::OkStatus()));
  ledger.Attempted(Got(0, 5, 8, absl::OkStatus()));
  ledger.Attempted(Got(0, 5, 6, absl::NotFoundError("the rest")));
  EXPECT_EQ(ledger.Total().missed, 0u);
  EXPECT_EQ(ledger.Total().hits, 15u);
  ledger.Attempted(Got(0, 5, 3, absl::NotFoundError("not stored")));
  EXPECT_EQ(ledger.Total().missed, 2u);
  EXPECT_EQ(ledger.Total().errors, 0u);
  ledger.Attempted(Got(0, 5, 0, absl::DeadlineExceededError("late")));
  EXPECT_EQ(ledger.Total().missed, 7u);
  EXPECT_EQ(ledger.Total().errors, 1u);
  EXPECT_EQ(ledger.Total().statuses.at("fetch DEADLINE_EXCEEDED"), 1u);
  ledger.Attempted(Got(0, 0, 0, absl::UnavailableError("nobody")));
  EXPECT_EQ(ledger.Total().errors, 1u) << "nothing was promised";
}

TEST(Ledger, EachWrongBlockIsCountedAndShown) {
  Ledger ledger(8);
  ledger.Attempted(Got(4, 2, 2, absl::OkStatus(), {"block 0 ...", "block 1 ..."}));
  EXPECT_EQ(ledger.Total().wrong, 2u);
  ASSERT_EQ(ledger.Total().examples.size(), 2u);
  EXPECT_EQ(ledger.Total().examples[0], "WRONG BYTES in prompt 4: block 0 ...");
  Attempt again = Got(4, 2, 1, absl::NotFoundError(""));
  again.again = true;
  ledger.Attempted(again);
  EXPECT_EQ(ledger.Total().missed, 1u);
  EXPECT_EQ(ledger.Total().examples.size(), 2u) << "a retry that fails like the first attempt says nothing new";
}

TEST(Ledger, OutagesAreTheReadsThatFailedAtFirst) {
  Ledger ledger(1);
  ledger.Pushed(0, 0, Level::kReplicated, absl::OkStatus(), false);
  ledger.ReadEnded(0, At(0), At(900), true, false);
  EXPECT_EQ(ledger.Total().longest_outage_us, 0u) << "slow, but it came";
  ledger.ReadEnded(0, At(1000), At(1300), true, true);
  EXPECT_EQ(ledger.Total().longest_outage_us, 300'000u);
  ledger.ReadEnded(0, At(2000), At(17000), false, true);
  EXPECT_EQ(ledger.Total().longest_outage_us, 15'000'000u);
  EXPECT_EQ(ledger.Total().given_up, 1u);
  EXPECT_EQ(ledger.Total().errors, 1u);
  uint32_t prompt = 0;
  EXPECT_FALSE(ledger.Choose(1, &prompt)) << "one that was given up is not asked for again, but stays to be verified";
  EXPECT_EQ(ledger.AckedBlocks().size(), 1u);
}

TEST(Ledger, ASweepIsEveryPromptReadByAReadBegunAfterTheMark) {
  Ledger ledger(1);
  for (const uint32_t prompt : {3u, 5u, 9u}) ledger.Pushed(prompt, 0, Level::kReplicated, absl::OkStatus(), false);
  ledger.Mark(At(100));
  const Ledger::Progress sweep{.sweep = true};
  std::set<uint32_t> chosen;
  for (int i = 0; i < 3; ++i) {
    uint32_t prompt = 0;
    ASSERT_TRUE(ledger.Choose(0, &prompt));
    chosen.insert(prompt);
  }
  EXPECT_EQ(chosen, (std::set<uint32_t>{3, 5, 9})) << "in turn";
  ledger.ReadEnded(3, At(99), At(101), true, false);
  ledger.ReadEnded(5, At(101), At(102), true, false);
  ledger.ReadEnded(9, At(101), At(102), true, false);
  EXPECT_FALSE(ledger.Await(sweep, Duration::zero())) << "prompt 3 was read by a read that began before";
  ledger.ReadEnded(3, At(103), At(104), true, false);
  EXPECT_TRUE(ledger.Await(sweep, Duration::zero()));
  EXPECT_TRUE(ledger.Await({.reads = 4}, Duration::zero()));
  EXPECT_FALSE(ledger.Await({.reads = 5}, Duration::zero()));
  EXPECT_FALSE(ledger.Await({.acked = 1}, Duration::zero())) << "the pushes were before the mark";
}

TEST(Ledger, AStretchBeginsEmpty) {
  Ledger ledger(1);
  ledger.Attempted(Got(0, 1, 0, absl::NotFoundError("")));
  EXPECT_EQ(ledger.Mark(At(1)).missed, 1u);
  EXPECT_EQ(ledger.Mark(At(2)).missed, 0u);
  EXPECT_EQ(ledger.Total().missed, 1u);
}

TEST(Ledger, PercentilesAreNearestRank) {
  std::vector<uint32_t> one = {1500}, none, many;
  for (uint32_t i = 1; i <= 2000; ++i) many.push_back(i * 1000);
  EXPECT_EQ(PercentilesOf(none).count, 0u);
  EXPECT_EQ(PercentilesOf(one).p999_ms, 1.5);
  const Percentiles p = PercentilesOf(many);
  EXPECT_EQ(p.p50_ms, 1000);
  EXPECT_EQ(p.p99_ms, 1980);
  EXPECT_EQ(p.p999_ms, 1998);
  EXPECT_EQ(p.max_ms, 2000);
}

}  // namespace
}  // namespace kvasir::cluster
