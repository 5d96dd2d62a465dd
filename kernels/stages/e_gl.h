// SPDX-License-Identifier: Apache-2.0
// E:gl. What all queries look at and what the last ones look at, brought to the same mean (EMS: Adaptive
// Evict-then-Merge Strategy for Head-wise KV Cache Compression Based on Global-Local Importance, arXiv 2412.08521). Of
// each head
//   g_t = sum_q A[q, t] over all queries;   l_t = the same over the last w, of all query heads of the KV head
//   score_t = g_t + l_t (sum_t g_t / sum_t l_t)
// The paper aligns the means of both scores and combines them. That they are added here is this stage's choice. Sums in
// float64, tokens ascending.
#pragma once

#include "kernels/stages/e_acc.h"
#include "kernels/stages/window_attention.h"

namespace kvasir {

struct GlobalLocalScorer {
  struct Args {
    uint32_t window = 32;  ///< queries
    uint32_t demote = 0;
  };
  static constexpr uint32_t kWindowMax = 1024;
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {"E", "gl", "gl(window[,drop|demote])",
                                      "Tokens that all queries, or the last ones, pay most attention are kept (EMS, "
                                      "arXiv 2412.08521)",
                                      "attention_sums, window_queries"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    const Result<uint32_t> window = in.Number(0, 32, 1, kWindowMax, "queries of the window");
    if (!window.ok()) return window.error();
    const Result<uint32_t> demote = in.Action(1);
    if (!demote.ok()) return demote.error();
    return Args{*window, *demote};
  }
  static std::string Print(const Args& a) { return std::to_string(a.window) + (a.demote != 0 ? ",demote" : ",drop"); }

  static Result<bool> Score(const Args& a, const SelectionContext& context, std::vector<float>& scores) {
    if (Result<bool> sums = AttentionScorer::Sums("E:gl", 1.0f, context, scores); !sums.ok()) return sums;
    if (Result<bool> window = CheckWindow("E:gl", a.window, context); !window.ok()) return window;
    const uint64_t n = context.tokens;
    for (uint64_t head = 0; head < context.heads(); ++head) {
      const std::vector<double> local = AttentionOf(context, head, a.window);
      double of_global = 0, of_local = 0;
      for (uint64_t t = 0; t < n; ++t) {
        of_global += scores[head * n + t];
        of_local += local[t];
      }
      for (uint64_t t = 0; t < n; ++t) {
        scores[head * n + t] = static_cast<float>(scores[head * n + t] + local[t] * (of_global / of_local));
      }
    }
    return true;
  }
};

}  // namespace kvasir
