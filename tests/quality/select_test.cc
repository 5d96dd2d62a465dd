// SPDX-License-Identifier: Apache-2.0
// Goal: the figures of methods that choose tokens order as theory does, and what an engine can bring is what it is
// called. Method: few cases; what must be equal is held to equality.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/model/lm.h"
#include "tests/quality/methods.h"
#include "tests/quality/select_bench.h"
#include "tests/quality/stored_chain.h"

namespace kvasir::quality {
namespace {

SelectBench& SmallBench() {
  static const std::unique_ptr<SelectBench> bench = [] {
    auto made = SelectBench::Make(KVASIR_TESTS_DIR "/model", {.texts = 1, .turns = 2});
    return made.ok() ? std::move(*made) : nullptr;
  }();
  return *bench;
}

SelectFigures Of(const std::string& spec) {
  const auto codec = Codec::Parse(spec);
  EXPECT_TRUE(codec.ok()) << spec;
  const Result<SelectFigures> figures = SmallBench().Measure(**codec);
  EXPECT_TRUE(figures.ok()) << spec << ": " << (figures.ok() ? "" : figures.error().message);
  return figures.ok() ? *figures : SelectFigures{};
}

TEST(SelectTest, AllTokensExactlyAreExact) {
  EXPECT_EQ(SmallBench().exact().first_turn, 1);  // else the cases say nothing
  EXPECT_EQ(SmallBench().exact().second_turn, 1);
  for (const char* spec : {"raw", "splitexp", "B:uni(768)|E:late|raw"}) {
    const SelectFigures f = Of(spec);
    EXPECT_EQ(f.change, 0) << spec;
    EXPECT_EQ(f.attention_error, 0) << spec;
    EXPECT_EQ(f.kept, 1) << spec;
    EXPECT_EQ(f.second_turn, 1) << spec;
  }
  EXPECT_EQ(Of("raw").bits, 16);
}

TEST(SelectTest, BitsAreOfAllTokensAndMoreAreNeverWorse) {
  SelectFigures before = Of("raw");
  for (const char* budget : {"0.5", "0.25", "0.125"}) {
    const SelectFigures f = Of(std::string("B:uni(") + budget + ")|E:win(32,7)|R:win(32)|raw");
    EXPECT_NEAR(f.kept, std::stod(budget), 1e-9);
    EXPECT_NEAR(f.bits, 16 * f.kept + 2.0 / 64, 0.01);  // two bits a row for the map
    EXPECT_LT(f.bits, before.bits);
    EXPECT_GT(f.attention_error, before.attention_error);
    before = f;
  }
  EXPECT_EQ(before.second_turn, 0) << "an eighth, chosen for the first question";
}

TEST(SelectTest, InputsThatAreNotBroughtAreRefusedByName) {
  const auto codec = Codec::Parse("B:uni(0.5)|E:win(32,7)|E:span|raw");
  const Result<SelectFigures> figures = SmallBench().Measure(**codec);
  ASSERT_FALSE(figures.ok());
  EXPECT_NE(figures.error().message.find("spans"), std::string::npos);
}

TEST(SelectTest, WhatIsCapturedIsWhatItIsCalled) {
  const auto model = model::Model::Load(KVASIR_TESTS_DIR "/model");
  ASSERT_TRUE(model.ok());
  const auto heads = ProbeHeads(*model, 1);
  ASSERT_TRUE(heads.ok());
  // The induction scores of tests/model/README.md: the best query head of each pair.
  EXPECT_GT((*heads)[4], 0.8f);   // layer 1, heads 0 and 1
  EXPECT_GT((*heads)[10], 0.8f);  // layer 2, heads 4 and 5
  EXPECT_LT((*heads)[7], 0.1f);
  const auto tokens =
      model::TokensOf(std::string(100, 'a') + "\nSome words, and some more words." + std::string(27, 'b'));
  const auto c = CaptureChain(*model, tokens, *heads, {});
  ASSERT_TRUE(c.ok()) << c.error().message;
  const uint32_t n = c->tokens;
  ASSERT_EQ(n, 160u);
  for (uint64_t head = 0; head < 16; ++head) {  // every query pays 1 in all, two of them a KV head
    const float* sums = &c->attention_sums[head * n];
    EXPECT_NEAR(std::accumulate(sums, sums + n, 0.0), 2.0 * n, 1e-3 * n);
    double decayed = 0;
    for (uint32_t q = 0; q < n; ++q) decayed += 2 * std::pow(kCaptureDecay, n - 1 - q);
    const float* kept = &c->decayed_sums[head * n];
    EXPECT_NEAR(std::accumulate(kept, kept + n, 0.0), decayed, 1e-3 * decayed);
    for (uint32_t t = 0; t < n; ++t) {
      ASSERT_GE(c->reconstruction[head * n + t], 0);
      ASSERT_LE(c->reconstruction[head * n + t], 1.0001f);
    }
  }
  for (const float cosine : c->hidden_cosine) EXPECT_TRUE(cosine > -1 && cosine < 1) << cosine;
  // The last window query is the last query.
  EXPECT_TRUE(std::equal(c->window_queries.begin() + (kCaptureWindow - 1) * 64,
                         c->window_queries.begin() + kCaptureWindow * 64, c->queries.begin() + (n - 1) * 64));
  EXPECT_FALSE(CaptureChain(*model, {}, *heads, {}).ok());
}

TEST(SelectTest, TheTableParsesByBudget) {
  const Result<std::string> table = ReadText(KVASIR_TESTS_DIR "/quality/selecting.txt");
  ASSERT_TRUE(table.ok());
  const auto one = ParseSelecting(*table, {"0.5"}), three = ParseSelecting(*table, {"0.5", "0.25", "0.125"});
  ASSERT_TRUE(one.ok() && three.ok()) << one.error().message;
  EXPECT_GT(three->size(), 2 * one->size());
  for (const char* wrong : {"win B:uni(*)|E:acc|raw\n", "win B:uni(*)|E:nothing|raw name\n"}) {
    const auto refused = ParseSelecting(wrong, {"0.5"});
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("line 1"), std::string::npos);
  }
}

}  // namespace
}  // namespace kvasir::quality
