// SPDX-License-Identifier: Apache-2.0
// Goal: the table of the 63 methods says the truth. Method: every row is run as ./run seeds does, without the checks
// that need the bench of two turns, and must come out as rows.txt says; the parser and the checks are shown to refuse.
#include <gtest/gtest.h>

#include <set>

#include "tests/quality/methods.h"
#include "tests/seeds/checks.h"

namespace kvasir::seeds {
namespace {

const std::vector<Row>& Table() {
  static const std::vector<Row> rows = [] {
    const Result<std::string> text = quality::ReadText(KVASIR_TESTS_DIR "/seeds/rows.txt");
    auto parsed = text.ok() ? ParseRows(*text) : Result<std::vector<Row>>(text.error());
    EXPECT_TRUE(parsed.ok()) << (parsed.ok() ? "" : parsed.error().message);
    return parsed.ok() ? *parsed : std::vector<Row>();
  }();
  return rows;
}

Fixtures& Shared() {
  static Fixtures fixtures = [] {
    auto made = MakeFixtures({.model = KVASIR_TESTS_DIR "/model"});
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().message);
    return made.ok() ? std::move(*made) : Fixtures{};
  }();
  return fixtures;
}

TEST(Seeds, EveryRowComesOutAsTheTableSays) {
  ASSERT_EQ(Table().size(), kRows);
  uint32_t ran = 0;
  for (const Row& row : Table()) {
    const Outcome outcome = RunRow(Shared(), row, true);
    EXPECT_EQ(NameOf(outcome.fate), NameOf(row.expected)) << row.number << " " << row.method << ": " << outcome.said;
    if (outcome.fate == Fate::kLater) continue;
    ++ran;
    EXPECT_NE(FindCheck(row.number), nullptr) << row.number;
    EXPECT_GT(outcome.bits, 0) << row.number;
  }
  EXPECT_GE(ran, 30u);
}

TEST(Seeds, TheCommonGateRefuses) {
  const Row& kivi = Table()[14];
  const auto codec = *Codec::Parse(kivi.spec);
  const auto stored = quality::StoreChain(*codec, Shared().text);
  ASSERT_TRUE(stored.ok());
  EXPECT_TRUE(CommonGate(kivi, *codec, Shared().text, *stored).held);
  Row frugal = kivi;
  frugal.bits = 2.9;
  EXPECT_NE(CommonGate(frugal, *codec, Shared().text, *stored).said.find("were stated"), std::string::npos);
  StoredChain damaged = *stored;
  damaged.layers[0].keys[7] ^= std::byte{1};
  EXPECT_FALSE(CommonGate(kivi, *codec, Shared().text, damaged).held);
  // A set that keeps a token of a lesser score.
  const auto knorm = *Codec::Parse(Table()[60].spec);
  auto chosen = quality::StoreChain(*knorm, Shared().text);
  ASSERT_TRUE(chosen.ok());
  auto& classes = chosen->selection.classes;
  std::swap(*std::find(classes.begin(), classes.end(), RowClass::kKept),
            *std::find(classes.begin(), classes.end(), RowClass::kDropped));
  EXPECT_FALSE(CommonGate(Table()[60], *knorm, Shared().text, *chosen).held);
}

TEST(Seeds, TheTableIsRefusedByLine) {
  for (const char* wrong : {"2 ; 1 ; pass ; A ; raw ; - ; x\n", "1 ; 1 ; pass ; A ; raw ; -\n",
                            "1 ; 1 ; maybe ; A ; raw ; - ; x\n", "1 ; 1 ; later ; A ; raw ; - ; x\n"}) {
    const auto rows = ParseRows(wrong);
    ASSERT_FALSE(rows.ok()) << wrong;
    EXPECT_NE(rows.error().message.find("line 1"), std::string::npos) << wrong;
  }
  EXPECT_FALSE(ParseRows("").ok());
}

}  // namespace
}  // namespace kvasir::seeds
