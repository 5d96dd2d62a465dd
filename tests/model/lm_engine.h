// SPDX-License-Identifier: Apache-2.0
// A pretended engine for tests of the reference model: a small random model, a Runner, and pages of any shape.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <memory>
#include <span>
#include <vector>

#include "tests/model/attention.h"
#include "tests/model/lm.h"
#include "tests/model/lm_math.h"
#include "tests/support/seed.h"

namespace kvasir::model {

inline constexpr uint32_t kTokens = 133;

/// 3 layers, grouped heads, nothing a power of two that need not be.
inline ModelConfig SmallConfig() {
  ModelConfig config;
  config.layers = 3;
  config.d_model = 96;
  config.query_heads = 8;
  config.kv_heads = 4;
  config.head_dim = 32;
  config.mlp_dim = 160;
  config.context_max = 512;
  return config;
}

inline std::shared_ptr<const Model> SmallModel() {
  static const std::shared_ptr<const Model> model = *Model::Random(SmallConfig(), testing::Seed());
  return model;
}

inline std::vector<uint32_t> SomeTokens(uint32_t count) {
  auto random = testing::Rng(1);
  std::vector<uint32_t> tokens(count);
  for (uint32_t& token : tokens) token = static_cast<uint32_t>(random() % 256);
  return tokens;
}

inline std::vector<uint32_t> Bits(std::span<const float> values) {
  std::vector<uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

/// One way to compute: how heads are spread, how pages lie, who computes.
struct Way {
  std::vector<uint32_t> heads_of_ranks = {4};
  PageOrder order = PageOrder::kTokensFirst;
  uint32_t page_tokens = 16;
  uint64_t shuffle_seed = 0;
  uint32_t threads = 1;
  const Math* math = nullptr;
  ElementType element = ElementType::kBfloat16;
};

/// An engine: a Runner and the pages of its ranks.
class Engine {
 public:
  explicit Engine(const Way& way, std::shared_ptr<const Model> model = SmallModel())
      : runner_(model, {.threads = way.threads, .math = way.math}) {
    uint32_t first_head = 0;
    for (const uint32_t heads : way.heads_of_ranks) {
      pages_.emplace_back(PagedKvOptions{.layout = model->layout(way.element),
                                         .first_head = first_head,
                                         .heads = heads,
                                         .page_tokens = way.page_tokens,
                                         .pages = 256 / way.page_tokens,
                                         .order = way.order,
                                         .shuffle_seed = way.shuffle_seed});
      first_head += heads;
    }
    for (const PagedKv& pages : pages_) ranks_.push_back(pages.rank());
  }

  Chunk MakeChunk(std::span<const uint32_t> tokens, uint32_t first) const {
    Chunk chunk;
    chunk.tokens = tokens;
    chunk.first_position = first;
    chunk.ranks = ranks_;
    chunk.logits = LogitsOf::kAll;
    return chunk;
  }
  /// Appends the bits of all logits of positions [begin, end).
  void Compute(std::span<const uint32_t> tokens, size_t begin, size_t end, std::vector<uint32_t>& logits) {
    const Result<std::vector<float>> got =
        runner_.Prefill(MakeChunk(tokens.subspan(begin, end - begin), static_cast<uint32_t>(begin)));
    ASSERT_TRUE(got.ok()) << got.error().message;
    const std::vector<uint32_t> bits = Bits(*got);
    logits.insert(logits.end(), bits.begin(), bits.end());
  }
  /// K and V of positions [0, tokens) of all layers and heads, as the cache holds them.
  std::vector<uint32_t> CachedBits(size_t tokens) const {
    std::vector<float> row(SmallConfig().head_dim);
    std::vector<uint32_t> bits;
    for (uint32_t layer = 0; layer < SmallConfig().layers; ++layer) {
      for (const RankKv& rank : ranks_) {
        for (uint32_t head = rank.cache->first_head; head < rank.cache->first_head + rank.cache->heads; ++head) {
          for (size_t position = 0; position < tokens; ++position) {
            for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
              LoadRow(rank, {layer, tensor, head, position}, row.data());
              for (const float value : row) bits.push_back(std::bit_cast<uint32_t>(value));
            }
          }
        }
      }
    }
    return bits;
  }
  Runner& runner() { return runner_; }
  std::vector<PagedKv>& pages() { return pages_; }
  std::span<const RankKv> ranks() const { return ranks_; }

 private:
  Runner runner_;
  std::vector<PagedKv> pages_;
  std::vector<RankKv> ranks_;
};

}  // namespace kvasir::model
