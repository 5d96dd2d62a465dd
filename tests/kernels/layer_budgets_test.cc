// SPDX-License-Identifier: Apache-2.0
// Goal: budgets and scores by attention of the last queries, and what is passed on from a layer, are what their papers
// say. Method: independent arithmetic in double over drawn chains; tests/seeds does the same over a model's.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "gtest/gtest.h"
#include "tests/kernels/select_chain.h"

namespace kvasir {
namespace {

using testing::SelectFixture;

constexpr uint32_t kTokens = 80, kWindow = 32;
constexpr KvLayout kLayout{3, 2, 8, 6, ElementType::kBfloat16};

/// Attention of window query `w` (0 = oldest of the last kWindow) of a query head, on all tokens it sees.
std::vector<double> Attention(const SelectFixture& f, uint64_t query_head, uint64_t w) {
  const uint64_t head = query_head / 2;
  std::vector<double> a(kTokens - kWindow + w + 1);
  double all = 0;
  for (uint64_t t = 0; t < a.size(); ++t) {
    const float* k = f.rows.At(head / 2, head % 2, KvTensor::kKey, t);
    double dot = 0;
    for (uint64_t c = 8; c-- > 0;) dot += double{f.queries[(query_head * kWindow + w) * 8 + c]} * k[c];
    all += a[t] = std::exp(dot / std::sqrt(8.0));
  }
  for (double& x : a) x /= all;
  return a;
}

struct Moments {
  std::vector<double> mean = std::vector<double>(kTokens - kWindow), variance = mean;
};
Moments MomentsOfHead(const SelectFixture& f, uint64_t query_head) {
  Moments m;
  for (uint64_t t = 0; t < m.mean.size(); ++t) {
    for (uint64_t w = 0; w < kWindow; ++w) m.mean[t] += Attention(f, query_head, w)[t] / kWindow;
    for (uint64_t w = 0; w < kWindow; ++w) {
      m.variance[t] += std::pow(Attention(f, query_head, w)[t] - m.mean[t], 2) / kWindow;
    }
  }
  return m;
}

/// The budgets of the layers are `exempt` and shares of what is left by `weights`, to a token; their sum is exact.
void ExpectShares(SelectFixture& f, const std::string& spec, std::vector<double> weights, uint32_t mean,
                  uint32_t exempt) {
  const auto selection = f.Run(spec);
  ASSERT_TRUE(selection.ok()) << selection.error().message;
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0), total = 3.0 * (mean - exempt);
  uint32_t sum = 0;
  for (uint64_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(selection->counts[i], exempt + weights[i / 2] / all * total, 1.0) << spec << ", head " << i;
    sum += selection->counts[i];
  }
  EXPECT_EQ(sum, 6 * mean) << spec;
}

TEST(LayerBudgets, EntropyIsCakes) {
  auto rng = testing::Rng(110);
  SelectFixture f(kTokens, rng, kLayout, kWindow);
  for (const auto& [taus, tau1, tau2] : {std::tuple{"100,100", 1.0, 1.0}, {"160,40", 1.6, 0.4}}) {
    std::vector<double> weights;
    for (uint64_t layer = 0; layer < 3; ++layer) {
      double entropy = 0, variance = 0;
      for (uint64_t q = layer * 4; q < layer * 4 + 4; ++q) {
        const Moments m = MomentsOfHead(f, q);
        for (uint64_t t = 0; t < m.mean.size(); ++t) {
          entropy -= m.mean[t] * std::log(m.mean[t]) / 4;
          variance += m.variance[t] / 4;
        }
      }
      weights.push_back(std::pow(entropy, 1 / tau1) * std::pow(variance, 1 / tau2));
    }
    ExpectShares(f, std::string("B:ent(46,") + taus + ")|E:mv|R:win(32)|raw", weights, 46, 32);
  }
}

TEST(LayerBudgets, UncertaintyIsZigZags) {
  auto rng = testing::Rng(111);
  SelectFixture f(kTokens, rng, kLayout, kWindow);
  std::vector<double> sizes(3);
  for (uint64_t q = 0; q < 12; ++q) {
    std::vector<double> mean = MomentsOfHead(f, q).mean;
    std::sort(mean.rbegin(), mean.rend());
    const double all = std::accumulate(mean.begin(), mean.end(), 0.0);
    double held = 0;
    for (uint64_t t = 0; held < 0.7 * all; ++t) {
      held += mean[t];
      sizes[q / 4] += 0.25;
    }
  }
  ExpectShares(f, "B:unc(46,0.7)|E:ext|R:win(32)|raw", sizes, 46, 32);
}

TEST(LayerBudgets, VarianceIsD2os) {
  auto rng = testing::Rng(112);
  SelectFixture f(kTokens, rng, kLayout, kWindow);
  std::vector<double> weights;
  for (uint64_t layer = 0; layer < 3; ++layer) {
    std::vector<double> s(kTokens);
    for (uint64_t i = 0; i < 2 * kTokens; ++i) s[i % kTokens] += f.sums[layer * 2 * kTokens + i];
    const double mean = std::accumulate(s.begin(), s.end(), 0.0) / kTokens;
    double variance = 0;
    for (const double x : s) variance += std::pow(x / mean - 1, 2) / kTokens;
    weights.push_back(std::exp(-variance));
  }
  ExpectShares(f, "B:var(40)|E:acc|raw", weights, 40, 0);
}

TEST(LayerBudgets, GlobalCountsAreDynamicKvs) {
  auto rng = testing::Rng(113);
  SelectFixture f(kTokens, rng, kLayout, kWindow);
  for (uint64_t i = 0; i < f.external.size(); ++i) f.external[i] += i < f.external.size() / 3 ? 0.7f : 0.0f;
  std::vector<std::pair<float, uint64_t>> sorted;
  for (uint64_t i = 0; i < f.external.size(); ++i) sorted.emplace_back(-f.external[i], i);
  std::sort(sorted.begin(), sorted.end());
  for (const auto& [least, safe] : {std::pair{"0", 0.0}, {"0.25", 0.25}, {"1", 1.0}}) {
    std::vector<double> weights(3, safe * 20);
    for (uint64_t i = 0; i < 6 * 20; ++i) weights[sorted[i].second / (2 * kTokens)] += (1 - safe) / 2;
    ExpectShares(f, std::string("B:gtopk(20,") + least + ")|E:ext|raw", weights, 20, 0);
  }
}

TEST(LayerBudgets, BehindALayerOnlyWhatItPassedOnExists) {
  auto rng = testing::Rng(114);
  SelectFixture f(kTokens, rng, kLayout, kWindow);
  const auto selection = f.Run("B:tsp(30,1,0.25)|E:ext|E:tsp(1,0.25)|R:sink(2)|raw");
  ASSERT_TRUE(selection.ok()) << selection.error().message;
  EXPECT_EQ(selection->counts, (std::vector<uint32_t>{30, 30, 30, 30, 20, 20}));
  std::vector<std::pair<double, uint64_t>> passed;
  for (uint64_t t = 2; t < kTokens; ++t) {
    passed.emplace_back(-double{f.external[2 * kTokens + t]} - f.external[3 * kTokens + t], t);
  }
  std::sort(passed.begin(), passed.end());
  std::vector<bool> exists(kTokens);
  exists[0] = exists[1] = true;
  for (uint64_t i = 0; i < 18; ++i) exists[passed[i].second] = true;
  for (uint64_t i = 0; i < 2 * kTokens; ++i) {
    EXPECT_EQ(selection->classes[4 * kTokens + i] != RowClass::kDropped, exists[i % kTokens]) << i;
  }
  // Before it, nothing changed.
  const auto plain = f.Run("B:uni(30)|E:ext|R:sink(2)|raw");
  EXPECT_TRUE(std::equal(plain->classes.begin(), plain->classes.begin() + 4 * kTokens, selection->classes.begin()));
}

TEST(LayerBudgets, MeanAndVarianceScoreAsInCake) {
  auto rng = testing::Rng(115);
  SelectFixture f(kTokens, rng, kLayout, kWindow);
  const auto scores = f.Scores<MeanVarianceScorer>({50, kWindow, 5, 0});
  for (uint64_t head = 0; head < 6; ++head) {
    std::vector<double> padded(kTokens - kWindow + 4);
    for (uint64_t q = 2 * head; q < 2 * head + 2; ++q) {
      const Moments m = MomentsOfHead(f, q);
      for (uint64_t t = 0; t < m.mean.size(); ++t) padded[t + 2] += (m.mean[t] + 50 * m.variance[t]) / 2;
    }
    for (uint64_t t = 0; t < kTokens; ++t) {
      if (t >= kTokens - kWindow) {
        EXPECT_EQ(scores[head * kTokens + t], kKeepFirst);
        continue;
      }
      const double expected = std::accumulate(&padded[t], &padded[t] + 5, 0.0) / 5;
      ASSERT_NEAR(scores[head * kTokens + t], expected, 1e-5 * expected) << t;
    }
  }
}

TEST(LayerBudgets, PoliciesAreFastGens) {
  auto rng = testing::Rng(117);
  SelectFixture f(kTokens, rng, kLayout, kWindow);
  f.spans = {{0, 2, TokenSpan::Kind::kSpecial},
             {7, 8, TokenSpan::Kind::kPunctuation},
             {30, 33, TokenSpan::Kind::kPunctuation}};
  f.inputs.spans = f.spans;
  for (const auto& [tau, share] : {std::pair{0.5, 0.3}, {0.02, 0.3}, {0.08, 0.2}, {0.9, 0.3}, {0.99, 0.1}}) {
    const auto selection = f.Run("B:flag|E:pol(" + std::to_string(tau) + "," + std::to_string(share) + ")|raw");
    ASSERT_TRUE(selection.ok()) << selection.error().message;
    const auto of_share = static_cast<size_t>(share * kTokens + 0.5);
    for (uint64_t head = 0; head < 6; ++head) {
      std::vector<double> paid(kTokens);
      for (uint64_t q = 2 * head; q < 2 * head + 2; ++q) {
        for (uint64_t w = 0; w < kWindow; ++w) {
          const std::vector<double> a = Attention(f, q, w);
          for (uint64_t t = 0; t < a.size(); ++t) paid[t] += a[t] / (2 * kWindow);
        }
      }
      std::vector<std::pair<float, uint64_t>> frequent;
      for (uint64_t t = 0; t < kTokens; ++t) frequent.emplace_back(-f.sums[head * kTokens + t], t);
      std::sort(frequent.begin(), frequent.end());
      std::vector<bool> keeps(kTokens);
      double held = 0;
      const auto add = [&](uint64_t t) {
        if (!keeps[t]) held += paid[t];
        keeps[t] = true;
      };
      add(0), add(1);
      if (held < tau) add(7), add(30), add(31), add(32);
      for (size_t i = 0, more = held < tau; more != 0 && i < of_share; ++i) add(frequent[i].second);
      for (size_t i = 0, more = held < tau; more != 0 && i < of_share; ++i) add(kTokens - 1 - i);
      for (size_t i = 0, more = held < tau; more != 0 && i < kTokens; ++i) add(i);
      for (uint64_t t = 0; t < kTokens; ++t) {
        EXPECT_EQ(selection->classes[head * kTokens + t] != RowClass::kDropped, keeps[t]) << tau << ", head " << head;
      }
    }
  }
  for (auto* input : {&f.inputs.attention_sums, &f.inputs.window_queries}) {
    const auto brought = *input;
    *input = {};
    EXPECT_FALSE(f.Run("B:flag|E:pol|raw").ok());
    *input = brought;
  }
  f.inputs.spans = {};
  EXPECT_NE(f.Run("B:flag|E:pol|raw").error().message.find("spans"), std::string::npos);
}

TEST(LayerBudgets, InputsThatAreMissingOrTooFewAreNamed) {
  auto rng = testing::Rng(116);
  for (const char* spec : {"B:ent(40)|E:ext|raw", "B:unc(40)|E:ext|raw", "B:uni(40)|E:mv|raw"}) {
    SelectFixture f(kTokens, rng, kLayout, kWindow);
    ASSERT_TRUE(f.Run(spec).ok()) << spec;
    SelectFixture few(kTokens, rng, kLayout, kWindow - 1);
    for (SelectFixture* wrong : {&f, &few}) {
      if (wrong == &f) f.inputs.window_queries = {};
      const auto refused = wrong->Run(spec);
      ASSERT_FALSE(refused.ok()) << spec;
      EXPECT_NE(refused.error().message.find("window_queries"), std::string::npos) << refused.error().message;
    }
  }
  SelectFixture f(kTokens, rng, kLayout, kWindow);
  f.inputs.attention_sums = {};
  const auto refused = f.Run("B:var(40)|E:ext|raw");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("attention_sums"), std::string::npos);
}

}  // namespace
}  // namespace kvasir
