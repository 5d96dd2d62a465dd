// SPDX-License-Identifier: Apache-2.0
// E:accn. The mean attention of the queries that saw a token: score_t = sum_q A[q, t] / (n - t) (ZipCache: Accurate and
// Efficient KV Cache Quantization with Salient Token Identification, arXiv 2405.14256).
#pragma once

#include "kernels/stages/e_acc.h"

namespace kvasir {

struct NormalisedScorer : ActionOnly {
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {
      "E", "accn", "accn[(drop|demote)]",
      "As acc, over the number of queries that saw the token (ZipCache, arXiv 2405.14256)", "attention_sums"};

  static Result<bool> Score(const Args&, const SelectionContext& context, std::vector<float>& scores) {
    if (Result<bool> sums = AttentionScorer::Sums("E:accn", 1.0f, context, scores); !sums.ok()) return sums;
    for (uint64_t i = 0; i < scores.size(); ++i) {
      scores[i] /= static_cast<float>(context.tokens - i % context.tokens);
    }
    return true;
  }
};

}  // namespace kvasir
