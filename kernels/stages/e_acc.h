// SPDX-License-Identifier: Apache-2.0
// E:acc. Tokens that were paid most attention matter most: score_t = sum_q A[q, t] over all queries q (H2O:
// Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models, arXiv 2306.14048). H2O keeps the
// latest tokens too: R:win.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct AttentionScorer : ActionOnly {
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {"E", "acc", "acc[(drop|demote)]",
                                      "Tokens that were paid most attention are kept (H2O, arXiv 2306.14048)",
                                      "attention_sums"};

  static Result<bool> Score(const Args&, const SelectionContext& context, std::vector<float>& scores) {
    return Sums("E:acc", 1.0f, context, scores);
  }
  /// The attention sums, which must have been made with that decay.
  static Result<bool> Sums(std::string_view stage, float decay, const SelectionContext& context,
                           std::vector<float>& scores) {
    const std::span<const float> sums = context.inputs.attention_sums;
    if (Result<bool> there = NeedInput(stage, "attention_sums", sums.size(), scores.size()); !there.ok()) return there;
    if (std::fabs(context.inputs.attention_decay - decay) > 1e-6f) {
      return Error{ErrorCode::kInvalidArgument, std::string(stage) + ": attention_sums came with attention_decay " +
                                                    std::to_string(context.inputs.attention_decay) +
                                                    ", this spec takes " + std::to_string(decay)};
    }
    std::copy(sums.begin(), sums.end(), scores.begin());
    return true;
  }
};

}  // namespace kvasir
