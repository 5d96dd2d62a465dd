// SPDX-License-Identifier: Apache-2.0
// B:ada. Heads that have more of the greatest scores keep more (Ada-KV: Optimizing KV Cache Eviction by Adaptive Budget
// Allocation for Efficient LLM Inference, arXiv 2407.11550). With b tokens a head on the average, exempt ones not
// counted, and c_h the number of head h's tokens among the H b with the greatest scores of the layer's H heads:
//   head h keeps (1 - alpha) c_h + alpha b
// `all` takes the heads of all layers together: one threshold for the whole model (KVzip, arXiv 2505.23416).
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct AdaptiveBudget {
  struct Args {
    TokenAmount amount;
    uint32_t alpha = 200000;  ///< millionths: the share that is safe in every head
    uint32_t all = 0;
  };
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {"B", "ada", "ada(amount[,alpha[,layer|all]])",
                                      "Heads with more of the greatest scores of their layer, or of all layers, keep "
                                      "more (Ada-KV, arXiv 2407.11550)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 3); !counted.ok()) return counted.error();
    const Result<TokenAmount> amount = in.Amount(0, "tokens a head keeps on the average");
    if (!amount.ok()) return amount.error();
    const Result<uint32_t> alpha = in.Share(1, 200000, "share of the budget that every head has");
    if (!alpha.ok()) return alpha.error();
    const Result<uint32_t> all = in.Word(2, 0, {{"layer", "all"}}, "heads that compete");
    if (!all.ok()) return all.error();
    return Args{*amount, *alpha, *all};
  }
  static std::string Print(const Args& a) {
    return PrintAmount(a.amount) + "," + PrintShare(a.alpha) + (a.all != 0 ? ",all" : ",layer");
  }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float> scores,
                               std::vector<uint32_t>& counts) {
    const uint32_t exempt = context.ExemptTokens(), b = context.BesideExempt(a.amount);
    const uint64_t together = a.all != 0 ? context.heads() : context.layout.kv_heads;
    for (uint64_t first = 0; first < context.heads(); first += together) {
      std::vector<double> wanted(together, a.alpha / 1e6 * b);
      for (const uint64_t place : Greatest(context, scores, first, together, together * b)) {
        wanted[place / context.tokens - first] += 1 - a.alpha / 1e6;
      }
      for (const uint32_t count : ShareOut(wanted, together * b, context.tokens - exempt)) {
        counts.push_back(exempt + count);
      }
    }
    return true;
  }

 private:
  /// The places in `scores` of the `count` greatest of those heads, without exempt tokens; of equal ones the earlier.
  static std::vector<uint64_t> Greatest(const SelectionContext& context, std::span<const float> scores, uint64_t first,
                                        uint64_t heads, uint64_t count) {
    std::vector<uint64_t> places;
    for (uint64_t i = first * context.tokens; i < (first + heads) * context.tokens; ++i) {
      if (!context.Exempt(static_cast<uint32_t>(i % context.tokens))) places.push_back(i);
    }
    std::nth_element(places.begin(), places.begin() + static_cast<ptrdiff_t>(count), places.end(),
                     [&](uint64_t i, uint64_t j) { return scores[i] != scores[j] ? scores[i] > scores[j] : i < j; });
    places.resize(count);
    return places;
  }
};

}  // namespace kvasir
