// SPDX-License-Identifier: Apache-2.0
// M:cam. The value of a dropped token goes into those of the kept tokens behind it, by a draw (CaM: Cache Merging for
// Memory-efficient LLMs Inference, ICML 2024, openreview.net/forum?id=LCTmppB165). For each dropped token e, W the next
// m kept tokens, as many as there are, A the scores, sums of attention:
//   p = A_e / mean of A_j over j in W, at most 1;   where a draw of [0, 1) is below p:  v_j := v_j + v_e / |W|, j in W
// so that on average W brings as much of v_e as was paid to e. Keys stay. The paper merges as it generates, one token a
// step; over a whole chain at once every dropped token is one. The window and the sinks are exact, hence not in W.
// Draws come of a generator seeded by the argument, the layer and the head, one a dropped token that has a W, in order.
// Sums in float64, tokens ascending.
#pragma once

#include <random>

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct CacheMerge {
  struct Args {
    uint32_t tokens = 32;  ///< m
    uint32_t seed = 1;
  };
  static constexpr uint32_t kTokensMax = 4096;
  static constexpr StageRole kRole = StageRole::kMerge;
  static constexpr StageInfo kInfo = {"M", "cam", "cam[(tokens[,seed])]",
                                      "Values of dropped tokens go into those of so many kept ones behind them, by a "
                                      "draw (CaM, ICML 2024); after a scorer of attention"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 2); !counted.ok()) return counted.error();
    const Result<uint32_t> tokens = in.Number(0, 32, 1, kTokensMax, "m, the kept tokens that a dropped one goes into");
    if (!tokens.ok()) return tokens.error();
    const Result<uint32_t> seed = in.Number(1, 1, 0, 0xFFFFFFFF, "seed of the draws");
    if (!seed.ok()) return seed.error();
    return Args{*tokens, *seed};
  }
  static std::string Print(const Args& a) { return std::to_string(a.tokens) + "," + std::to_string(a.seed); }

  static Result<bool> Merge(const Args& a, const SelectionContext& context, MergeHead& head) {
    for (const float score : head.scores) {
      if (score >= 0 && std::isfinite(score)) continue;
      return Error{ErrorCode::kInvalidArgument, "M:cam draws by scores of at least 0; put it behind E:acc or E:gl"};
    }
    const uint64_t n = head.classes.size(), dim = context.layout.value_dim;
    std::vector<uint64_t> kept;
    for (uint64_t t = 0; t < n; ++t) {
      if (head.classes[t] == RowClass::kKept) kept.push_back(t);
    }
    std::mt19937_64 random((uint64_t{a.seed} << 32) + uint64_t{head.layer} * context.layout.kv_heads + head.head);
    std::vector<double> sums(n * dim);
    uint64_t next = 0;  // of `kept`, the first behind e
    for (uint64_t e = 0; e < n; ++e) {
      while (next < kept.size() && kept[next] <= e) ++next;
      if (next == kept.size()) break;
      if (head.classes[e] != RowClass::kDropped) continue;
      const std::span<const uint64_t> window =
          std::span<const uint64_t>(kept).subspan(next, std::min<uint64_t>(a.tokens, kept.size() - next));
      double attention = 0;
      for (const uint64_t j : window) attention += head.scores[j];
      const double count = static_cast<double>(window.size());
      const double draw = static_cast<double>(random() >> 11) * 0x1p-53;
      if (draw * attention >= head.scores[e] * count) continue;
      for (const uint64_t j : window) {
        for (uint64_t c = 0; c < dim; ++c) sums[j * dim + c] += head.values[e * dim + c] / count;
      }
    }
    for (const uint64_t j : kept) {
      for (uint64_t c = 0; c < dim; ++c) {
        float& v = head.values[j * dim + c];
        v = static_cast<float>(v + sums[j * dim + c]);
      }
    }
    return true;
  }
};

}  // namespace kvasir
