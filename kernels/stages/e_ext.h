// SPDX-License-Identifier: Apache-2.0
// E:ext. Scores that the engine made: KVzip (arXiv 2505.23416), Locret (arXiv 2410.01805), Attention-Gate (arXiv
// 2410.12876), token entropy, flags of a vision model. Higher is kept.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct ExternalScorer {
  struct Args {
    uint32_t demote = 0;
  };
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {"E", "ext", "ext[(drop|demote)]",
                                      "Scores of the engine, such as those of KVzip (arXiv 2505.23416)",
                                      "external_scores"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> demote = in.Action(0);
    if (!demote.ok()) return demote.error();
    return Args{*demote};
  }
  static std::string Print(const Args& a) { return a.demote != 0 ? "demote" : "drop"; }

  static Result<bool> Score(const Args&, const SelectionContext& context, std::vector<float>& scores) {
    const std::span<const float> brought = context.inputs.external_scores;
    if (Result<bool> there = NeedInput("E:ext", "external_scores", brought.size(), scores.size()); !there.ok()) {
      return there;
    }
    std::copy(brought.begin(), brought.end(), scores.begin());
    return true;
  }
};

}  // namespace kvasir
