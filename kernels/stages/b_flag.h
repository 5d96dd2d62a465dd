// SPDX-License-Identifier: Apache-2.0
// B:flag. Each head keeps the tokens whose score is above 0, as many as they are: for flags that somebody else set,
// such as trained gates (Attention-Gate, arXiv 2410.12876; MustDrop, arXiv 2411.10803; Dynamic-LLaVA, arXiv
// 2412.00876).
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct FlagBudget {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {"B", "flag", "flag",
                                      "Each head keeps the tokens whose score is above 0: flags of trained gates "
                                      "(Attention-Gate, arXiv 2410.12876)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
    return Args{};
  }
  static std::string Print(const Args&) { return ""; }
  /// Not known before the flags are: all, at most.
  static double MeanTokens(const Args&, uint32_t tokens, uint32_t) { return tokens; }

  static Result<bool> Allocate(const Args&, const SelectionContext& context, std::span<const float> scores,
                               std::vector<uint32_t>& counts) {
    for (uint64_t i = 0; i < context.heads(); ++i) {
      uint32_t count = 0;
      for (uint32_t t = 0; t < context.tokens; ++t) {
        count += context.Exempt(t) || scores[i * context.tokens + t] > 0 ? 1 : 0;
      }
      counts.push_back(count);
    }
    return true;
  }
};

}  // namespace kvasir
