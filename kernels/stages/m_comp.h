// SPDX-License-Identifier: Apache-2.0
// M:comp. The tokens that a head drops leave one that stands for them (RazorAttention: Efficient KV Cache Compression
// Through Retrieval Heads, arXiv 2407.15891). Of N_d dropped tokens:
//   k^ = sum k / N_d,  v^ = sum v / N_d
//   attention = (N_d exp(q . k^ / sqrt(d)) v^ + sum over the kept) / (N_d exp(q . k^ / sqrt(d)) + sum over the kept)
// It lies in the place of the first token that is dropped, beside the budget, with N_d as both of its weights. Sums in
// float64, tokens ascending.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct CompensationMerge {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kMerge;
  static constexpr StageInfo kInfo = {
      "M", "comp", "comp",
      "One token with the mean of all that a head drops, weighing as many (RazorAttention, arXiv 2407.15891)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
    return Args{};
  }
  static std::string Print(const Args&) { return ""; }

  static Result<bool> Merge(const Args&, const SelectionContext& context, MergeHead& head) {
    const auto dropped =
        static_cast<uint32_t>(std::count(head.classes.begin(), head.classes.end(), RowClass::kDropped));
    if (dropped == 0) return true;
    const uint64_t slot = static_cast<uint64_t>(
        std::find(head.classes.begin(), head.classes.end(), RowClass::kDropped) - head.classes.begin());
    Mean(head, head.keys, context.layout.key_dim, dropped, slot);
    Mean(head, head.values, context.layout.value_dim, dropped, slot);
    head.classes[slot] = RowClass::kKept;
    head.weights[2 * slot] = head.weights[2 * slot + 1] = static_cast<float>(dropped);
    return true;
  }

 private:
  /// Row `slot` becomes the mean of the dropped rows.
  static void Mean(const MergeHead& head, std::span<float> rows, uint64_t dim, uint32_t dropped, uint64_t slot) {
    for (uint64_t c = 0; c < dim; ++c) {
      double sum = 0;
      for (uint64_t t = 0; t < head.classes.size(); ++t) {
        if (head.classes[t] == RowClass::kDropped) sum += rows[t * dim + c];
      }
      rows[slot * dim + c] = static_cast<float>(sum / dropped);
    }
  }
};

}  // namespace kvasir
