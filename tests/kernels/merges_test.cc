// SPDX-License-Identifier: Apache-2.0
// Goal: a merge leaves what its paper says, and attention over what is left is the paper's. Method: independent
// arithmetic in double.
#include <cmath>

#include "gtest/gtest.h"
#include "tests/kernels/select_chain.h"

namespace kvasir {
namespace {

using testing::SelectFixture;

double Logit(const float* q, const float* k) {
  double dot = 0;
  for (int c = 0; c < 8; ++c) dot += double{q[c]} * k[c];
  return dot / std::sqrt(8.0);
}

/// Attention of q over the stored rows of a head, each with its two weights.
std::vector<double> Attention(const SelectFixture& f, const Selection& s, uint64_t head, const float* q) {
  std::vector<double> out(6);
  double all = 0;
  for (uint64_t t = 0; t < f.tokens; ++t) {
    const uint64_t row = head * f.tokens + t;
    if (s.classes[row] == RowClass::kDropped) continue;
    const double e = std::exp(Logit(q, f.rows.At(head / 2, head % 2, KvTensor::kKey, t)));
    const double weights[2] = {s.weights.empty() ? 1 : s.weights[2 * row],
                               s.weights.empty() ? 1 : s.weights[2 * row + 1]};
    all += weights[0] * e;
    for (size_t c = 0; c < 6; ++c) {
      out[c] += weights[1] * e * f.rows.At(head / 2, head % 2, KvTensor::kValue, t)[c];
    }
  }
  for (double& x : out) x /= all;
  return out;
}

TEST(Merges, CompensationTokenIsTheMeanAndItsCountTravels) {
  auto rng = testing::Rng(100);
  SelectFixture f(60, rng);
  const testing::MemoryRows before = f.rows;
  const auto plain = f.Run("B:class(0.5)|E:late|R:sink(4)|R:win(16)|raw");
  const auto merged = f.Run("B:class(0.5)|E:late|M:comp|R:sink(4)|R:win(16)|raw");
  ASSERT_TRUE(plain.ok() && merged.ok());
  uint32_t heads = 0;
  for (uint64_t head = 0; head < f.heads(); ++head) {
    const bool retrieves = plain->counts[head] == 60;
    heads += retrieves ? 0 : 1;
    EXPECT_EQ(merged->counts[head], retrieves ? 60u : 21u);
    for (uint64_t t = 0; t < 60; ++t) {
      const uint64_t row = head * 60 + t;
      const bool stands = !retrieves && t == 4;
      EXPECT_EQ(merged->classes[row], stands ? RowClass::kKept : plain->classes[row]);
      for (int w = 0; w < 2; ++w) EXPECT_EQ(merged->weights[2 * row + static_cast<uint64_t>(w)], stands ? 40.0f : 1.0f);
      for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
        for (uint32_t c = 0; c < f.layout.dim(tensor); ++c) {
          double expected = before.At(head / 2, head % 2, tensor, t)[c];
          if (stands) {
            expected = 0;
            for (uint64_t s = 43; s >= 4; --s) expected += before.At(head / 2, head % 2, tensor, s)[c] / 40.0;
          }
          ASSERT_NEAR(f.rows.At(head / 2, head % 2, tensor, t)[c], expected, stands ? 1e-6 : 0.0);
        }
      }
    }
  }
  EXPECT_EQ(heads, 3u);
}

TEST(Merges, WhereAllDroppedTokensAreAlikeAttentionIsThatOfAllTokens) {
  auto rng = testing::Rng(101);
  SelectFixture f(40, rng);
  // Tokens 2 to 29 of every head are the same one: what a compensation token cannot lose.
  std::vector<float> rows(40 * 8);
  for (uint32_t i = 0; i < f.heads(); ++i) {
    for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
      const uint32_t dim = f.layout.dim(tensor);
      const std::span<float> of_head = std::span(rows).first(40 * dim);
      f.rows.Load(i / 2, i % 2, tensor, of_head);
      for (uint32_t t = 3; t < 30; ++t) std::copy_n(&rows[2 * dim], dim, &rows[t * dim]);
      f.rows.Store(i / 2, i % 2, tensor, of_head);
    }
  }
  const auto all = f.Run("B:uni(40)|E:late|raw");
  ASSERT_TRUE(all.ok());
  const float* q = f.queries.data();
  std::vector<std::vector<double>> full;
  for (uint64_t head = 0; head < f.heads(); ++head) full.push_back(Attention(f, *all, head, q));
  const auto merged = f.Run("B:uni(12)|E:late|M:comp|R:sink(2)|R:win(10)|raw");
  ASSERT_TRUE(merged.ok());
  for (uint64_t head = 0; head < f.heads(); ++head) {
    EXPECT_EQ(merged->counts[head], 13u);
    const auto got = Attention(f, *merged, head, q);
    for (size_t c = 0; c < 6; ++c) EXPECT_NEAR(got[c], full[head][c], 1e-6);
  }
}

TEST(Merges, NothingDroppedIsNothingMerged) {
  auto rng = testing::Rng(102);
  SelectFixture f(20, rng);
  const auto kept = f.Run("B:uni(20)|E:late|M:comp|raw");
  ASSERT_TRUE(kept.ok());
  EXPECT_TRUE(kept->weights.empty());
  const auto demoting = Codec::Parse("B:uni(5)|E:late(demote)|M:comp|int(8,tok)|d:int(2,tok)");
  ASSERT_FALSE(demoting.ok());
  EXPECT_NE(demoting.error().message.find("a scorer that drops"), std::string::npos) << demoting.error().message;
}

}  // namespace
}  // namespace kvasir
