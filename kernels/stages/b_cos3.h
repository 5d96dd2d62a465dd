// SPDX-License-Identifier: Apache-2.0
// B:cos3. Layers that change the hidden state least keep least (SqueezeAttention: 2D Management of KV-Cache in LLM
// Inference via Layer-wise Optimal Budget, arXiv 2404.04793). The L layers fall into three classes by k-means of the
// cosine between the hidden state before and after attention. With b tokens a head on the average, exempt ones not
// counted, each layer of the class C with the greatest cosines keeps p b, each other one (L b - |C| p b) / (L - |C|).
// The classes are the best there are: of all ways to cut the sorted cosines in three, the one with the least sum of
// squared distances to the means. Iterations from a start may end at a worse one.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct CosineBudget {
  struct Args {
    TokenAmount amount;
    uint32_t p = 300000;  ///< millionths
  };
  static constexpr StageRole kRole = StageRole::kBudget;
  static constexpr StageInfo kInfo = {"B", "cos3", "cos3(amount[,p])",
                                      "Layers that change the hidden state least keep p of the budget, the others more "
                                      "(SqueezeAttention, arXiv 2404.04793)",
                                      "hidden_cosine"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    const Result<TokenAmount> amount = in.Amount(0, "tokens a head keeps on the average");
    if (!amount.ok()) return amount.error();
    const Result<uint32_t> p = in.Share(1, 300000, "share of the budget that the least important layers keep");
    if (!p.ok()) return p.error();
    return Args{*amount, *p};
  }
  static std::string Print(const Args& a) { return PrintAmount(a.amount) + "," + PrintShare(a.p); }

  static Result<bool> Allocate(const Args& a, const SelectionContext& context, std::span<const float>,
                               std::vector<uint32_t>& counts) {
    const std::span<const float> cosines = context.inputs.hidden_cosine;
    const uint32_t layers = context.layout.layers, exempt = context.ExemptTokens();
    Result<bool> there = NeedInput("B:cos3", "hidden_cosine", cosines.size(), layers);
    if (!there.ok()) return there;
    for (const float cosine : cosines) {
      if (!std::isfinite(cosine))
        return Error{ErrorCode::kInvalidArgument, "B:cos3: one of hidden_cosine is not finite"};
    }
    const std::vector<bool> least = LeastImportant(cosines);
    const double b = context.BesideExempt(a.amount), p = a.p / 1e6;
    const auto squeezed = static_cast<double>(std::count(least.begin(), least.end(), true));
    std::vector<double> wanted(layers, b);
    for (uint32_t l = 0; l < layers && squeezed < layers; ++l) {
      wanted[l] = least[l] ? p * b : (layers * b - squeezed * p * b) / (layers - squeezed);
    }
    const uint64_t total = uint64_t{layers} * context.BesideExempt(a.amount);
    const std::vector<uint32_t> of_layer = ShareOut(wanted, total, context.tokens - exempt);
    for (uint64_t i = 0; i < context.heads(); ++i) counts.push_back(exempt + of_layer[i / context.layout.kv_heads]);
    return true;
  }

 private:
  /// Which layers are in the class with the greatest cosines.
  static std::vector<bool> LeastImportant(std::span<const float> cosines) {
    std::vector<double> x(cosines.begin(), cosines.end());
    std::sort(x.begin(), x.end());
    std::vector<double> sums(x.size() + 1), squares(x.size() + 1);
    for (size_t i = 0; i < x.size(); ++i) {
      sums[i + 1] = sums[i] + x[i];
      squares[i + 1] = squares[i] + x[i] * x[i];
    }
    const auto loss = [&](size_t from, size_t to) {
      const double sum = sums[to] - sums[from];
      return from == to ? 0.0 : squares[to] - squares[from] - sum * sum / static_cast<double>(to - from);
    };
    const auto cut = [&](size_t at) { return at == 0 || x[at - 1] < x[at]; };
    double least = std::numeric_limits<double>::infinity(), threshold = x[0];
    for (size_t i = 0; i < x.size(); ++i) {
      for (size_t j = i; j < x.size() && cut(i); ++j) {
        if (!cut(j)) continue;
        const double all = loss(0, i) + loss(i, j) + loss(j, x.size());
        if (all >= least) continue;
        least = all;
        threshold = x[j];
      }
    }
    std::vector<bool> in(cosines.size());
    for (size_t l = 0; l < cosines.size(); ++l) in[l] = cosines[l] >= threshold;
    return in;
  }
};

}  // namespace kvasir
