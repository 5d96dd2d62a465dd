// SPDX-License-Identifier: Apache-2.0
// E:late. The latest tokens are kept: with R:sink this is StreamingLLM (arXiv 2309.17453).
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct LateScorer : ActionOnly {
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {
      "E", "late", "late[(drop|demote)]",
      "The latest tokens are kept; with R:sink(4) this is StreamingLLM (arXiv 2309.17453)"};

  static Result<bool> Score(const Args&, const SelectionContext& context, std::vector<float>& scores) {
    for (uint64_t i = 0; i < scores.size(); ++i) scores[i] = static_cast<float>(i % context.tokens);
    return true;
  }
};

}  // namespace kvasir
