// SPDX-License-Identifier: Apache-2.0
// B:var. Layers whose attention is spread evenly keep more (D2O: Dynamic Discriminative Operations for Efficient
// Long-Context Inference of Large Language Models, arXiv 2406.13035). With s_t the attention that token t was paid in a
// layer, its heads together, over the mean of all tokens:
//   F_l = var_t s_t;   each head of layer l keeps L b exp(-F_l) / sum exp(-F),  n at most
// b tokens a head on the average, exempt ones not counted. The scale of s is ours: the paper's sums grow with the
// chain.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct VarianceBudget {
  struct Args {
    TokenAmount amount;
  };
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {"B", "var", "var(amount)",
                                      "Layers whose attention is spread evenly keep more (D2O, arXiv 2406.13035)",
                                      "attention_sums"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 1); !counted.ok()) return counted.error();
    const Result<TokenAmount> amount = in.Amount(0, "tokens a head keeps on the average");
    if (!amount.ok()) return amount.error();
    return Args{*amount};
  }
  static std::string Print(const Args& a) { return PrintAmount(a.amount); }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float> scores,
                               std::vector<uint32_t>& counts) {
    const std::span<const float> sums = context.inputs.attention_sums;
    if (Result<bool> there = NeedInput("B:var", "attention_sums", sums.size(), scores.size()); !there.ok())
      return there;
    const uint32_t exempt = context.ExemptTokens(), layers = context.layout.layers;
    const uint64_t n = context.tokens, heads = context.layout.kv_heads;
    const uint64_t total = uint64_t{layers} * context.BesideExempt(a.amount);
    std::vector<double> wanted;
    for (uint64_t layer = 0; layer < layers; ++layer) {
      std::vector<double> s(n);
      double mean = 0, variance = 0;
      for (uint64_t head = layer * heads; head < (layer + 1) * heads; ++head) {
        for (uint64_t t = 0; t < n; ++t) s[t] += sums[head * n + t];
      }
      for (const double x : s) mean += x / static_cast<double>(n);
      for (const double x : s) variance += (x / mean - 1) * (x / mean - 1) / static_cast<double>(n);
      wanted.push_back(mean > 0 ? -variance : 0);
    }
    Softmax(wanted);
    for (double& w : wanted) w *= static_cast<double>(total);
    const std::vector<uint32_t> of_layer = ShareOut(wanted, total, context.tokens - exempt);
    for (uint64_t i = 0; i < context.heads(); ++i) counts.push_back(exempt + of_layer[i / heads]);
    return true;
  }
};

}  // namespace kvasir
