// SPDX-License-Identifier: Apache-2.0
// Select: from a spec's selecting stages and what the engine brought to the fate of every token of every head.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "kernels/kv_layout.h"
#include "kernels/result.h"
#include "kernels/selection.h"

namespace kvasir {

/// A stretch of the token sequence that belongs together.
struct TokenSpan {
  enum class Kind : uint8_t { kText = 0, kExample = 1, kImage = 2, kSpecial = 3, kPunctuation = 4 };
  uint32_t begin = 0, end = 0;  ///< tokens [begin, end)
  Kind kind = Kind::kText;
};

/// What an engine knows of a chain beside K and V: the one place of all optional inputs. Empty = not brought; a spec
/// that needs one that is empty is refused by name. Heads are KV heads unless said otherwise; positions are those of
/// the chain.
struct SelectInputs {
  std::span<const float>
      attention_sums;            ///< [layers][heads][tokens]: sum over queries of the attention paid to a token
  float attention_decay = 1.0f;  ///< gamma of those sums: each step multiplies what was there before (A2SF)
  std::span<const float> window_queries;    ///< [layers][query heads][window][key_dim], after RoPE, oldest first
  uint32_t query_heads = 0;                 ///< of the model; a multiple of kv_heads
  uint32_t window = 0;                      ///< queries a head
  std::span<const float> query_mean;        ///< [layers][query heads][key_dim], over RoPE of positions to come
  std::span<const float> query_covariance;  ///< [layers][query heads][key_dim][key_dim]
  std::span<const float>
      external_scores;                   ///< [layers][heads][tokens]: KVzip, Locret, gates; 0 and 1 where it is a flag
  std::span<const float> hidden_cosine;  ///< [layers]: cosine of the hidden state before and after attention
  std::span<const float> head_scores;    ///< [layers][heads]: retrieval scores of a probe (HeadKV, DuoAttention, Razor)
  std::span<const TokenSpan> spans;      ///< ascending, not overlapping
  // For stages that encode (FrameInputs): every frame gets its share.
  std::span<const float> query_peak;      ///< [layers][heads][key_dim]: greatest |q| of each channel over all queries
  std::span<const float> query_norm;      ///< [layers][heads]: greatest norm of a query
  std::span<const float> attention_peak;  ///< [layers][heads][tokens]: greatest attention a recent query paid
};

/// The chain's keys and values, head by head.
class ChainRows {
 public:
  virtual ~ChainRows() = default;
  /// All tokens of one head as floats: `out` has tokens * dim.
  virtual void Load(uint32_t layer, uint32_t head, KvTensor tensor, std::span<float> out) = 0;
  /// After a merge.
  virtual void Store(uint32_t layer, uint32_t head, KvTensor tensor, std::span<const float> rows) = 0;
};

struct Selection {
  std::vector<RowClass> classes;  ///< [layers][heads][tokens]
  std::vector<float> weights;     ///< [layers][heads][tokens][2]; empty = all 1
  std::vector<uint32_t> counts;   ///< [layers][heads]: tokens kept or exempt
};

/// Tokens of a chain that a head keeps, exempt ones included, on the average of the heads. REQUIRES: spec.has_budget.
uint32_t BudgetTokens(const SelectionSpec& spec, uint32_t tokens);

/// Deterministic. kInvalidArgument names an input that a stage needs and `inputs` lacks, or one of the wrong size.
Result<Selection> Select(const SelectionSpec& spec, const KvLayout& layout, uint32_t tokens, const SelectInputs& inputs,
                         ChainRows& rows);

}  // namespace kvasir
