// SPDX-License-Identifier: Apache-2.0
// M:near. A dropped token that is like a kept one goes into it, others are lost (D2O: Dynamic Discriminative Operations
// for Efficient Long-Context Inference of Large Language Models, arXiv 2406.13035). For each dropped token e of a head:
//   j(e) = argmax over the kept tokens of cos(k_e, k_j), of equal ones the earliest;   u_e = cos(k_e, k_j(e))
//   e is merged where u_e >= theta, the mean of all u
//   k_j := (e^1 k_j + sum e^(u_e) k_e) / (e^1 + sum e^(u_e)) over the e merged into j, and v_j by the same weights
// The window and the sinks take part as they are kept, but stay exact: nothing is merged into them. The paper's theta
// moves on while decoding (0.3 theta + 0.7 mean); over a whole chain at once it is the mean. Sums in float64, tokens
// ascending.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct NearestMerge {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kMerge;
  static constexpr StageInfo kInfo = {
      "M", "near", "near", "A dropped token goes into the kept one whose key is most like it (D2O, arXiv 2406.13035)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
    return Args{};
  }
  static std::string Print(const Args&) { return ""; }

  static Result<bool> Merge(const Args&, const SelectionContext& context, MergeHead& head) {
    const uint64_t n = head.classes.size(), dim = context.layout.key_dim;
    std::vector<double> norms(n);
    for (uint64_t t = 0; t < n; ++t) norms[t] = std::sqrt(Dot(&head.keys[t * dim], &head.keys[t * dim], dim));
    std::vector<uint64_t> nearest(n, n);
    std::vector<double> likeness(n);
    double sum = 0, dropped = 0;
    for (uint64_t e = 0; e < n; ++e) {
      if (head.classes[e] != RowClass::kDropped) continue;
      double best = -2;
      for (uint64_t j = 0; j < n; ++j) {
        if (head.classes[j] != RowClass::kKept) continue;
        const double both = norms[e] * norms[j];
        const double cosine = both > 0 ? Dot(&head.keys[e * dim], &head.keys[j * dim], dim) / both : 0;
        if (cosine <= best) continue;
        best = cosine;
        nearest[e] = j;
      }
      if (nearest[e] == n) return true;  // nothing is kept that may change
      likeness[e] = best;
      sum += best;
      ++dropped;
    }
    for (uint64_t e = 0; e < n; ++e) {
      if (nearest[e] < n && likeness[e] < sum / dropped) nearest[e] = n;
    }
    Average(nearest, likeness, dim, head.keys);
    Average(nearest, likeness, context.layout.value_dim, head.values);
    return true;
  }

 private:
  static double Dot(const float* a, const float* b, uint64_t dim) {
    double sum = 0;
    for (uint64_t c = 0; c < dim; ++c) sum += double{a[c]} * b[c];
    return sum;
  }
  static void Average(std::span<const uint64_t> nearest, std::span<const double> likeness, uint64_t dim,
                      std::span<float> rows) {
    const uint64_t n = nearest.size();
    const double own = std::exp(1.0);
    std::vector<double> weight(n), sums(n * dim);
    for (uint64_t e = 0; e < n; ++e) {
      if (nearest[e] == n) continue;
      const double w = std::exp(likeness[e]);
      weight[nearest[e]] += w;
      for (uint64_t c = 0; c < dim; ++c) sums[nearest[e] * dim + c] += w * rows[e * dim + c];
    }
    for (uint64_t j = 0; j < n; ++j) {
      if (weight[j] == 0) continue;
      for (uint64_t c = 0; c < dim; ++c) {
        float& x = rows[j * dim + c];
        x = static_cast<float>((own * x + sums[j * dim + c]) / (own + weight[j]));
      }
    }
  }
};

}  // namespace kvasir
