// SPDX-License-Identifier: Apache-2.0
// B:unc. Layers that need more tokens to keep their attention keep more (ZigZagKV: Dynamic KV Cache Compression for
// Long-context Modeling based on Layer Uncertainty, arXiv 2412.09036). With a the mean attention of the last 32
// queries:
//   m_l = mean over the query heads of layer l of the least number of tokens that hold the share rho of sum_t a_t
//   each head of layer l keeps L b m_l / sum m,   b tokens a head on the average, exempt ones not counted
#pragma once

#include "kernels/stages/window_attention.h"

namespace kvasir {

struct UncertaintyBudget {
  struct Args {
    TokenAmount amount;
    uint32_t share = 900000;  ///< rho in millionths
  };
  static constexpr uint32_t kWindow = 32;
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {
      "B", "unc", "unc(amount[,rho])",
      "Layers by how many tokens hold the share rho of their attention (ZigZagKV, arXiv "
      "2412.09036)",
      "window_queries"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    const Result<TokenAmount> amount = in.Amount(0, "tokens a head keeps on the average");
    if (!amount.ok()) return amount.error();
    const Result<uint32_t> share = in.Share(1, 900000, "rho, the share of the attention that is to be kept");
    if (!share.ok()) return share.error();
    return Args{*amount, *share};
  }
  static std::string Print(const Args& a) { return PrintAmount(a.amount) + "," + PrintShare(a.share); }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float>,
                               std::vector<uint32_t>& counts) {
    if (Result<bool> fit = CheckWindow("B:unc", kWindow, context); !fit.ok()) return fit;
    const uint32_t exempt = context.ExemptTokens(), layers = context.layout.layers, heads = context.layout.kv_heads;
    const uint64_t total = uint64_t{layers} * context.BesideExempt(a.amount);
    std::vector<double> of_head(context.heads()), wanted(layers);
    ForEachOn(context.workers, context.heads(), [&](uint64_t head) {
      const WindowMoments moments = MomentsOf(context, head, kWindow);
      for (const std::vector<double>& mean : moments.mean) of_head[head] += LeastTokens(mean, a.share / 1e6);
    });
    double sum = 0;
    for (uint64_t head = 0; head < context.heads(); ++head) {
      wanted[head / heads] += of_head[head];
      sum += of_head[head];
    }
    for (double& w : wanted) w = sum > 0 ? w / sum * static_cast<double>(total) : static_cast<double>(total) / layers;
    const std::vector<uint32_t> of_layer = ShareOut(wanted, total, context.tokens - exempt);
    for (uint64_t i = 0; i < context.heads(); ++i) counts.push_back(exempt + of_layer[i / heads]);
    return true;
  }

 private:
  /// How many of the greatest hold `share` of the sum.
  static double LeastTokens(std::vector<double> attention, double share) {
    double all = 0, held = 0;
    std::sort(attention.begin(), attention.end(), std::greater<>());
    for (const double x : attention) all += x;
    double count = 0;
    for (const double x : attention) {
      if (held >= share * all) break;
      held += x;
      ++count;
    }
    return count;
  }
};

}  // namespace kvasir
