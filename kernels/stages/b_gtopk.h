// SPDX-License-Identifier: Apache-2.0
// B:gtopk. Layers share a budget by where the greatest scores are (DynamicKV: Task-Aware Adaptive KV Cache Compression
// for Long Context LLMs, arXiv 2412.14838). With b tokens a head on the average, exempt ones not counted, L layers of H
// heads, and c_l the number of layer l's scores among the L H b greatest of all layers:
//   each head of layer l keeps rho b + (1 - rho) c_l / H,   rho the share that is safe in every layer
// The paper recounts every m layers, while later ones are still to come, to bound memory during prefill; what it ends
// with is the count over all of them, which is what a view made after prefill can have at once.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct GlobalBudget {
  struct Args {
    TokenAmount amount;
    uint32_t least = 100000;  ///< of the budget, in millionths
  };
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {
      "B", "gtopk", "gtopk(amount[,least])",
      "Layers keep as many as they have of the greatest scores of all (DynamicKV, arXiv "
      "2412.14838)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    const Result<TokenAmount> amount = in.Amount(0, "tokens a head keeps on the average");
    if (!amount.ok()) return amount.error();
    const Result<uint32_t> least = in.Share(1, 100000, "share of the budget that is safe in every layer");
    if (!least.ok()) return least.error();
    return Args{*amount, *least};
  }
  static std::string Print(const Args& a) { return PrintAmount(a.amount) + "," + PrintShare(a.least); }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float> scores,
                               std::vector<uint32_t>& counts) {
    const uint32_t exempt = context.ExemptTokens(), b = context.BesideExempt(a.amount);
    const uint64_t layers = context.layout.layers, heads = context.layout.kv_heads;
    std::vector<uint64_t> places;
    for (uint64_t i = 0; i < scores.size(); ++i) {
      if (!context.Exempt(static_cast<uint32_t>(i % context.tokens))) places.push_back(i);
    }
    const uint64_t greatest = layers * heads * b;
    std::nth_element(places.begin(), places.begin() + static_cast<ptrdiff_t>(greatest), places.end(),
                     [&](uint64_t i, uint64_t j) { return scores[i] != scores[j] ? scores[i] > scores[j] : i < j; });
    const double safe = a.least / 1e6;
    std::vector<double> wanted(layers, safe * b);
    for (uint64_t i = 0; i < greatest; ++i) {
      wanted[places[i] / context.tokens / heads] += (1 - safe) / static_cast<double>(heads);
    }
    const std::vector<uint32_t> of_layer = ShareOut(wanted, layers * b, context.tokens - exempt);
    for (uint64_t i = 0; i < context.heads(); ++i) counts.push_back(exempt + of_layer[i / heads]);
    return true;
  }
};

}  // namespace kvasir
