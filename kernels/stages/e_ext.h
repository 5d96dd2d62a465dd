// SPDX-License-Identifier: Apache-2.0
// E:ext. Scores that the engine made: KVzip (arXiv 2505.23416), Locret (arXiv 2410.01805), Attention-Gate (arXiv
// 2410.12876), token entropy, flags of a vision model. Higher is kept.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct ExternalScorer : ActionOnly {
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {"E", "ext", "ext[(drop|demote)]",
                                      "Scores of the engine, such as those of KVzip (arXiv 2505.23416)",
                                      "external_scores"};

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
