// SPDX-License-Identifier: Apache-2.0
// Goal: the reference model gives the same bits however the work is cut. Method: random weights, one text, many ways to
// compute it (chunks, ranks, page orders, threads, SIMD bodies); logits and cached K and V are compared bit by bit.
#include "tests/model/lm.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "tests/model/lm_engine.h"

namespace kvasir::model {
namespace {

/// Everything a way gives: bits of all logits, and of the cache.
using Outcome = std::pair<std::vector<uint32_t>, std::vector<uint32_t>>;

Outcome Whole(const Way& way) {
  const std::vector<uint32_t> tokens = SomeTokens(kTokens);
  Engine engine(way);
  Outcome outcome;
  engine.Compute(tokens, 0, tokens.size(), outcome.first);
  outcome.second = engine.CachedBits(tokens.size());
  return outcome;
}

const Outcome& Expected() {
  static const Outcome outcome = Whole({});
  return outcome;
}

TEST(LmTest, LogitsAreFiniteAndDiffer) {
  const std::vector<uint32_t>& bits = Expected().first;
  ASSERT_EQ(bits.size(), size_t{kTokens} * 256);
  for (const uint32_t b : bits) ASSERT_TRUE(std::isfinite(std::bit_cast<float>(b)));
  EXPECT_FALSE(std::equal(bits.begin(), bits.begin() + 256, bits.end() - 256));
}

TEST(LmTest, AllSpreadsOfHeadsAgree) {
  for (const std::vector<uint32_t>& heads : {std::vector<uint32_t>{2, 2}, {1, 1, 1, 1}, {1, 3}, {3, 1}}) {
    EXPECT_EQ(Whole({.heads_of_ranks = heads}), Expected())
        << heads.size() << " ranks, " << heads[0] << " heads in the first";
  }
}

TEST(LmTest, AllPageGeometriesAgree) {
  for (const PageOrder order : {PageOrder::kTokensFirst, PageOrder::kHeadsFirst}) {
    for (const uint32_t page_tokens : {1u, 8u, 16u, 64u}) {
      const Way way{
          .heads_of_ranks = {2, 2}, .order = order, .page_tokens = page_tokens, .shuffle_seed = testing::Seed() | 1};
      EXPECT_EQ(Whole(way), Expected()) << page_tokens << " tokens a page, order " << static_cast<int>(order);
    }
  }
}

TEST(LmTest, AnyNumberOfThreadsAgrees) {
  for (const uint32_t threads : {2u, 3u}) {
    EXPECT_EQ(Whole({.heads_of_ranks = {2, 2}, .threads = threads}), Expected()) << threads;
  }
}

TEST(LmTest, AllSimdBodiesAgree) {
  for (const Math* math : MathBodies()) EXPECT_EQ(Whole({.math = math}), Expected()) << math->name;
}

TEST(LmTest, ResumedAnywhereEqualsWhole) {
  const std::vector<uint32_t> tokens = SomeTokens(kTokens);
  for (const size_t cut : {1u, 7u, 15u, 16u, 17u, 31u, 32u, 64u, 65u, 100u, 132u}) {
    Engine engine({.heads_of_ranks = {2, 2}});
    Outcome outcome;
    engine.Compute(tokens, 0, cut, outcome.first);
    engine.Compute(tokens, cut, tokens.size(), outcome.first);
    outcome.second = engine.CachedBits(tokens.size());
    EXPECT_EQ(outcome, Expected()) << "cut at " << cut;
  }
}

TEST(LmTest, RandomCutsEqualWhole) {
  const std::vector<uint32_t> tokens = SomeTokens(kTokens);
  auto random = testing::Rng(2);
  Engine engine({.order = PageOrder::kHeadsFirst, .threads = 2});
  Outcome outcome;
  for (size_t begin = 0; begin < tokens.size();) {
    const size_t end = std::min<size_t>(tokens.size(), begin + 1 + random() % 24);
    engine.Compute(tokens, begin, end, outcome.first);
    begin = end;
  }
  outcome.second = engine.CachedBits(tokens.size());
  EXPECT_EQ(outcome, Expected());
}

TEST(LmTest, OneTokenAtATimeEqualsWhole) {
  const std::vector<uint32_t> tokens = SomeTokens(kTokens);
  Engine engine({.heads_of_ranks = {1, 3}});
  Outcome outcome;
  for (uint32_t position = 0; position < tokens.size(); ++position) {
    const Result<std::vector<float>> logits = engine.runner().Decode(tokens[position], position, engine.ranks());
    ASSERT_TRUE(logits.ok()) << logits.error().message;
    const std::vector<uint32_t> bits = Bits(*logits);
    outcome.first.insert(outcome.first.end(), bits.begin(), bits.end());
  }
  outcome.second = engine.CachedBits(tokens.size());
  EXPECT_EQ(outcome, Expected());
}

TEST(LmTest, CopiedPagesContinueInAnotherEngine) {
  const std::vector<uint32_t> tokens = SomeTokens(kTokens);
  constexpr size_t kCut = 64;
  Engine writer({.heads_of_ranks = {4}});
  Engine reader({.heads_of_ranks = {1, 3}, .order = PageOrder::kHeadsFirst, .page_tokens = 8, .shuffle_seed = 5});
  std::vector<uint32_t> ignored, tail;
  writer.Compute(tokens, 0, kCut, ignored);
  std::vector<float> row(SmallConfig().head_dim);
  Chunk chunk = reader.MakeChunk(std::span(tokens).subspan(kCut), kCut);
  uint32_t copied = 0;
  chunk.before_layer = [&](uint32_t layer) {  // layer by layer, as a fetch arrives
    EXPECT_EQ(layer, copied++);
    for (const RankKv& rank : reader.ranks()) {
      for (uint32_t head = rank.cache->first_head; head < rank.cache->first_head + rank.cache->heads; ++head) {
        for (size_t position = 0; position < kCut; ++position) {
          for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
            LoadRow(writer.ranks()[0], {layer, tensor, head, position}, row.data());
            StoreRow(rank, {layer, tensor, head, position}, row.data());
          }
        }
      }
    }
    return true;
  };
  const Result<std::vector<float>> logits = reader.runner().Prefill(chunk);
  ASSERT_TRUE(logits.ok()) << logits.error().message;
  const std::vector<uint32_t>& all = Expected().first;
  EXPECT_EQ(Bits(*logits), std::vector<uint32_t>(all.begin() + kCut * 256, all.end()));
}

TEST(LmTest, ReadingWhatWasNeverWrittenShows) {
  const std::vector<uint32_t> tokens = SomeTokens(8);
  for (const ElementType element :
       {ElementType::kFloat32, ElementType::kFloat16, ElementType::kBfloat16, ElementType::kFloat8E4M3}) {
    Engine engine({.element = element});
    const Result<std::vector<float>> logits = engine.runner().Prefill(engine.MakeChunk(tokens, 20));
    ASSERT_TRUE(logits.ok());
    for (const float logit : *logits) ASSERT_TRUE(std::isnan(logit)) << static_cast<int>(element);
  }
}

TEST(LmTest, CacheFormatIsTheOnlyRounding) {
  const std::vector<uint32_t> tokens = SomeTokens(kTokens);
  Engine exact({.element = ElementType::kFloat32});
  std::vector<uint32_t> want;
  exact.Compute(tokens, 0, tokens.size(), want);
  for (const auto& [element, tolerance] : {std::pair{ElementType::kFloat16, 0.05f}, {ElementType::kBfloat16, 0.3f}}) {
    Engine engine({.element = element});
    std::vector<uint32_t> got;
    engine.Compute(tokens, 0, tokens.size(), got);
    float worst = 0;
    for (size_t i = 0; i < got.size(); ++i) {
      worst = std::max(worst, std::abs(std::bit_cast<float>(got[i]) - std::bit_cast<float>(want[i])));
    }
    EXPECT_GT(worst, 0.0f);
    EXPECT_LT(worst, tolerance);
  }
}

TEST(LmTest, LogitsOfNoneLastAndAll) {
  const std::vector<uint32_t> tokens = SomeTokens(kTokens);
  Engine engine({});
  Chunk chunk = engine.MakeChunk(tokens, 0);
  chunk.logits = LogitsOf::kNone;
  EXPECT_TRUE(engine.runner().Prefill(chunk)->empty());
  chunk.logits = LogitsOf::kLast;
  const std::vector<uint32_t>& all = Expected().first;
  EXPECT_EQ(Bits(*engine.runner().Prefill(chunk)), std::vector<uint32_t>(all.end() - 256, all.end()));
}

TEST(LmTest, HooksRunInOrderAndMayStop) {
  const std::vector<uint32_t> tokens = SomeTokens(5);
  Engine engine({.threads = 2});
  Chunk chunk = engine.MakeChunk(tokens, 0);
  std::string seen;
  chunk.before_layer = [&](uint32_t layer) {
    seen += 'b';
    seen += std::to_string(layer);
    return true;
  };
  chunk.layer_written = [&](uint32_t layer) {
    seen += 'w';
    seen += std::to_string(layer);
    std::vector<float> row(SmallConfig().head_dim);
    LoadRow(engine.ranks()[0], {layer, KvTensor::kValue, 3, 4}, row.data());
    EXPECT_FALSE(std::isnan(row[0]));
    return layer < 1;
  };
  const Result<std::vector<float>> stopped = engine.runner().Prefill(chunk);
  EXPECT_EQ(seen, "b0w0b1w1");
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(stopped.error().message, "layer_written stopped at layer 1");
}

TEST(LmTest, WrongChunksAreNamed) {
  const std::vector<uint32_t> tokens = SomeTokens(5), beyond = {256}, many(300, 1);
  Engine engine({.heads_of_ranks = {2, 2}});
  const auto message = [&](const Chunk& chunk) {
    const Result<std::vector<float>> got = engine.runner().Prefill(chunk);
    return got.ok() ? std::string("accepted") : got.error().message;
  };
  EXPECT_EQ(message(engine.MakeChunk({}, 0)), "chunk: no tokens");
  EXPECT_EQ(message(engine.MakeChunk(tokens, 510)), "chunk: position 514 is beyond the context of 512");
  EXPECT_EQ(message(engine.MakeChunk(beyond, 0)), "chunk: token 256 is outside the vocabulary");
  EXPECT_EQ(message(engine.MakeChunk(many, 0)), "chunk: a rank has too few pages for position 299");
  Chunk chunk = engine.MakeChunk(tokens, 0);
  chunk.ranks = chunk.ranks.first(1);
  EXPECT_EQ(message(chunk), "chunk: KV head 2 is held by 0 ranks, not 1");
  const std::vector<RankKv> twice = {engine.ranks()[0], engine.ranks()[0], engine.ranks()[1]};
  chunk.ranks = twice;
  EXPECT_EQ(message(chunk), "chunk: KV head 0 is held by 2 ranks, not 1");
  Engine other({}, *Model::Random({}, 1));
  chunk.ranks = other.ranks();
  EXPECT_EQ(message(chunk), "chunk: a rank's cache has another layout than the model");
}

TEST(LmTest, DigestsNameTheWeights) {
  const std::string digest = SmallModel()->WeightsDigest();
  EXPECT_EQ(digest.size(), 64u);
  EXPECT_EQ((*Model::Random(SmallConfig(), testing::Seed()))->WeightsDigest(), digest);
  EXPECT_NE((*Model::Random(SmallConfig(), testing::Seed() + 1))->WeightsDigest(), digest);
}

TEST(LmTest, WrongConfigsAreNamed) {
  ModelConfig config = SmallConfig();
  config.kv_heads = 3;
  EXPECT_EQ(CheckConfig(config).error().message, "query_heads must be a multiple of kv_heads");
  config = SmallConfig();
  config.mlp_dim = 100;
  EXPECT_EQ(CheckConfig(config).error().code, ErrorCode::kUnimplemented);
  config = SmallConfig();
  config.layers = 1u << 30;
  EXPECT_EQ(Model::Random(config, 1).error().code, ErrorCode::kInvalidArgument);
}

TEST(LmTest, GreedyTakesTheLowestOfEqualLogits) {
  EXPECT_EQ(Greedy(std::vector<float>{1, 3, 2, 3}), 1u);
  EXPECT_EQ(Greedy(std::vector<float>{-1}), 0u);
}

TEST(LmTest, LikelihoodOfUniformLogitsIsLogOfVocabulary) {
  const std::vector<float> logits(3 * 256, 7.0f);
  EXPECT_NEAR(NegativeLogLikelihood(logits, std::vector<uint32_t>{0, 5, 255}), 3 * std::log(256.0), 1e-12);
  EXPECT_TRUE(std::isnan(NegativeLogLikelihood(std::vector<float>(256, std::nanf("")), std::vector<uint32_t>{0})));
}

}  // namespace
}  // namespace kvasir::model
