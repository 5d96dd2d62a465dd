// SPDX-License-Identifier: Apache-2.0
// B:tsp. Up to one layer every head keeps its budget; behind it only a share of the tokens exists at all (FastKV:
// KV Cache Compression for Fast Long-Context Processing with Token-Selective Propagation, arXiv 2502.01068). With b
// tokens a head, exempt ones not counted, of n, and the share rho that is passed on behind layer l:
//   layers 0 to l keep b, those behind it min(b, rho n)
// What is passed on are the tokens with the greatest scores of layer l, its heads together: E:tsp.
#pragma once

#include "kernels/stages/e_tsp.h"

namespace kvasir {

struct PropagationBudget {
  struct Args {
    TokenAmount amount;
    PropagationScores::Args passed;
  };
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {"B", "tsp", "tsp(amount,layer[,share])",
                                      "Behind a layer only a share of the tokens exists (FastKV, arXiv 2502.01068); "
                                      "with E:tsp"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(2, 3); !counted.ok()) return counted.error();
    const Result<TokenAmount> amount = in.Amount(0, "tokens that each head keeps");
    if (!amount.ok()) return amount.error();
    const Result<PropagationScores::Args> passed = PropagationScores::ReadFrom(in, 1);
    if (!passed.ok()) return passed.error();
    return Args{*amount, *passed};
  }
  static std::string Print(const Args& a) { return PrintAmount(a.amount) + "," + PropagationScores::Print(a.passed); }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float>,
                               std::vector<uint32_t>& counts) {
    const uint32_t exempt = context.ExemptTokens(), b = exempt + context.BesideExempt(a.amount);
    const uint32_t passed = std::max(exempt, TokenAmount{0, a.passed.share}.Of(context.tokens));
    for (uint64_t i = 0; i < context.heads(); ++i) {
      counts.push_back(i / context.layout.kv_heads <= a.passed.layer ? b : std::min(b, passed));
    }
    return true;
  }
};

}  // namespace kvasir
