// SPDX-License-Identifier: Apache-2.0
// TextEngine: the model, the pages of its ranks and one sequence in them. Knows nothing of a store: alone it is the truth
// that everything which went through one is compared with.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/demo/trace_log.h"
#include "tests/model/lm.h"

namespace kvasir::demo {

inline constexpr uint32_t kBlockTokens = 128;
inline constexpr uint32_t kChunkTokens = 2 * kBlockTokens;  ///< computed together: pushes of one overlap the next

/// How an engine lays out its KV. Engines differ on purpose: what one wrote, another reads in its own order.
struct PageLayout {
  uint32_t ranks = 1;  ///< each holds an equal share of the KV heads
  model::PageOrder order = model::PageOrder::kTokensFirst;
  uint32_t page_tokens = 16;
  uint64_t shuffle_seed = 0;
};

/// What runs around the layers of a chunk of positions.
struct Hooks {
  std::function<bool(uint32_t layer)> before_layer;
  /// K and V of [first, first + count) are in the pages.
  std::function<void(uint32_t layer, uint32_t first, uint32_t count)> layer_written;
};

/// One thread at a time.
class TextEngine {
 public:
  TextEngine(std::shared_ptr<const model::Model> model, const PageLayout& layout, uint32_t threads);

  const model::Model& model() const { return runner_.model(); }
  const model::PagedKv& rank(size_t i) const { return pages_[i]; }
  size_t ranks() const { return pages_.size(); }
  uint32_t context() const { return model().config().context_max; }
  TraceLog& trace() { return trace_; }

  /// Computes tokens [first, end) of the sequence chunk by chunk; logits as `logits` says of the last chunk. Unavailable
  /// when before_layer stopped it.
  absl::StatusOr<std::vector<float>> Compute(std::span<const uint32_t> tokens, uint32_t first, model::LogitsOf logits,
                                             const Hooks& hooks);
  /// Greedy continuation of `count` tokens: the first from `logits`, which are those after `position`.
  absl::StatusOr<std::vector<uint32_t>> Continue(std::span<const float> logits, uint32_t position, uint32_t count);
  /// Sum of -ln p, teacher-forced, over tokens (first, end): each given all before it. KV of [0, first) is in the pages.
  absl::StatusOr<double> Score(std::span<const uint32_t> tokens, uint32_t first, const Hooks& hooks);
  /// The same where each token is given only the `keep` to keep + stride - 1 tokens before it.
  absl::StatusOr<double> ScoreShortSighted(std::span<const uint32_t> tokens, uint32_t first, uint32_t keep,
                                           uint32_t stride);
  /// Fills all pages with NaN: whatever is read without having been written shows.
  void Forget();

 private:
  TraceLog trace_;
  model::Runner runner_;
  std::vector<model::PagedKv> pages_;
  std::vector<model::RankKv> ranks_;
};

}  // namespace kvasir::demo
