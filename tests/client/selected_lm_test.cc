// SPDX-License-Identifier: Apache-2.0
// Goal: attention over rows that went through the store is attention over the same rows kept here, bit for bit. Method: the
// reference model with random weights prefills a prompt and brings what it saw; the selecting views of five papers are
// pushed, fetched into head extents and continued from; so is the same choice cut from the pages.
#include "kernels/number_formats.h"
#include "tests/client/cluster.h"
#include "tests/client/extents.h"
#include "tests/model/lm_engine.h"

namespace kvasir::testing {
namespace {

constexpr uint32_t kBlockTokens = 32, kPrompt = 4 * kBlockTokens, kWindow = 8;

/// What the model shows of itself while it reads the prompt.
struct Seen {
  std::vector<float> window_queries;  // [layers][query heads][window][dim]
  std::vector<float> head_scores;     // [layers][heads]: any fixed numbers that differ
  SelectInputs inputs;
};

/// Reads the prompt and notes the queries of its last tokens. The model's queries are scaled by 1 / sqrt(dim) already.
void Prefill(model::Engine& engine, std::span<const uint32_t> tokens, Seen& seen) {
  const model::ModelConfig& config = engine.runner().model().config();
  const uint32_t heads = config.query_heads, dim = config.head_dim;
  seen.window_queries.resize(uint64_t{config.layers} * heads * kWindow * dim);
  model::Chunk chunk = engine.MakeChunk(tokens.first(kPrompt), 0);
  chunk.layer_attended = [&](const model::LayerView& view) {
    for (uint32_t head = 0; head < heads; ++head) {
      for (uint32_t w = 0; w < kWindow; ++w) {
        const float* q = view.queries.data() + (uint64_t{kPrompt - kWindow + w} * heads + head) * dim;
        float* to = seen.window_queries.data() + ((uint64_t{view.layer} * heads + head) * kWindow + w) * dim;
        for (uint32_t c = 0; c < dim; ++c) to[c] = q[c] * std::sqrt(static_cast<float>(dim));
      }
    }
  };
  ASSERT_TRUE(engine.runner().Prefill(chunk).ok());
  for (uint32_t i = 0; i < config.layers * config.kv_heads; ++i) seen.head_scores.push_back(static_cast<float>(i * 7 % 12));
  seen.inputs.window_queries = seen.window_queries;
  seen.inputs.query_heads = heads;
  seen.inputs.window = kWindow;
  seen.inputs.head_scores = seen.head_scores;
}

/// The bits of the logits of all tokens behind the prompt, over rows of the prompt.
std::vector<uint32_t> Continued(const KvLayout& layout, const std::vector<model::RaggedLayer>& layers,
                                std::span<const uint32_t> tokens) {
  const model::RaggedKv context{layout, 0, layout.kv_heads, kPrompt, layers};
  model::Engine engine({});  // its own pages of the prompt are NaN
  model::Chunk chunk = engine.MakeChunk(tokens.subspan(kPrompt), kPrompt);
  chunk.context = {&context, 1};
  const Result<std::vector<float>> logits = engine.runner().Prefill(chunk);
  EXPECT_TRUE(logits.ok()) << logits.error().message;
  return logits.ok() ? model::Bits(*logits) : std::vector<uint32_t>{};
}

/// The rows that were chosen, cut from the pages, with what a merge made of them.
struct CutHere {
  struct Layer {
    std::vector<uint32_t> cu_lengths = {0};
    std::vector<std::byte> keys, values;
    std::vector<float> weights;
  };
  CutHere(const model::RankKv& rank, const ChainSelection& chosen) {
    const KvLayout& layout = rank.cache->layout;
    const size_t row = layout.key_dim * ElementBytes(layout.element);
    for (uint32_t layer = 0; layer < layout.layers; ++layer) {
      Layer& to = layers.emplace_back();
      for (uint32_t head = 0; head < layout.kv_heads; ++head) {
        to.cu_lengths.push_back(to.cu_lengths.back());
        for (uint32_t token = 0; token < kPrompt; ++token) {
          if (chosen.selection.classes[(layer * layout.kv_heads + head) * kPrompt + token] == RowClass::kDropped) continue;
          ++to.cu_lengths.back();
          const uint64_t at = (uint64_t{layer} * layout.kv_heads + head) * kPrompt + token;
          for (uint32_t i = 0; i < 2; ++i) {
            to.weights.push_back(chosen.selection.weights.empty() ? 1.0f : chosen.selection.weights[2 * at + i]);
          }
          for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
            std::vector<std::byte>& into = tensor == KvTensor::kKey ? to.keys : to.values;
            const std::byte* from = rank.cache->At(layer, tensor, rank.pages[token / rank.cache->page_tokens], head,
                                                   token % rank.cache->page_tokens);
            into.insert(into.end(), from, from + row);
            if (chosen.merged.empty()) continue;
            const MergedRows& merged = chosen.merged[2 * (layer * layout.kv_heads + head) + static_cast<size_t>(tensor)];
            if (merged.tokens.empty() || merged.tokens[0] != token) continue;  // M:comp changes one row a head
            for (uint32_t c = 0; c < layout.key_dim; ++c) {
              StoreElement(layout.element, merged.rows[c], reinterpret_cast<uint8_t*>(&*(into.end() - row)) + 2 * c);
            }
          }
        }
      }
    }
  }
  std::vector<model::RaggedLayer> Views() const {
    std::vector<model::RaggedLayer> views;
    for (const Layer& l : layers) views.push_back({l.cu_lengths, l.keys, l.values, l.weights});
    return views;
  }
  std::vector<Layer> layers;
};

std::vector<model::RaggedLayer> ViewsOf(Extents& extents) {
  const KvLayout& layout = extents.get().layout;
  const size_t row = layout.key_dim * ElementBytes(layout.element);
  std::vector<model::RaggedLayer> views;
  for (uint32_t i = 0; i < layout.layers; ++i) {
    const Extents::Layer& l = extents.layer(i);
    const size_t rows = extents.rows(i);
    views.push_back({l.cu_lengths, std::span(l.keys).first(rows * row), std::span(l.values).first(rows * row),
                     std::span(l.weights).first(2 * rows)});
  }
  return views;
}

TEST(SelectedLmTest, AttentionOverFetchedRowsIsAttentionOverRowsKeptHere) {
  const std::vector<uint32_t> tokens = model::SomeTokens(kPrompt + 5);
  model::Engine engine({.shuffle_seed = 3});
  Seen seen;
  Prefill(engine, tokens, seen);
  const KvLayout layout = engine.runner().model().layout();
  const model::RankKv rank = engine.ranks()[0];
  std::vector<uint32_t> whole;
  engine.Compute(tokens, kPrompt, tokens.size(), whole);

  Cluster cluster(2);
  SessionOptions options = cluster.Options();
  options.ns.layout = layout;
  options.ns.block_tokens = kBlockTokens;
  auto session = cluster.Open(options);
  const PrefixChain chain = session->Chain(std::span(tokens).first(kPrompt));
  ASSERT_EQ(chain.size(), 4u);
  for (const char* spec : {"B:uni(0.25)|E:win(8,7)|R:win(8)|raw",         // SnapKV
                           "B:pyr(0.25,20)|E:win(8,7)|R:win(8)|raw",      // PyramidKV
                           "B:ada(0.25)|E:win(8,7)|R:win(8)|raw",         // Ada-KV
                           "B:head(0.25,0.5)|E:win(8,7)|R:win(8)|raw",    // HeadKV
                           "B:class(0.5)|E:late|R:sink(4)|R:win(24)|raw",  // DuoAttention
                           "B:class(0.15)|E:late|M:comp|R:sink(4)|R:win(24)|raw"}) {  // RazorAttention: rows that weigh more
    SCOPED_TRACE(spec);
    PushSelectedRequest request;
    request.chain = &chain;
    request.cache = rank.cache;
    request.pages = rank.pages;
    request.view = spec;
    request.inputs = &seen.inputs;
    const PushResult result = PushSelectedAndWait(*session, request);
    ASSERT_TRUE(result.status.ok()) << result.status;

    Extents extents(layout, 0, layout.kv_heads, uint64_t{layout.kv_heads} * kPrompt);
    FetchRequest fetch;
    fetch.chain = &chain;
    fetch.extents = &extents.get();
    fetch.accept = {*session->SelectedView(chain, spec, "")};
    const FetchResult fetched = FetchAndWait(*session, fetch);
    ASSERT_TRUE(fetched.status.ok()) << fetched.status;
    ASSERT_EQ(fetched.tokens, kPrompt);
    const std::vector<uint32_t> got = Continued(layout, ViewsOf(extents), tokens);
    EXPECT_NE(got, whole) << "tokens are missing";
    const CutHere here(rank, ChooseHere(spec, *rank.cache, rank.pages, kPrompt, seen.inputs));
    EXPECT_EQ(got, Continued(layout, here.Views(), tokens));
    EXPECT_FALSE(got.empty());
  }
}

}  // namespace
}  // namespace kvasir::testing
