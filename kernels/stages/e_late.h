// SPDX-License-Identifier: Apache-2.0
// E:late. The latest tokens are kept: with R:sink this is StreamingLLM (arXiv 2309.17453).
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct LateScorer {
  struct Args {
    uint32_t demote = 0;
  };
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {
      "E", "late", "late[(drop|demote)]",
      "The latest tokens are kept; with R:sink(4) this is StreamingLLM (arXiv 2309.17453)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> demote = in.Action(0);
    if (!demote.ok()) return demote.error();
    return Args{*demote};
  }
  static std::string Print(const Args& a) { return a.demote != 0 ? "demote" : "drop"; }

  static Result<bool> Score(const Args&, const SelectionContext& context, std::vector<float>& scores) {
    for (uint64_t i = 0; i < scores.size(); ++i) scores[i] = static_cast<float>(i % context.tokens);
    return true;
  }
};

}  // namespace kvasir
