// SPDX-License-Identifier: Apache-2.0
// SelectInputs: what an engine knows of a chain beside K and V. Data only: it borrows all memory. RoPE parameters are in the
// Namespace; queries come rotated. No stage of this build asks for token ids.
#pragma once

#include <cstdint>
#include <span>

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

}  // namespace kvasir
