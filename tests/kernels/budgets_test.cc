// SPDX-License-Identifier: Apache-2.0
// Goal: every budget is what its paper says: sums exact, none above the chain, the exempt in every head, shares against
// independent arithmetic; an input that is missing or unfit is refused by name.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "gtest/gtest.h"
#include "tests/kernels/select_chain.h"

namespace kvasir {
namespace {

using testing::SelectFixture;

uint64_t Sum(const std::vector<uint32_t>& counts) { return std::accumulate(counts.begin(), counts.end(), uint64_t{0}); }

std::vector<uint32_t> Counts(SelectFixture& f, const std::string& spec) {
  const auto selection = f.Run(spec);
  EXPECT_TRUE(selection.ok()) << spec << ": " << (selection.ok() ? "" : selection.error().message);
  if (!selection.ok()) return std::vector<uint32_t>(f.heads());
  for (uint64_t i = 0; i < f.heads(); ++i) {
    const auto first = selection->classes.begin() + static_cast<long>(i * f.tokens);
    EXPECT_EQ(f.tokens - std::count(first, first + f.tokens, RowClass::kDropped), selection->counts[i]) << spec;
  }
  return selection->counts;
}

TEST(Budgets, SumsAreExactAndEveryHeadKeepsTheExempt) {
  auto rng = testing::Rng(90);
  for (int round = 0; round < 40; ++round) {
    SelectFixture f(20 + static_cast<uint32_t>(rng() % 80), rng);
    const uint32_t amount = 10 + static_cast<uint32_t>(rng() % (f.tokens - 10));
    const std::string n = std::to_string(amount);
    for (const std::string& budget : {"uni(" + n + ")", "pyr(" + n + ",7)", "ada(" + n + ")", "ada(" + n + ",0,all)",
                                      "head(" + n + ",0.8)", "cos3(" + n + ",0.35)"}) {
      const auto counts = Counts(f, "B:" + budget + "|E:ext|R:sink(3)|R:win(5)|raw");
      EXPECT_EQ(Sum(counts), amount * f.heads()) << budget << " of " << f.tokens;
      EXPECT_GE(*std::min_element(counts.begin(), counts.end()), 8u) << budget;
      EXPECT_LE(*std::max_element(counts.begin(), counts.end()), f.tokens) << budget;
    }
  }
}

TEST(Budgets, ShareOutIsByTheLargestRemainder) {
  EXPECT_EQ(ShareOut(std::vector<double>{1.5, 2.25, 3.25}, 7, 10), (std::vector<uint32_t>{2, 2, 3}));
  EXPECT_EQ(ShareOut(std::vector<double>{0.5, 0.5, 0.5, 0.5}, 2, 10), (std::vector<uint32_t>{1, 1, 0, 0}));
  EXPECT_EQ(ShareOut(std::vector<double>{12, 1, 1}, 14, 6), (std::vector<uint32_t>{6, 4, 4}));
  EXPECT_EQ(ShareOut(std::vector<double>{9, 9}, 18, 4), (std::vector<uint32_t>{4, 4})) << "no more than fit";
}

TEST(Budgets, PyramidIsALine) {
  auto rng = testing::Rng(91);
  SelectFixture f(100, rng);
  // b = 32 beside 8 exempt: 2 b - b / 4 = 56, b, b / 4 = 8.
  EXPECT_EQ(Counts(f, "B:pyr(40,4)|E:ext|R:win(8)|raw"), (std::vector<uint32_t>{64, 64, 40, 40, 16, 16}));
  // 2 b - b / 20 = 156 of 100: the first layer keeps all, the last one 2 b - n.
  EXPECT_EQ(Counts(f, "B:pyr(80)|E:ext|raw"), (std::vector<uint32_t>{100, 100, 80, 80, 60, 60}));
}

TEST(Budgets, AdaptiveCountsTheGreatestScores) {
  auto rng = testing::Rng(92);
  SelectFixture f(50, rng);
  for (const bool all : {false, true}) {
    const uint64_t together = all ? 6 : 2, b = 16;
    const auto counts = Counts(f, std::string("B:ada(20,0,") + (all ? "all" : "layer") + ")|E:ext|R:sink(4)|raw");
    for (uint64_t first = 0; first < 6; first += together) {
      std::vector<float> sorted;
      for (uint64_t i = first * 50; i < (first + together) * 50; ++i) {
        if (i % 50 >= 4) sorted.push_back(f.external[i]);
      }
      std::sort(sorted.rbegin(), sorted.rend());
      const float threshold = sorted[together * b - 1];
      for (uint64_t head = first; head < first + together; ++head) {
        const auto from = f.external.begin() + static_cast<long>(head * 50);
        const auto above = std::count_if(from + 4, from + 50, [&](float s) { return s >= threshold; });
        EXPECT_EQ(counts[head], 4u + static_cast<uint32_t>(above));
      }
    }
    // The safeguard: (1 - alpha) c + alpha b, to the nearest but for what rounding shares out.
    const auto safe = Counts(f, std::string("B:ada(20,0.5,") + (all ? "all" : "layer") + ")|E:ext|R:sink(4)|raw");
    for (uint64_t head = 0; head < 6; ++head) {
      EXPECT_NEAR(safe[head], 4 + 0.5 * (counts[head] - 4.0) + 0.5 * b, 0.51) << head;
    }
  }
  EXPECT_EQ(Counts(f, "B:ada(20,1)|E:ext|raw"), Counts(f, "B:uni(20)|E:ext|raw"));
}

TEST(Budgets, HeadsByTheirScores) {
  auto rng = testing::Rng(93);
  SelectFixture f(400, rng);
  f.head_scores = {1, 2, 0, 4, 2, 3};
  // pool = 30 of b = 60: 30 + 30 * 6 * s / 12.
  EXPECT_EQ(Counts(f, "B:head(60,0.5)|E:ext|raw"), (std::vector<uint32_t>{45, 60, 30, 90, 60, 75}));
  // Three of six keep all; the others what is exempt.
  EXPECT_EQ(Counts(f, "B:class(0.5)|E:late|R:sink(4)|R:win(16)|raw"),
            (std::vector<uint32_t>{20, 400, 20, 400, 20, 400}));
  const auto codec = Codec::Parse("B:class(0.5)|E:late|R:sink(4)|R:win(16)|raw");
  EXPECT_EQ(BudgetTokens(*(*codec)->selection(), 400), 210u);
  f.head_scores[2] = -1;
  EXPECT_NE(f.Run("B:head(60)|E:ext|raw").error().message.find("head_scores"), std::string::npos);
  std::fill(f.head_scores.begin(), f.head_scores.end(), 0.0f);
  EXPECT_NE(f.Run("B:head(60)|E:ext|raw").error().message.find("head_scores"), std::string::npos);
}

TEST(Budgets, LayersByTheirCosines) {
  auto rng = testing::Rng(94);
  SelectFixture f(200, rng);
  f.layout.layers = 12;
  f.rows = testing::MemoryRows(f.layout, 200, rng);
  f.external.resize(24 * 200);
  f.inputs.external_scores = f.external;
  std::uniform_real_distribution<float> jitter(-0.02f, 0.02f);
  for (int round = 0; round < 20; ++round) {
    f.cosine.clear();
    for (int l = 0; l < 12; ++l) f.cosine.push_back((l < 3 ? 0.3f : l < 6 ? 0.6f : 0.9f) + jitter(rng));
    std::shuffle(f.cosine.begin(), f.cosine.end(), rng);
    f.inputs.hidden_cosine = f.cosine;
    const auto counts = Counts(f, "B:cos3(50,0.4)|E:ext|raw");
    // Six layers keep 20, the other six (600 - 120) / 6 = 80.
    for (size_t l = 0; l < 12; ++l) EXPECT_EQ(counts[2 * l], f.cosine[l] > 0.8f ? 20u : 80u) << l;
  }
  std::fill(f.cosine.begin(), f.cosine.end(), 0.5f);
  EXPECT_EQ(Counts(f, "B:cos3(50,0.4)|E:ext|raw"), std::vector<uint32_t>(24, 50))
      << "one class is no reason to squeeze";
}

TEST(Budgets, FlagsAreCounted) {
  auto rng = testing::Rng(96);
  SelectFixture f(70, rng);
  for (float& x : f.external) x = rng() % 4 == 0 ? 1.0f : 0.0f;
  const auto counts = Counts(f, "B:flag|E:ext|R:sink(2)|R:win(3)|raw");
  for (uint64_t head = 0; head < f.heads(); ++head) {
    uint32_t expected = 5;
    for (uint64_t t = 2; t < 67; ++t) expected += f.external[head * 70 + t] == 1 ? 1 : 0;
    EXPECT_EQ(counts[head], expected) << head;
  }
  std::fill(f.external.begin(), f.external.end(), 0.0f);
  EXPECT_EQ(Sum(Counts(f, "B:flag|E:ext|raw")), 0u);
}

TEST(Budgets, InputsThatAreMissingOrOfTheWrongSizeAreNamed) {
  auto rng = testing::Rng(95);
  SelectFixture f(20, rng);
  f.ExpectNamed("B:head(0.5)|E:knorm|raw", "head_scores", &SelectInputs::head_scores);
  f.ExpectNamed("B:class(0.5)|E:knorm|raw", "head_scores", &SelectInputs::head_scores);
  f.ExpectNamed("B:cos3(0.5)|E:knorm|raw", "hidden_cosine", &SelectInputs::hidden_cosine);
}

}  // namespace
}  // namespace kvasir
