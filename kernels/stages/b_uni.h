// SPDX-License-Identifier: Apache-2.0
// B:uni. Every head of every layer keeps the same number of tokens.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct UniformBudget {
  struct Args {
    TokenAmount amount;
  };
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {"B", "uni", "uni(amount)",
                                      "Every head keeps so many tokens (256) or such a share of them (0.25)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 1); !counted.ok()) return counted.error();
    const Result<TokenAmount> amount = in.Amount(0, "tokens a head keeps");
    if (!amount.ok()) return amount.error();
    return Args{*amount};
  }
  static std::string Print(const Args& a) { return PrintAmount(a.amount); }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float>,
                               std::vector<uint32_t>& counts) {
    counts.assign(context.heads(), a.amount.Of(context.tokens));
    return true;
  }
};

}  // namespace kvasir
