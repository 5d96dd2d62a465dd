// SPDX-License-Identifier: Apache-2.0
// E:mv. Tokens that the last queries look at, or look at by turns: mean plus gamma times variance of their attention
// (CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences, arXiv 2503.12491). Over the last w queries of
// each query head:
//   s_t = mean_q A[q, t] + gamma var_q A[q, t],  t < n - w;  p_t = mean of s over the k tokens around t, outside counts
//   0 score_t = mean of p_t over the query heads of the KV head
// The window itself is kept first.
#pragma once

#include "kernels/stages/window_attention.h"

namespace kvasir {

struct MeanVarianceScorer {
  struct Args {
    uint32_t gamma = 200;
    uint32_t window = 32;
    uint32_t kernel = 5;
    uint32_t demote = 0;
  };
  static constexpr uint32_t kGammaMax = 100000;
  static constexpr uint32_t kWindowMax = 1024;
  static constexpr uint32_t kKernelMax = 255;
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {
      "E", "mv", "mv[(gamma[,window[,kernel[,drop|demote]]])]",
      "Tokens by mean and variance of the attention of the last queries (CAKE, arXiv 2503.12491)", "window_queries"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 4); !counted.ok()) return counted.error();
    const Result<uint32_t> gamma = in.Number(0, 200, 0, kGammaMax, "gamma");
    if (!gamma.ok()) return gamma.error();
    const Result<uint32_t> window = in.Number(1, 32, 1, kWindowMax, "queries of the window");
    if (!window.ok()) return window.error();
    const Result<uint32_t> kernel = in.Number(2, 5, 1, kKernelMax, "tokens of the pooling kernel, odd");
    if (!kernel.ok()) return kernel.error();
    if (*kernel % 2 == 0) return in.Refuse(2, "tokens of the pooling kernel, an odd number");
    const Result<uint32_t> demote = in.Action(3);
    if (!demote.ok()) return demote.error();
    return Args{*gamma, *window, *kernel, *demote};
  }
  static std::string Print(const Args& a) {
    return std::to_string(a.gamma) + "," + std::to_string(a.window) + "," + std::to_string(a.kernel) +
           (a.demote != 0 ? ",demote" : ",drop");
  }

  static Result<bool> Score(const Args& a, const SelectionContext& context, std::vector<float>& scores) {
    if (Result<bool> fit = CheckWindow("E:mv", a.window, context); !fit.ok()) return fit;
    const uint64_t n = context.tokens, before = n - a.window, side = a.kernel / 2;
    for (uint64_t head = 0; head < context.heads(); ++head) {
      const WindowMoments moments = MomentsOf(context, head, a.window);
      const auto group = static_cast<double>(moments.mean.size());
      std::vector<double> s(before);
      for (size_t member = 0; member < moments.mean.size(); ++member) {
        for (uint64_t t = 0; t < before; ++t) {
          s[t] += (moments.mean[member][t] + a.gamma * moments.variance[member][t]) / group;
        }
      }
      for (uint64_t t = 0; t < n; ++t) {
        double sum = 0;
        for (uint64_t i = t < side ? 0 : t - side; t < before && i < std::min(t + side + 1, before); ++i) sum += s[i];
        scores[head * n + t] = t < before ? static_cast<float>(sum / a.kernel) : kKeepFirst;
      }
    }
    return true;
  }
};

}  // namespace kvasir
