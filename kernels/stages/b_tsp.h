// SPDX-License-Identifier: Apache-2.0
// B:tsp. Up to one layer every head keeps its budget; behind it only a share of the tokens exists at all (FastKV:
// KV Cache Compression for Fast Long-Context Processing with Token-Selective Propagation, arXiv 2502.01068). With b
// tokens a head, exempt ones not counted, of n, and the share rho that is passed on behind layer l:
//   layers 0 to l keep b, those behind it min(b, rho n)
// What is passed on are the tokens with the greatest scores of layer l, its heads together: E:tsp.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct PropagationBudget {
  struct Args {
    TokenAmount amount;
    uint32_t layer = 0;
    uint32_t share = 200000;  ///< millionths
  };
  static constexpr uint32_t kLayerMax = 4096;
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {"B", "tsp", "tsp(amount,layer[,share])",
                                      "Behind a layer only a share of the tokens exists (FastKV, arXiv 2502.01068); "
                                      "with E:tsp"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(2, 3); !counted.ok()) return counted.error();
    const Result<TokenAmount> amount = in.Amount(0, "tokens that each head keeps");
    if (!amount.ok()) return amount.error();
    const Result<uint32_t> layer = in.Number(1, 0, 0, kLayerMax, "the last layer that sees all tokens");
    if (!layer.ok()) return layer.error();
    const Result<uint32_t> share = in.Share(2, 200000, "share of the tokens that is passed on");
    if (!share.ok()) return share.error();
    return Args{*amount, *layer, *share};
  }
  static std::string Print(const Args& a) {
    return PrintAmount(a.amount) + "," + std::to_string(a.layer) + "," + PrintShare(a.share);
  }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float>,
                               std::vector<uint32_t>& counts) {
    const uint32_t exempt = context.ExemptTokens(), b = exempt + context.BesideExempt(a.amount);
    const uint32_t passed = std::max(exempt, TokenAmount{0, a.share}.Of(context.tokens));
    for (uint64_t i = 0; i < context.heads(); ++i) {
      counts.push_back(i / context.layout.kv_heads <= a.layer ? b : std::min(b, passed));
    }
    return true;
  }
};

}  // namespace kvasir
