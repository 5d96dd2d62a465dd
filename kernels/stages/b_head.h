// SPDX-License-Identifier: Apache-2.0
// B:head. Heads that a probe found to retrieve keep more (HeadKV: Not All Heads Matter, arXiv 2410.19258). With b
// tokens a head on the average, exempt ones not counted, s_h the score of head h, L layers of H heads, and a share 1 /
// beta of every budget in a common pool:
//   head h keeps (b - pool) + pool L H s_h / sum s,  pool = floor(b / beta)
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct HeadBudget {
  struct Args {
    TokenAmount amount;
    uint32_t pooled = 500000;  ///< 1 / beta in millionths
  };
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {"B", "head", "head(amount[,pooled])",
                                      "A share of every budget is dealt out by the scores of the heads (HeadKV, arXiv "
                                      "2410.19258)",
                                      "head_scores"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    const Result<TokenAmount> amount = in.Amount(0, "tokens a head keeps on the average");
    if (!amount.ok()) return amount.error();
    const Result<uint32_t> pooled = in.Share(1, 500000, "share of the budget that scores deal out");
    if (!pooled.ok()) return pooled.error();
    return Args{*amount, *pooled};
  }
  static std::string Print(const Args& a) { return PrintAmount(a.amount) + "," + PrintShare(a.pooled); }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float>,
                               std::vector<uint32_t>& counts) {
    const std::span<const float> s = context.inputs.head_scores;
    if (Result<bool> there = NeedInput("B:head", "head_scores", s.size(), context.heads()); !there.ok()) return there;
    double sum = 0;
    for (const float score : s) {
      if (!(score >= 0) || std::isinf(score)) return Unfit();
      sum += score;
    }
    if (!(sum > 0)) return Unfit();
    const uint32_t exempt = context.ExemptTokens(), b = context.BesideExempt(a.amount);
    const uint64_t pool = uint64_t{b} * a.pooled / 1000000;
    std::vector<double> wanted;
    for (const float score : s) {
      wanted.push_back(static_cast<double>(b - pool) + static_cast<double>(pool * context.heads()) * score / sum);
    }
    for (const uint32_t count : ShareOut(wanted, b * context.heads(), context.tokens - exempt)) {
      counts.push_back(exempt + count);
    }
    return true;
  }

 private:
  static Error Unfit() {
    return {ErrorCode::kInvalidArgument, "B:head: the input head_scores must be finite, not negative, and not all 0"};
  }
};

}  // namespace kvasir
