// SPDX-License-Identifier: Apache-2.0
// Stages that decide about tokens. Like the others one header with one struct, and one line in stages/select_list.h;
// they work on the whole chain at once, on the CPU, in float32 with stated orders.
//
//   kBudget   Allocate(args, context, scores, counts)   how many tokens each head keeps, exempt ones included;
//                                                     Args::amount is the average
//   kScorer   Score(args, context, scores)              how much each token matters to each head; higher is kept
//   kReshape  Reshape(args, context, scores)            changes scores: whole chunks, heads of a layer together
//   kMerge    Merge(args, context, head)                what becomes of the tokens of one head that are not kept
//   kExempt   R:sink, R:win                             kept in any case; read by the parser
//   kExtent   X:ext                                     says that heads differ in length; read by the parser
//
// Shapes are [layers][heads][tokens] unless said otherwise; heads are KV heads.
#pragma once

#include <span>
#include <vector>

#include "kernels/kv_layout.h"
#include "kernels/select/select.h"
#include "kernels/stages/stage.h"

namespace kvasir {

/// What a selecting stage may look at.
struct SelectionContext {
  const KvLayout& layout;
  uint32_t tokens;  ///< of the chain
  const SelectionSpec& spec;
  const SelectInputs& inputs;
  ChainRows& rows;

  uint64_t heads() const { return uint64_t{layout.layers} * layout.kv_heads; }
  bool Exempt(uint32_t token) const {
    return token < spec.sink_tokens || uint64_t{token} + spec.window_tokens >= tokens;
  }
  uint32_t ExemptTokens() const {
    const uint64_t ends = uint64_t{spec.sink_tokens} + spec.window_tokens;
    return ends < tokens ? static_cast<uint32_t>(ends) : tokens;
  }
};

/// One head on its way through a merge: rows of floats, changed in place.
struct MergeHead {
  uint32_t layer = 0, head = 0;
  std::span<RowClass> classes;    ///< [tokens]
  std::span<const float> scores;  ///< [tokens]
  std::span<float> keys;          ///< [tokens][key_dim]
  std::span<float> values;        ///< [tokens][value_dim]
  std::span<float> weights;       ///< [tokens][2], all 1 at first
};

}  // namespace kvasir
