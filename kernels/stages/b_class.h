// SPDX-License-Identifier: Apache-2.0
// B:class. Heads that retrieve keep all tokens, the others only what is exempt: their sinks and their window
// (DuoAttention: Efficient Long-Context LLM Inference with Retrieval and Streaming Heads, arXiv 2410.10819). Retrieval
// heads are the given share of all heads with the greatest head_scores; of equal ones the earlier.
#pragma once

#include <numeric>

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct ClassBudget {
  struct Args {
    uint32_t share = 500000;  ///< of heads that keep all, in millionths
  };
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {
      "B", "class", "class(share)",
      "This share of the heads keeps all tokens, the others R:sink and R:win (DuoAttention, arXiv 2410.10819)",
      "head_scores"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> share = in.Share(0, 0, "share of heads that keep all tokens");
    if (!share.ok()) return share.error();
    return Args{*share};
  }
  static std::string Print(const Args& a) { return PrintShare(a.share); }
  static double MeanTokens(const Args& a, uint32_t tokens, uint32_t exempt) {
    return exempt + a.share / 1e6 * (tokens - exempt);
  }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float>,
                               std::vector<uint32_t>& counts) {
    const std::span<const float> s = context.inputs.head_scores;
    if (Result<bool> there = NeedInput("B:class", "head_scores", s.size(), context.heads()); !there.ok()) return there;
    for (const float score : s) {
      if (std::isnan(score)) return Error{ErrorCode::kInvalidArgument, "B:class: one of head_scores is not a number"};
    }
    std::vector<uint64_t> order(context.heads());
    std::iota(order.begin(), order.end(), uint64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](uint64_t i, uint64_t j) { return s[i] > s[j]; });
    counts.assign(context.heads(), context.ExemptTokens());
    const uint64_t retrieve = (context.heads() * a.share + 500000) / 1000000;
    for (uint64_t i = 0; i < retrieve; ++i) counts[order[i]] = context.tokens;
    return true;
  }
};

}  // namespace kvasir
