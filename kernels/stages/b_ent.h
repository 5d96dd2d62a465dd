// SPDX-License-Identifier: Apache-2.0
// B:ent. Layers whose attention is spread wide and moves much keep more (CAKE: Cascading and Adaptive KV Cache Eviction
// with Layer Preferences, arXiv 2503.12491). With A the attention of the last 32 queries, a_t its mean over them:
//   H_l = -sum_t a_t ln a_t,   V_l = sum_t var_q A[q, t],   both the mean over the query heads of layer l
//   P_l = H_l^(1 / tau1) V_l^(1 / tau2);   each head of layer l keeps L b P_l / sum P
// b tokens a head on the average, exempt ones not counted. What CAKE's cascade ends with is this: budgets of the layers
// so far only shrink as the next one comes.
#pragma once

#include "kernels/stages/window_attention.h"

namespace kvasir {

struct EntropyBudget {
  struct Args {
    TokenAmount amount;
    uint32_t tau1 = 100;  ///< hundredths
    uint32_t tau2 = 100;
  };
  static constexpr uint32_t kWindow = 32;
  static constexpr uint32_t kTauMax = 10000;
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {"B", "ent", "ent(amount[,tau1[,tau2]])",
                                      "Layers by entropy and variance of the attention of the last queries; tau in "
                                      "hundredths (CAKE, arXiv 2503.12491)",
                                      "window_queries"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 3); !counted.ok()) return counted.error();
    const Result<TokenAmount> amount = in.Amount(0, "tokens a head keeps on the average");
    if (!amount.ok()) return amount.error();
    const Result<uint32_t> tau1 = in.Number(1, 100, 1, kTauMax, "hundredths of tau1");
    if (!tau1.ok()) return tau1.error();
    const Result<uint32_t> tau2 = in.Number(2, 100, 1, kTauMax, "hundredths of tau2");
    if (!tau2.ok()) return tau2.error();
    return Args{*amount, *tau1, *tau2};
  }
  static std::string Print(const Args& a) {
    return PrintAmount(a.amount) + "," + std::to_string(a.tau1) + "," + std::to_string(a.tau2);
  }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float>,
                               std::vector<uint32_t>& counts) {
    if (Result<bool> fit = CheckWindow("B:ent", kWindow, context); !fit.ok()) return fit;
    const uint32_t exempt = context.ExemptTokens(), layers = context.layout.layers, heads = context.layout.kv_heads;
    const uint64_t total = uint64_t{layers} * context.BesideExempt(a.amount);
    std::vector<double> entropies(context.heads()), variances(context.heads()), wanted;
    ForEachOn(context.workers, context.heads(), [&](uint64_t head) {
      const WindowMoments moments = MomentsOf(context, head, kWindow);
      for (size_t member = 0; member < moments.mean.size(); ++member) {
        for (const double p : moments.mean[member]) entropies[head] -= p > 0 ? p * std::log(p) : 0;
        for (const double v : moments.variance[member]) variances[head] += v;
      }
    });
    double sum = 0;
    for (uint64_t layer = 0; layer < layers; ++layer) {
      double entropy = 0, variance = 0;
      for (uint64_t head = layer * heads; head < (layer + 1) * heads; ++head) {
        entropy += entropies[head];
        variance += variances[head];
      }
      entropy /= context.inputs.query_heads;
      variance /= context.inputs.query_heads;
      sum += wanted.emplace_back(std::pow(entropy, 100.0 / a.tau1) * std::pow(variance, 100.0 / a.tau2));
    }
    // Where all attention is nowhere or never moves, no layer is preferred.
    for (double& w : wanted) w = sum > 0 ? w / sum * static_cast<double>(total) : static_cast<double>(total) / layers;
    const std::vector<uint32_t> of_layer = ShareOut(wanted, total, context.tokens - exempt);
    for (uint64_t i = 0; i < context.heads(); ++i) counts.push_back(exempt + of_layer[i / heads]);
    return true;
  }
};

}  // namespace kvasir
