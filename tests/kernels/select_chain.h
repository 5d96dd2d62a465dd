// SPDX-License-Identifier: Apache-2.0
// What the tests of selection share: a chain in memory, and all inputs an engine may bring, drawn by chance.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/select/select.h"
#include "kernels/stages/select_list.h"
#include "tests/support/seed.h"

namespace kvasir::testing {

class MemoryRows final : public ChainRows {
 public:
  MemoryRows(const KvLayout& layout, uint32_t tokens, std::mt19937_64& rng) : layout_(layout), tokens_(tokens) {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
      auto& all = rows_[static_cast<int>(tensor)];
      all.resize(uint64_t{layout.layers} * layout.kv_heads * tokens * layout.dim(tensor));
      for (float& x : all) x = normal(rng);
    }
  }
  /// One row.
  const float* At(uint64_t layer, uint64_t head, KvTensor tensor, uint64_t token) const {
    const uint64_t row = (layer * layout_.kv_heads + head) * tokens_ + token;
    return &rows_[static_cast<int>(tensor)][row * layout_.dim(tensor)];
  }
  void Load(uint32_t layer, uint32_t head, KvTensor tensor, std::span<float> out) override {
    const float* first = At(layer, head, tensor, 0);
    std::copy(first, first + out.size(), out.begin());
  }
  void Store(uint32_t layer, uint32_t head, KvTensor tensor, std::span<const float> rows) override {
    std::copy(rows.begin(), rows.end(), const_cast<float*>(At(layer, head, tensor, 0)));
  }

 private:
  KvLayout layout_;
  uint64_t tokens_;
  std::vector<float> rows_[2];
};

/// A chain of 2 KV heads and 4 query heads in each layer, with everything brought.
struct SelectFixture {
  KvLayout layout;
  uint32_t tokens;
  MemoryRows rows;
  std::vector<float> sums, queries, mean, covariance, external, cosine, head_scores;
  std::vector<TokenSpan> spans;
  SelectInputs inputs;

  SelectFixture(uint32_t n, std::mt19937_64& rng, KvLayout of = {3, 2, 8, 6, ElementType::kBfloat16},
                uint32_t window = 12)
      : layout(of), tokens(n), rows(of, n, rng) {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    const auto drawn = [&](uint64_t count) {
      std::vector<float> x(count);
      for (float& v : x) v = normal(rng);
      return x;
    };
    const uint64_t heads = layout.layers * layout.kv_heads, query_heads = heads * 2, dim = layout.key_dim;
    sums = drawn(heads * n);
    for (float& v : sums) v *= v;
    queries = drawn(query_heads * window * dim);
    mean = drawn(query_heads * dim);
    external = drawn(heads * n);
    cosine = drawn(layout.layers);
    head_scores = drawn(heads);
    for (float& v : head_scores) v *= v;
    // Sigma = L L' is a covariance.
    const auto factor = drawn(query_heads * dim * dim);
    covariance.resize(factor.size());
    for (uint64_t at = 0; at < covariance.size(); ++at) {
      const uint64_t base = at / (dim * dim) * dim * dim, i = at / dim % dim, j = at % dim;
      for (uint64_t c = 0; c <= std::min(i, j); ++c) {
        covariance[at] += 0.1f * factor[base + i * dim + c] * factor[base + j * dim + c];
      }
    }
    inputs.attention_sums = sums;
    inputs.window_queries = queries;
    inputs.query_heads = 4;
    inputs.window = window;
    inputs.query_mean = mean;
    inputs.query_covariance = covariance;
    inputs.external_scores = external;
    inputs.hidden_cosine = cosine;
    inputs.head_scores = head_scores;
    spans = {{n / 4, n / 2}, {n / 2, n - n / 4}};
    inputs.spans = spans;
  }
  uint64_t heads() const { return uint64_t{layout.layers} * layout.kv_heads; }
  SelectionContext Context(const SelectionSpec& spec) { return {layout, tokens, spec, inputs, rows}; }
  Result<Selection> Run(const std::string& spec) {
    const auto codec = Codec::Parse(spec);
    EXPECT_TRUE(codec.ok()) << spec << ": " << (codec.ok() ? "" : codec.error().message);
    return Select(*(*codec)->selection(), layout, tokens, inputs, rows);
  }
  /// That the spec runs as brought, and is refused by the input's name when it is missing or of the wrong size.
  void ExpectNamed(const std::string& spec, const std::string& input, std::span<const float> SelectInputs::*field) {
    ASSERT_TRUE(Run(spec).ok()) << spec;
    const std::span<const float> brought = inputs.*field;
    const std::vector<float> one(1);
    for (const auto wrong : {std::span<const float>(), std::span<const float>(one)}) {
      inputs.*field = wrong;
      const auto refused = Run(spec);
      ASSERT_FALSE(refused.ok()) << spec;
      EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
      EXPECT_NE(refused.error().message.find(input), std::string::npos) << refused.error().message;
    }
    inputs.*field = brought;
  }
  /// The scores that stage S gives.
  template <class S>
  std::vector<float> Scores(const typename S::Args& args, const SelectionSpec& spec = {}) {
    std::vector<float> scores(heads() * tokens);
    const SelectionContext context = Context(spec);
    const Result<bool> done = S::Score(args, context, scores);
    EXPECT_TRUE(done.ok()) << (done.ok() ? "" : done.error().message);
    return scores;
  }
};

/// What a rank that has heads [first, first + heads) of each layer brings: what is of other heads is not a number.
struct RankInputs {
  RankInputs(const SelectInputs& all, const KvLayout& layout, uint32_t first, uint32_t heads) : inputs(all) {
    size_t next = 0;
    for (const auto field : {&SelectInputs::attention_sums, &SelectInputs::window_queries, &SelectInputs::query_mean,
                             &SelectInputs::query_covariance, &SelectInputs::external_scores}) {
      const std::span<const float> brought = all.*field;
      std::vector<float>& own = memory[next++];
      own.assign(brought.size(), std::numeric_limits<float>::quiet_NaN());
      const uint64_t each = brought.size() / (layout.layers * layout.kv_heads);
      for (uint64_t layer = 0; layer < layout.layers; ++layer) {
        const uint64_t at = (layer * layout.kv_heads + first) * each;
        std::copy_n(brought.begin() + static_cast<ptrdiff_t>(at), heads * each,
                    own.begin() + static_cast<ptrdiff_t>(at));
      }
      inputs.*field = own;
    }
  }
  RankInputs(const RankInputs&) = delete;
  RankInputs& operator=(const RankInputs&) = delete;
  std::vector<float> memory[5];
  SelectInputs inputs;
};

}  // namespace kvasir::testing
