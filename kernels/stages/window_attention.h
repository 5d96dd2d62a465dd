// SPDX-License-Identifier: Apache-2.0
// Attention of the last queries of a chain, for the stages that look at more of it than E:win does. A[q, t] =
// softmax_t(q . k_t / sqrt(d)), t <= position of q; products in float32, channels ascending, the rest in float64.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

/// Refused by name: window_queries missing, of the wrong size, or of fewer than `window` queries.
inline Result<bool> CheckWindow(std::string_view stage, uint32_t window, const SelectionContext& context) {
  const SelectInputs& in = context.inputs;
  const uint32_t heads = context.layout.kv_heads;
  if (in.window_queries.empty()) return MissingInput(stage, "window_queries");
  if (in.query_heads == 0 || in.query_heads % heads != 0) return WrongHeads(stage, in.query_heads, heads);
  if (in.window < window || in.window >= context.tokens) {
    return Error{ErrorCode::kInvalidArgument,
                 std::string(stage) + ": window_queries are of " + std::to_string(in.window) + " queries; bring " +
                     std::to_string(window) + " at least, and fewer than the chain has tokens"};
  }
  const uint64_t expected = uint64_t{context.layout.layers} * in.query_heads * in.window * context.layout.key_dim;
  return NeedInput(stage, "window_queries", in.window_queries.size(), expected);
}

/// A[q, .] of window query `w`, the oldest is 0, of a query head; `keys` are those of its KV head. REQUIRES:
/// CheckWindow passed, attention has room for all tokens. Returns how many tokens the query sees.
inline uint64_t AttentionOfQuery(const SelectionContext& context, uint64_t query_head, uint32_t window, uint64_t w,
                                 std::span<const float> keys, std::span<double> attention) {
  const uint64_t dim = context.layout.key_dim, seen = context.tokens - window + w + 1;
  const uint64_t row = (query_head + 1) * context.inputs.window - window + w;
  const float* q = &context.inputs.window_queries[row * dim];
  for (uint64_t t = 0; t < seen; ++t) {
    float dot = 0;
    for (uint64_t c = 0; c < dim; ++c) dot += q[c] * keys[t * dim + c];
    attention[t] = dot / std::sqrt(double{1} * dim);
  }
  Softmax(attention.first(seen));
  return seen;
}

/// The keys of one KV head; `head` counts through all layers.
inline std::vector<float> KeysOf(const SelectionContext& context, uint64_t head) {
  const uint64_t heads = context.layout.kv_heads;
  std::vector<float> keys(uint64_t{context.tokens} * context.layout.key_dim);
  context.rows.Load(static_cast<uint32_t>(head / heads), static_cast<uint32_t>(head % heads), KvTensor::kKey, keys);
  return keys;
}

/// Attention that each token is paid by the window, summed over it and over the query heads of one KV head.
inline std::vector<double> AttentionOf(const SelectionContext& context, uint64_t head, uint32_t window) {
  const uint64_t group = context.inputs.query_heads / context.layout.kv_heads;
  const std::vector<float> keys = KeysOf(context, head);
  std::vector<double> sum(context.tokens), attention(context.tokens);
  for (uint64_t query_head = head * group; query_head < (head + 1) * group; ++query_head) {
    for (uint64_t w = 0; w < window; ++w) {
      const uint64_t seen = AttentionOfQuery(context, query_head, window, w, keys, attention);
      for (uint64_t t = 0; t < seen; ++t) sum[t] += attention[t];
    }
  }
  return sum;
}

/// Mean and variance over the window of the attention that each token is paid, of every query head of one KV head.
struct WindowMoments {
  std::vector<std::vector<double>> mean, variance;  ///< [query heads of the group][tokens - window]
};

/// REQUIRES: CheckWindow passed. `head` counts through all layers. Variance over the window, not its unbiased estimate.
inline WindowMoments MomentsOf(const SelectionContext& context, uint64_t head, uint32_t window) {
  const uint64_t group = context.inputs.query_heads / context.layout.kv_heads, before = context.tokens - window;
  const std::vector<float> keys = KeysOf(context, head);
  WindowMoments moments;
  std::vector<double> attention(context.tokens);
  for (uint64_t member = 0; member < group; ++member) {
    std::vector<double>& mean = moments.mean.emplace_back(before);
    std::vector<double>& variance = moments.variance.emplace_back(before);
    for (uint64_t w = 0; w < window; ++w) {
      AttentionOfQuery(context, head * group + member, window, w, keys, attention);
      for (uint64_t t = 0; t < before; ++t) {
        mean[t] += attention[t] / window;
        variance[t] += attention[t] * attention[t] / window;
      }
    }
    for (uint64_t t = 0; t < before; ++t) variance[t] = std::max(0.0, variance[t] - mean[t] * mean[t]);
  }
  return moments;
}

}  // namespace kvasir
