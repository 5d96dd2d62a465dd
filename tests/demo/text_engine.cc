// SPDX-License-Identifier: Apache-2.0
// Chunks of positions through the Runner; every chunk is a span of the timeline.
#include "tests/demo/text_engine.h"

#include <algorithm>
#include <utility>

#include "store/api/status.h"

namespace kvasir::demo {

using model::Chunk;
using model::LogitsOf;

TextEngine::TextEngine(std::shared_ptr<const model::Model> model, const PageLayout& layout, uint32_t threads)
    : runner_(model, {.threads = threads}) {
  const uint32_t heads = model->config().kv_heads / layout.ranks;
  for (uint32_t rank = 0; rank < layout.ranks; ++rank) {
    pages_.emplace_back(model::PagedKvOptions{.layout = model->layout(),
                                              .first_head = rank * heads,
                                              .heads = heads,
                                              .page_tokens = layout.page_tokens,
                                              .pages = model->config().context_max / layout.page_tokens,
                                              .order = layout.order,
                                              .shuffle_seed = layout.shuffle_seed + rank});
  }
  for (const model::PagedKv& pages : pages_) ranks_.push_back(pages.rank());
}

void TextEngine::Forget() {
  for (model::PagedKv& pages : pages_) pages.Poison();
}

absl::StatusOr<std::vector<float>> TextEngine::Compute(std::span<const uint32_t> tokens, uint32_t first,
                                                       LogitsOf logits, const Hooks& hooks) {
  std::vector<float> last;
  while (first < tokens.size()) {
    // Chunks end at multiples of their size, so that each holds whole blocks wherever it began.
    const uint32_t end =
        std::min<uint32_t>(static_cast<uint32_t>(tokens.size()), (first / kChunkTokens + 1) * kChunkTokens);
    Chunk chunk;
    chunk.tokens = tokens.subspan(first, end - first);
    chunk.first_position = first;
    chunk.ranks = ranks_;
    chunk.before_layer = hooks.before_layer;
    if (hooks.layer_written) {
      chunk.layer_written = [&](uint32_t layer) {
        hooks.layer_written(layer, first, end - first);
        return true;
      };
    }
    chunk.logits = logits == LogitsOf::kAll ? logits : end == tokens.size() ? logits : LogitsOf::kNone;
    const Instant begin = std::chrono::steady_clock::now();
    auto got = runner_.Prefill(chunk);
    if (!got.ok()) return ToStatus(got.error());
    trace_.Add({"compute", first / kBlockTokens, 0, begin, std::chrono::steady_clock::now(), end - first});
    last.insert(last.end(), got->begin(), got->end());
    first = end;
  }
  return last;
}

absl::StatusOr<std::vector<uint32_t>> TextEngine::Continue(std::span<const float> logits, uint32_t position,
                                                           uint32_t count) {
  std::vector<uint32_t> text = {model::Greedy(logits)};
  while (text.size() < count) {
    const Instant begin = std::chrono::steady_clock::now();
    auto got = runner_.Decode(text.back(), ++position, ranks_);
    if (!got.ok()) return ToStatus(got.error());
    text.push_back(model::Greedy(*got));
    trace_.Add({"token", 0, 0, begin, std::chrono::steady_clock::now(), 1});
  }
  return text;
}

absl::StatusOr<double> TextEngine::Score(std::span<const uint32_t> tokens, uint32_t first, const Hooks& hooks) {
  const auto logits = Compute(tokens.first(tokens.size() - 1), first, LogitsOf::kAll, hooks);
  if (!logits.ok()) return logits.status();
  return model::NegativeLogLikelihood(*logits, tokens.subspan(first + 1));
}

absl::StatusOr<double> TextEngine::ScoreShortSighted(std::span<const uint32_t> tokens, uint32_t first, uint32_t keep,
                                                     uint32_t stride) {
  double total = 0;
  const auto end = static_cast<uint32_t>(tokens.size());
  for (uint32_t target = first + 1; target < end; target += stride) {
    const uint32_t begin = target - keep, last = std::min(target + stride, end);
    const auto logits = Compute(tokens.subspan(begin, last - 1 - begin), 0, LogitsOf::kAll, {});
    if (!logits.ok()) return logits.status();
    const size_t vocab = model().config().vocab;
    const auto scored = std::span(*logits).subspan((keep - 1) * vocab);
    total += model::NegativeLogLikelihood(scored, tokens.subspan(target, last - target));
  }
  return total;
}

}  // namespace kvasir::demo
