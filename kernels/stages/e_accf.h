// SPDX-License-Identifier: Apache-2.0
// E:accf. Attention sums that forget: score_t = sum_q gamma^(n - 1 - q) A[q, t], so that early tokens, which more
// queries saw, do not win by age (A2SF: Accumulative Attention Scoring with Forgetting Factor for Token Pruning in
// Transformer Decoder, arXiv 2407.20485). The engine forgets as it sums, S := gamma S + A[q]; here the factor is
// checked.
#pragma once

#include "kernels/stages/e_acc.h"

namespace kvasir {

struct ForgettingScorer {
  struct Args {
    uint32_t gamma = 950000;  ///< millionths
    uint32_t demote = 0;
  };
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {"E", "accf", "accf(gamma[,drop|demote])",
                                      "As acc, each step weighing gamma times the next (A2SF, arXiv 2407.20485)",
                                      "attention_sums, attention_decay"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    const Result<uint32_t> gamma = in.Share(0, 0, "forgetting factor");
    if (!gamma.ok()) return gamma.error();
    const Result<uint32_t> demote = in.Action(1);
    if (!demote.ok()) return demote.error();
    return Args{*gamma, *demote};
  }
  static std::string Print(const Args& a) { return PrintShare(a.gamma) + (a.demote != 0 ? ",demote" : ",drop"); }

  static Result<bool> Score(const Args& a, const SelectionContext& context, std::vector<float>& scores) {
    return AttentionScorer::Sums("E:accf", static_cast<float>(a.gamma / 1e6), context, scores);
  }
};

}  // namespace kvasir
