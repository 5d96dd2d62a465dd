// SPDX-License-Identifier: Apache-2.0
// Capture: all that an engine can bring of a chain (SelectInputs), of a real one: the reference model computes a text,
// and what stages may ask for is taken from its layers.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/select/select.h"
#include "tests/model/lm.h"

namespace kvasir::quality {

inline constexpr uint32_t kCaptureWindow = 64;        ///< queries a head in window_queries
inline constexpr float kCaptureDecay = 0.95f;         ///< of the decayed attention sums (A2SF)
inline constexpr uint32_t kCaptureFuture = 512;       ///< positions that query_mean and query_covariance look ahead

/// Keys and values as floats, [layers][heads][tokens][dim]; copied by each selection that merges.
class CapturedRows final : public ChainRows {
 public:
  CapturedRows() = default;
  CapturedRows(const KvLayout& layout, uint32_t tokens) : layout_(layout), tokens_(tokens) {
    for (int t = 0; t < 2; ++t) rows_[t].resize(uint64_t{layout.layers} * layout.kv_heads * tokens * Dim(t));
  }
  std::span<float> Of(uint32_t layer, uint32_t head, KvTensor tensor) {
    const int t = static_cast<int>(tensor);
    const uint64_t each = uint64_t{tokens_} * Dim(t);
    return std::span(rows_[t]).subspan((uint64_t{layer} * layout_.kv_heads + head) * each, each);
  }
  std::span<const float> Of(uint32_t layer, uint32_t head, KvTensor tensor) const {
    return const_cast<CapturedRows*>(this)->Of(layer, head, tensor);
  }
  void Load(uint32_t layer, uint32_t head, KvTensor tensor, std::span<float> out) override {
    const std::span<float> rows = Of(layer, head, tensor);
    std::copy(rows.begin(), rows.end(), out.begin());
  }
  void Store(uint32_t layer, uint32_t head, KvTensor tensor, std::span<const float> rows) override {
    std::copy(rows.begin(), rows.end(), Of(layer, head, tensor).begin());
  }

 private:
  uint32_t Dim(int t) const { return layout_.dim(static_cast<KvTensor>(t)); }
  KvLayout layout_;
  uint32_t tokens_ = 0;
  std::vector<float> rows_[2];
};

/// Of one text. Heads are KV heads unless said otherwise; attention of a KV head is the sum over its query heads.
struct Capture {
  KvLayout layout;
  uint32_t tokens = 0, query_heads = 0;
  CapturedRows rows;
  std::vector<float> queries;                       ///< [layers][query heads][tokens][dim], rotated, not scaled
  std::vector<float> window_queries;                ///< the last kCaptureWindow of them
  std::vector<float> attention_sums, decayed_sums;  ///< [layers][heads][tokens]
  std::vector<float> attention_peak;  ///< [layers][heads][tokens] greatest attention that a window query paid
  std::vector<float> reconstruction;  ///< [layers][heads][tokens]: KVzip's score
  std::vector<float> query_mean, query_covariance, query_peak, query_norm;
  std::vector<float> hidden_cosine;  ///< [layers]
  std::vector<float> head_scores;    ///< [layers][heads], of ProbeHeads
  std::vector<TokenSpan> spans;      ///< none unless a test says so

  /// What a selection of that spec is offered: attention sums with the decay that it takes.
  SelectInputs Inputs(const SelectionSpec& spec) const;
};

struct CaptureOptions {
  uint32_t threads = 1;
  bool reconstruct = true;  ///< compute the text a second time behind itself, for `reconstruction`
};

/// Induction scores: in the second copy of random bytes, the attention that is paid to the byte after the earlier copy;
/// of a KV head its best query head's. [layers][heads], the same in every run.
Result<std::vector<float>> ProbeHeads(const std::shared_ptr<const model::Model>& model, uint32_t threads);

/// kInvalidArgument: no tokens, or more than half the model's context.
Result<Capture> CaptureChain(const std::shared_ptr<const model::Model>& model, std::span<const uint32_t> tokens,
                             std::span<const float> head_scores, const CaptureOptions& options);

}  // namespace kvasir::quality
