// SPDX-License-Identifier: Apache-2.0
// B:pyr. Lower layers keep more than upper ones (PyramidKV: Dynamic KV Cache Compression based on Pyramidal Information
// Funneling, arXiv 2406.02069). With b tokens a head on the average, exempt ones not counted, of n:
//   layer 0 keeps 2 b - b / beta, the last one b / beta, those between lie on the line
// Where the first would be more than n it keeps n and the last one 2 b - n.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct PyramidBudget {
  struct Args {
    TokenAmount amount;
    uint32_t beta = 20;
  };
  static constexpr uint32_t kBetaMax = 1000;
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {"B", "pyr", "pyr(amount[,beta])",
                                      "Lower layers keep more than upper ones (PyramidKV, arXiv 2406.02069)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    const Result<TokenAmount> amount = in.Amount(0, "tokens a head keeps on the average");
    if (!amount.ok()) return amount.error();
    const Result<uint32_t> beta = in.Number(1, 20, 1, kBetaMax, "beta");
    if (!beta.ok()) return beta.error();
    return Args{*amount, *beta};
  }
  static std::string Print(const Args& a) { return PrintAmount(a.amount) + "," + std::to_string(a.beta); }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float>,
                               std::vector<uint32_t>& counts) {
    const uint32_t layers = context.layout.layers, exempt = context.ExemptTokens(), n = context.tokens - exempt;
    const uint32_t b = context.BesideExempt(a.amount);
    const double first = std::min(2.0 * b - 1.0 * b / a.beta, double{1} * n), last = 2.0 * b - first;
    std::vector<double> wanted(layers, b);
    for (uint32_t l = 0; l < layers && layers > 1; ++l) wanted[l] = first + (last - first) * l / (layers - 1);
    const std::vector<uint32_t> of_layer = ShareOut(wanted, uint64_t{b} * layers, n);
    for (uint64_t i = 0; i < context.heads(); ++i) counts.push_back(exempt + of_layer[i / context.layout.kv_heads]);
    return true;
  }
};

}  // namespace kvasir
