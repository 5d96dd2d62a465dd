// SPDX-License-Identifier: Apache-2.0
// Stages that decide about tokens. Like the others one header with one struct, and one line in stages/select_list.h;
// they work on the whole chain at once, on the CPU, in stated orders. What they choose is stored, never computed again
// by a reader: exponentials may come from the library.
//
//   kBudget   Allocate(args, context, scores, counts)   how many tokens each head keeps, exempt ones included;
//                                                     Args::amount is the average, or MeanTokens(args, tokens, exempt)
//   kScorer   Score(args, context, scores)              how much each token matters to each head; higher is kept. Is
//   given
//                                                     one head at a time, as a model of one layer and one head, on any
//                                                     thread
//   kReshape  Reshape(args, context, scores)            changes scores: whole chunks, heads of a layer together; with
//                                                     kByHead = true it is given one head at a time, as a scorer is
//   kMerge    Merge(args, context, head)                what becomes of the tokens of one head that are not kept
//   kExempt   R:sink, R:win                             kept in any case; read by the parser
//   kExtent   X:ext                                     says that heads differ in length; read by the parser
//
// Shapes are [layers][heads][tokens] unless said otherwise; heads are KV heads.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "kernels/kv_layout.h"
#include "kernels/select/select.h"
#include "kernels/stages/stage.h"
#include "kernels/workers.h"

namespace kvasir {

/// What a selecting stage may look at.
struct SelectionContext {
  const KvLayout& layout;
  uint32_t tokens;  ///< of the chain
  const SelectionSpec& spec;
  const SelectInputs& inputs;
  ChainRows& rows;
  Workers* workers = nullptr;  ///< null = the calling thread

  uint64_t heads() const { return uint64_t{layout.layers} * layout.kv_heads; }
  bool Exempt(uint32_t token) const {
    return token < spec.sink_tokens || uint64_t{token} + spec.window_tokens >= tokens;
  }
  /// What a budget leaves beside the exempt tokens.
  uint32_t BesideExempt(const TokenAmount& amount) const {
    const uint32_t all = amount.Of(tokens), exempt = ExemptTokens();
    return all > exempt ? all - exempt : 0;
  }
  uint32_t ExemptTokens() const {
    const uint64_t ends = uint64_t{spec.sink_tokens} + spec.window_tokens;
    return ends < tokens ? static_cast<uint32_t>(ends) : tokens;
  }
};

/// Whether a reshaping stage changes the scores of each head by itself.
template <class S>
constexpr bool ReshapesByHead() {
  if constexpr (requires { S::kByHead; }) return S::kByHead;
  return false;
}

/// Whole numbers of at most `most` near `wanted`, summing to `total` where that many fit: rounded down, then one more
/// for the greatest remainders, of equal ones the earlier. What is above `most` goes to the others, one each by turns.
std::vector<uint32_t> ShareOut(std::span<const double> wanted, uint64_t total, uint32_t most);

/// One head on its way through a merge: rows of floats, changed in place.
struct MergeHead {
  uint32_t layer = 0, head = 0;
  std::span<RowClass> classes;    ///< [tokens]
  std::span<const float> scores;  ///< [tokens]
  std::span<float> keys;          ///< [tokens][key_dim]
  std::span<float> values;        ///< [tokens][value_dim]
  std::span<float> weights;       ///< [tokens][2], all 1 at first
};

/// An input of `floats` numbers that `stage` cannot do without: refused by name where it was not brought, or is not of
/// `expected` numbers.
Result<bool> NeedInput(std::string_view stage, std::string_view input, uint64_t floats, uint64_t expected);

/// The query heads of the model do not fall to its KV heads.
Error WrongHeads(std::string_view stage, uint32_t query_heads, uint32_t kv_heads);

/// Arguments of scorers that take none but what becomes of tokens that are not kept.
struct ActionOnly {
  struct Args {
    uint32_t demote = 0;
  };
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> demote = in.Action(0);
    if (!demote.ok()) return demote.error();
    return Args{*demote};
  }
  static std::string Print(const Args& a) { return a.demote != 0 ? "demote" : "drop"; }
};

/// The score of tokens that a scorer keeps before all others.
inline constexpr float kKeepFirst = std::numeric_limits<float>::infinity();

/// x_t := exp(x_t - max) / sum, the sum in ascending order.
inline void Softmax(std::span<double> x) {
  const double greatest = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (double& v : x) sum += v = std::exp(v - greatest);
  for (double& v : x) v /= sum;
}

}  // namespace kvasir
