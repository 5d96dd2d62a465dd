// SPDX-License-Identifier: Apache-2.0
// E:tsp. Behind layer l only the tokens exist that it passed on (FastKV, arXiv 2502.01068): of its scores the mean over
// its heads, the share rho of the tokens with the greatest mean, of equal ones the earlier. Behind l all other tokens
// have the score of none; within those that exist each head chooses by its own scores.
#pragma once

#include <numeric>

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct PropagationScores {
  struct Args {
    uint32_t layer = 0;
    uint32_t share = 200000;  ///< millionths
  };
  static constexpr uint32_t kLayerMax = 4096;
  static constexpr StageRole kRole = StageRole::kReshape;
  static constexpr StageInfo kInfo = {"E", "tsp", "tsp(layer[,share])",
                                      "Behind a layer the tokens that it did not pass on have no score (FastKV, arXiv "
                                      "2502.01068); after a scorer"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    return ReadFrom(in, 0);
  }
  /// Both arguments, the first at `index`: B:tsp has them too.
  static Result<Args> ReadFrom(const StageArguments& in, size_t index) {
    const Result<uint32_t> layer = in.Number(index, 0, 0, kLayerMax, "the last layer that sees all tokens");
    if (!layer.ok()) return layer.error();
    const Result<uint32_t> share = in.Share(index + 1, 200000, "share of the tokens that is passed on");
    if (!share.ok()) return share.error();
    return Args{*layer, *share};
  }
  static std::string Print(const Args& a) { return std::to_string(a.layer) + "," + PrintShare(a.share); }

  static Result<bool> Reshape(const Args& a, const SelectionContext& context, std::vector<float>& scores) {
    const uint64_t n = context.tokens, heads = context.layout.kv_heads;
    if (a.layer + 1 >= context.layout.layers) return true;  // nothing lies behind it
    std::vector<double> mean(n);
    for (uint64_t head = 0; head < heads; ++head) {
      for (uint64_t t = 0; t < n; ++t) mean[t] += scores[(a.layer * heads + head) * n + t];
    }
    std::vector<uint32_t> order(n);
    std::iota(order.begin(), order.end(), 0u);
    const auto better = [&](uint32_t i, uint32_t j) {
      const bool i_exempt = context.Exempt(i), j_exempt = context.Exempt(j);
      if (i_exempt != j_exempt) return i_exempt;
      return mean[i] != mean[j] ? mean[i] > mean[j] : i < j;
    };
    const uint32_t passed = std::max(context.ExemptTokens(), TokenAmount{0, a.share}.Of(context.tokens));
    std::nth_element(order.begin(), order.begin() + passed, order.end(), better);
    for (uint64_t head = (a.layer + 1) * heads; head < context.heads(); ++head) {
      for (uint64_t i = passed; i < n; ++i) scores[head * n + order[i]] = -std::numeric_limits<float>::infinity();
    }
    return true;
  }
};

}  // namespace kvasir
