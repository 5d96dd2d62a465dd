// SPDX-License-Identifier: Apache-2.0
// M:zero. A dropped token goes into the kept one that it repeats, key and value; what repeats none goes into a class of
// its own that is nothing (EMS, arXiv 2412.08521). The kept tokens of a head are the centres of its classes. For each
// dropped token e:
//   r_ej = cos(k_e, k_j) cos(v_e, v_j) over the centres j;  r_e0 = tau is that of the zero class
//   class(e) = argmax r, of equal ones the zero class, then the earliest centre
// so that evicting and merging are one choice, and heads with many tokens to merge go the way of heads with few. With
// the scores s of a class's members, its centre's included:
//   v_j := sum s_i v_i / sum s_i;   k_j := the direction of sum s_i k_i / |k_i|, times sum s_i |k_i| / sum s_i
// The zero class, the product of cosines, weights by attention and norms apart from directions are the paper's; its tau
// could not be verified. The window and the sinks are no centres. Sums in float64, tokens ascending.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct ZeroMerge {
  struct Args {
    uint32_t tau = 600000;  ///< millionths
  };
  static constexpr StageRole kRole = StageRole::kMerge;
  static constexpr StageInfo kInfo = {"M", "zero", "zero[(tau)]",
                                      "A dropped token goes into the kept one that it repeats, or into the zero class "
                                      "(EMS, arXiv 2412.08521); after a scorer of attention"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> tau = in.Share(0, 600000, "tau, the least product of cosines of what is merged");
    if (!tau.ok()) return tau.error();
    return Args{*tau};
  }
  static std::string Print(const Args& a) { return PrintShare(a.tau); }

  static Result<bool> Merge(const Args& a, const SelectionContext& context, MergeHead& head) {
    for (const float score : head.scores) {
      if (score >= 0 && std::isfinite(score)) continue;
      return Error{ErrorCode::kInvalidArgument, "M:zero weighs by scores of at least 0; put it behind E:gl or E:acc"};
    }
    const std::vector<uint64_t> classes = Classes(a, context, head);
    Average(classes, head.scores, context.layout.value_dim, false, head.values);
    Average(classes, head.scores, context.layout.key_dim, true, head.keys);
    return true;
  }
  /// The centre of each dropped token, its own index for a centre; the number of tokens for the zero class and for
  /// tokens that take no part.
  static std::vector<uint64_t> Classes(const Args& a, const SelectionContext& context, const MergeHead& head) {
    const uint64_t n = head.classes.size(), key_dim = context.layout.key_dim, value_dim = context.layout.value_dim;
    std::vector<double> keys(n), values(n);  // norms
    for (uint64_t t = 0; t < n; ++t) {
      keys[t] = std::sqrt(Dot(&head.keys[t * key_dim], &head.keys[t * key_dim], key_dim));
      values[t] = std::sqrt(Dot(&head.values[t * value_dim], &head.values[t * value_dim], value_dim));
    }
    std::vector<uint64_t> classes(n, n);
    for (uint64_t e = 0; e < n; ++e) {
      if (head.classes[e] == RowClass::kKept) classes[e] = e;
      if (head.classes[e] != RowClass::kDropped) continue;
      double best = a.tau / 1e6;
      for (uint64_t j = 0; j < n; ++j) {
        const double norms = keys[e] * keys[j] * values[e] * values[j];
        if (head.classes[j] != RowClass::kKept || norms == 0) continue;
        const double r = Dot(&head.keys[e * key_dim], &head.keys[j * key_dim], key_dim) *
                         Dot(&head.values[e * value_dim], &head.values[j * value_dim], value_dim) / norms;
        if (r <= best) continue;
        best = r;
        classes[e] = j;
      }
    }
    return classes;
  }

 private:
  static double Dot(const float* a, const float* b, uint64_t dim) {
    double sum = 0;
    for (uint64_t c = 0; c < dim; ++c) sum += double{a[c]} * b[c];
    return sum;
  }
  static void Average(std::span<const uint64_t> classes, std::span<const float> scores, uint64_t dim, bool by_direction,
                      std::span<float> rows) {
    const uint64_t n = classes.size();
    std::vector<double> sums(n * dim), weights(n), norms(n);
    std::vector<uint64_t> members(n);
    for (uint64_t i = 0; i < n; ++i) {
      if (classes[i] == n) continue;
      const float* row = &rows[i * dim];
      const double norm = by_direction ? std::sqrt(Dot(row, row, dim)) : 1;
      if (norm == 0) continue;
      const uint64_t j = classes[i];
      for (uint64_t c = 0; c < dim; ++c) sums[j * dim + c] += scores[i] / norm * row[c];
      weights[j] += scores[i];
      norms[j] += scores[i] * norm;
      ++members[j];
    }
    for (uint64_t j = 0; j < n; ++j) {
      if (members[j] < 2 || weights[j] == 0) continue;  // a class of one stays as it is
      double length = weights[j];
      if (by_direction) {
        double squares = 0;
        for (uint64_t c = 0; c < dim; ++c) squares += sums[j * dim + c] * sums[j * dim + c];
        length = squares > 0 ? std::sqrt(squares) * weights[j] / norms[j] : 1;
      }
      for (uint64_t c = 0; c < dim; ++c) rows[j * dim + c] = static_cast<float>(sums[j * dim + c] / length);
    }
  }
};

}  // namespace kvasir
