// SPDX-License-Identifier: Apache-2.0
// Goal: attention over ragged rows is the attention of the formula, and that of pages where no row is missing. Method:
// a context computed into pages, copied out as rows, continued both ways, bits compared; single heads against double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "kernels/number_formats.h"
#include "tests/model/lm_engine.h"
#include "tests/model/ragged_kv.h"

namespace kvasir::model {
namespace {

/// Owns what a RaggedKv borrows.
struct Rows {
  struct Layer {
    std::vector<uint32_t> cu_lengths = {0};
    std::vector<std::byte> keys, values;
    std::vector<float> weights;
  };
  std::vector<Layer> layers;
  std::vector<RaggedLayer> views;
  RaggedKv kv;

  const RaggedKv& View() {
    views.clear();
    for (const Layer& l : layers) views.push_back({l.cu_lengths, l.keys, l.values, l.weights});
    kv.layers = views;
    return kv;
  }
};

/// Says whether a head of a layer keeps a token.
using Keeps = std::function<bool(uint32_t layer, uint32_t head, uint32_t token)>;

Rows RowsOfPages(const RankKv& rank, uint32_t first_head, uint32_t heads, uint32_t tokens, const Keeps& keeps) {
  const KvLayout& layout = rank.cache->layout;
  Rows rows;
  rows.kv = {layout, first_head, heads, tokens, {}};
  std::vector<float> row(layout.key_dim);
  std::vector<std::byte> bytes(layout.key_dim * ElementBytes(layout.element));
  for (uint32_t layer = 0; layer < layout.layers; ++layer) {
    Rows::Layer& to = rows.layers.emplace_back();
    for (uint32_t head = first_head; head < first_head + heads; ++head) {
      to.cu_lengths.push_back(to.cu_lengths.back());
      for (uint32_t token = 0; token < tokens; ++token) {
        if (!keeps(layer, head, token)) continue;
        ++to.cu_lengths.back();
        for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
          LoadRow(rank, {layer, tensor, head, token}, row.data());
          for (uint32_t i = 0; i < layout.key_dim; ++i) {
            StoreElement(layout.element, row[i],
                         reinterpret_cast<uint8_t*>(bytes.data()) + i * ElementBytes(layout.element));
          }
          std::vector<std::byte>& into = tensor == KvTensor::kKey ? to.keys : to.values;
          into.insert(into.end(), bytes.begin(), bytes.end());
        }
      }
    }
  }
  return rows;
}

bool All(uint32_t, uint32_t, uint32_t) { return true; }

/// The bits of the logits of positions [cut, kTokens), in steps of `step` tokens, over `rows` of [0, cut).
std::vector<uint32_t> Continued(const Way& way, std::vector<Rows>& rows, uint32_t cut, uint32_t step) {
  const std::vector<uint32_t> tokens = SomeTokens(kTokens);
  std::vector<RaggedKv> context;
  for (Rows& of_rank : rows) context.push_back(of_rank.View());
  Engine engine(way);  // its pages of the context are NaN
  std::vector<uint32_t> bits;
  for (uint32_t first = cut; first < kTokens; first += step) {
    Chunk chunk = engine.MakeChunk(std::span(tokens).subspan(first, std::min(step, kTokens - first)), first);
    chunk.context = context;
    const Result<std::vector<float>> logits = engine.runner().Prefill(chunk);
    EXPECT_TRUE(logits.ok()) << logits.error().message;
    if (!logits.ok()) break;
    const std::vector<uint32_t> more = Bits(*logits);
    bits.insert(bits.end(), more.begin(), more.end());
  }
  return bits;
}

/// An engine that has computed all kTokens, and the bits of its logits.
struct Whole {
  explicit Whole(const Way& way) : engine(way) {
    const std::vector<uint32_t> tokens = SomeTokens(kTokens);
    engine.Compute(tokens, 0, kTokens, bits);
  }
  std::vector<uint32_t> From(uint32_t cut) const { return {bits.begin() + cut * 256, bits.end()}; }
  Engine engine;
  std::vector<uint32_t> bits;
};

TEST(RaggedTest, AllRowsGiveTheBitsOfPages) {
  Whole whole({});
  for (const uint32_t cut : {1u, 16u, 31u, 64u, 100u, 132u}) {
    std::vector<Rows> rows = {RowsOfPages(whole.engine.ranks()[0], 0, 4, cut, All)};
    EXPECT_EQ(Continued({}, rows, cut, kTokens), whole.From(cut)) << "cut at " << cut;
    EXPECT_EQ(Continued({}, rows, cut, 7), whole.From(cut)) << "cut at " << cut << ", then seven at a time";
  }
}

TEST(RaggedTest, AnySpreadThreadsBodiesAndElementsGiveTheBitsOfPages) {
  std::vector<Way> ways = {{.heads_of_ranks = {1, 3}, .order = PageOrder::kHeadsFirst, .shuffle_seed = 7},
                           {.threads = 3},
                           {.element = ElementType::kFloat16},
                           {.element = ElementType::kFloat32}};
  for (const Math* math : MathBodies()) ways.push_back({.math = math});
  for (const Way& way : ways) {
    Whole whole(way);
    std::vector<Rows> rows;
    for (const RankKv& rank : whole.engine.ranks()) {
      rows.push_back(RowsOfPages(rank, rank.cache->first_head, rank.cache->heads, 77, All));
    }
    std::reverse(rows.begin(), rows.end());
    EXPECT_EQ(Continued(way, rows, 77, 20), whole.From(77));
  }
}

TEST(RaggedTest, WeightsOfOneGiveTheSameBits) {
  Whole whole({});
  for (const size_t weighted_layers : {1u, 3u}) {  // layers without weights come after layers with them
    std::vector<Rows> rows = {RowsOfPages(whole.engine.ranks()[0], 0, 4, 90, All)};
    for (size_t l = 0; l < weighted_layers; ++l) rows[0].layers[l].weights.assign(2 * 4 * 90, 1.0f);
    EXPECT_EQ(Continued({}, rows, 90, 30), whole.From(90));
  }
}

TEST(RaggedTest, HeadsOfAnyLengthAgreeHoweverTheyAreComputed) {
  Whole whole({});
  const Keeps keeps = [](uint32_t layer, uint32_t head, uint32_t token) {  // head 2 of layer 1 keeps nothing
    return !(layer == 1 && head == 2) && (token * (head + 1) + layer) % 3 != 0;
  };
  std::vector<Rows> rows = {RowsOfPages(whole.engine.ranks()[0], 0, 4, 100, keeps)};
  const std::vector<uint32_t> expected = Continued({}, rows, 100, kTokens);
  EXPECT_NE(expected, whole.From(100));
  for (const uint32_t bits : expected) ASSERT_TRUE(std::isfinite(std::bit_cast<float>(bits)));
  EXPECT_EQ(Continued({.threads = 2}, rows, 100, 1), expected);
  std::vector<Rows> halves = {RowsOfPages(whole.engine.ranks()[0], 0, 2, 100, keeps),
                              RowsOfPages(whole.engine.ranks()[0], 2, 2, 100, keeps)};
  EXPECT_EQ(Continued({.heads_of_ranks = {3, 1}}, halves, 100, 9), expected);
}

/// One head of rows, and what attention over them must be, in double.
struct OneHead {
  static constexpr size_t kDim = 32;
  explicit OneHead(uint32_t count) : rows(count) {
    auto random = testing::Rng(count);
    std::normal_distribution<float> normal;
    for (std::vector<float>* v : {&keys, &values}) {
      v->resize(rows * kDim);
      for (float& x : *v) x = BFloat16ToFloat(FloatToBFloat16(normal(random)));
    }
    for (size_t i = 0; i < rows; ++i) {
      weights.push_back(static_cast<float>(random() % 5));
      weights.push_back(static_cast<float>(random() % 9) / 2);
    }
    query.resize(kDim);
    for (float& x : query) x = normal(random) / 4;
  }

  std::vector<double> Expected() const {
    std::vector<double> out(kDim);
    double sum = 0;
    for (size_t i = 0; i < rows; ++i) {
      double s = 0;
      for (size_t c = 0; c < kDim; ++c) s += double{query[c]} * keys[i * kDim + c];
      sum += weights[2 * i] * std::exp(s);
      for (size_t c = 0; c < kDim; ++c) out[c] += weights[2 * i + 1] * std::exp(s) * values[i * kDim + c];
    }
    for (double& x : out) x /= sum;
    return out;
  }

  std::vector<float> Attended(const Math& math) const {
    std::vector<std::byte> key_bytes(rows * kDim * 2), value_bytes(rows * kDim * 2);
    for (size_t i = 0; i < rows * kDim; ++i) {
      StoreElement(ElementType::kBfloat16, keys[i], reinterpret_cast<uint8_t*>(key_bytes.data()) + 2 * i);
      StoreElement(ElementType::kBfloat16, values[i], reinterpret_cast<uint8_t*>(value_bytes.data()) + 2 * i);
    }
    const std::vector<uint32_t> cu_lengths = {0, static_cast<uint32_t>(rows)};
    const std::vector<RaggedLayer> layers = {{cu_lengths, key_bytes, value_bytes, weights}};
    const RaggedKv kv{{1, 1, kDim, kDim, ElementType::kBfloat16}, 0, 1, static_cast<uint32_t>(rows), layers};
    const size_t padded = RoundUp(rows, kPanel);
    std::vector<float> k(padded * kDim), v(padded * kDim), w(2 * padded), scores(padded), out(kDim);
    const HeadPanels panels{k.data(), v.data(), w.data()};
    EXPECT_EQ(UnpackHead(kv, 0, 0, panels), rows);
    Attend(math, {query.data(), kDim, 1, rows - 1, kDim, out.data(), kDim}, panels, scores.data());
    return out;
  }

  const size_t rows;
  std::vector<float> keys, values, weights, query;
};

TEST(RaggedTest, WeightedAttentionIsTheFormula) {
  for (const uint32_t rows : {2u, 16u, 33u, 200u}) {
    OneHead head(rows);
    head.weights[0] = 3;  // never all 0
    const std::vector<double> expected = head.Expected();
    for (const Math* math : MathBodies()) {
      const std::vector<float> got = head.Attended(*math);
      EXPECT_EQ(Bits(got), Bits(head.Attended(*MathBodies().back())));
      for (size_t c = 0; c < OneHead::kDim; ++c) EXPECT_NEAR(got[c], expected[c], 2e-5) << rows << " rows, " << c;
    }
  }
}

TEST(RaggedTest, ARowWithWeightThreeIsThreeRows) {
  OneHead one(50), three(50);
  std::fill(one.weights.begin(), one.weights.end(), 1.0f);
  one.weights[14] = one.weights[15] = 3.0f;  // row 7
  std::fill(three.weights.begin(), three.weights.end(), 1.0f);
  for (const size_t copy : {20u, 30u}) {  // rows 20 and 30 are row 7 again, and are not there in `one`
    std::copy_n(one.keys.begin() + 7 * OneHead::kDim, OneHead::kDim, three.keys.begin() + copy * OneHead::kDim);
    std::copy_n(one.values.begin() + 7 * OneHead::kDim, OneHead::kDim, three.values.begin() + copy * OneHead::kDim);
    one.weights[2 * copy] = one.weights[2 * copy + 1] = 0.0f;
  }
  const std::vector<float> got = one.Attended(*MathBodies().front()), want = three.Attended(*MathBodies().front());
  for (size_t c = 0; c < OneHead::kDim; ++c) EXPECT_NEAR(got[c], want[c], 1e-5);
}

TEST(RaggedTest, WrongContextsAreNamed) {
  Whole whole({});
  const std::vector<uint32_t> tokens = SomeTokens(kTokens);
  const auto message = [&](std::vector<Rows> rows, uint32_t first) {
    std::vector<RaggedKv> context;
    for (Rows& of_rank : rows) context.push_back(of_rank.View());
    Chunk chunk = whole.engine.MakeChunk(std::span(tokens).subspan(first, 5), first);
    chunk.context = context;
    const Result<std::vector<float>> got = whole.engine.runner().Prefill(chunk);
    return got.ok() ? std::string("accepted") : got.error().message;
  };
  const Rows good = RowsOfPages(whole.engine.ranks()[0], 0, 4, 20, All);
  const Rows half = RowsOfPages(whole.engine.ranks()[0], 2, 2, 20, All);
  EXPECT_EQ(message({good}, 20), "accepted");
  EXPECT_EQ(message({good}, 19), "chunk: the context stands for 20 tokens, position 19 comes next");
  EXPECT_EQ(message({half}, 20), "chunk: KV head 0 is in the context 0 times, not once");
  EXPECT_EQ(message({good, half}, 20), "chunk: KV head 2 is in the context 2 times, not once");
  Rows bad = good;
  bad.kv.first_head = 1;
  EXPECT_EQ(message({bad}, 20), "chunk: the context has KV heads that there are not");
  bad = good;
  bad.layers.pop_back();
  EXPECT_EQ(message({bad}, 20), "chunk: the context does not hold all layers");
  bad = good;
  bad.kv.layout.key_dim = 64;
  EXPECT_EQ(message({bad}, 20), "chunk: the context has another layout than the model");
  bad = good;
  bad.layers[1].cu_lengths[2] = 99;
  EXPECT_EQ(message({bad}, 20), "chunk: the context's cu_lengths of layer 1 have the wrong length or order");
  bad = good;
  bad.layers[2].keys.pop_back();
  EXPECT_EQ(message({bad}, 20), "chunk: the context's keys of layer 2 have the wrong length or order");
  bad = good;
  bad.layers[0].weights = {1, 1};
  EXPECT_EQ(message({bad}, 20), "chunk: the context's weights of layer 0 have the wrong length or order");
}

TEST(RaggedTest, LayersCanBeWatched) {
  const std::vector<uint32_t> tokens = SomeTokens(9);
  Engine engine({});
  Chunk chunk = engine.MakeChunk(tokens, 0);
  uint32_t seen = 0;
  chunk.layer_attended = [&](const LayerView& view) {
    EXPECT_EQ(view.layer, seen++);
    ASSERT_EQ(view.hidden.size(), 9u * 96);
    ASSERT_EQ(view.queries.size(), 9u * 8 * 32);
    ASSERT_EQ(view.attended.size(), view.queries.size());
    // The first position sees itself alone: its attention is its value.
    std::vector<float> value(32);
    LoadRow(engine.ranks()[0], {view.layer, KvTensor::kValue, 1, 0}, value.data());
    for (uint32_t c = 0; c < 32; ++c) EXPECT_EQ(view.attended[3 * 32 + c], value[c]);
  };
  ASSERT_TRUE(engine.runner().Prefill(chunk).ok());
  EXPECT_EQ(seen, SmallConfig().layers);
}

}  // namespace
}  // namespace kvasir::model
