// SPDX-License-Identifier: Apache-2.0
// M:kcen. What a head drops leaves a sketch that estimates its attention without bias (SubGen: Token Generation in
// Sublinear Time and Memory, arXiv 2402.06082). The dropped tokens in order, clustered as they come: the nearest
// centre's cluster where that lies within delta, else a new centre. Of cluster i with n_i tokens t uniform samples,
// with replacement; of all dropped tokens s samples by |v|^2, with replacement:
//   denominator  sum_i n_i / t sum over its samples e^(q . k)
//   numerator    sum |v|^2 / s sum over the samples e^(q . k) v / |v_j|^2
// Each sampled token is kept, with both of its weights: 0 where it is a sample of the other kind only. Samples come
// of a generator seeded by the argument, the layer and the head. Beside the budget.
#pragma once

#include <random>

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct CentreMerge {
  struct Args {
    uint32_t delta = 40;  ///< tenths
    uint32_t samples = 2;
    uint32_t values = 64;
    uint32_t seed = 1;
  };
  static constexpr uint32_t kDeltaMax = 1000000;
  static constexpr uint32_t kSamplesMax = 65536;
  static constexpr StageRole kRole = StageRole::kMerge;
  static constexpr StageInfo kInfo = {
      "M", "kcen", "kcen(delta[,samples[,values[,seed]]])",
      "A sketch of what is dropped: samples of clusters of radius delta (tenths), and of values by norm (SubGen, arXiv "
      "2402.06082)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 4); !counted.ok()) return counted.error();
    const Result<uint32_t> delta = in.Number(0, 40, 1, kDeltaMax, "tenths of delta, the radius of a cluster");
    if (!delta.ok()) return delta.error();
    const Result<uint32_t> samples = in.Number(1, 2, 1, kSamplesMax, "samples of a cluster");
    if (!samples.ok()) return samples.error();
    const Result<uint32_t> values = in.Number(2, 64, 1, kSamplesMax, "samples of values");
    if (!values.ok()) return values.error();
    const Result<uint32_t> seed = in.Number(3, 1, 0, 0xFFFFFFFF, "seed of the samples");
    if (!seed.ok()) return seed.error();
    return Args{*delta, *samples, *values, *seed};
  }
  static std::string Print(const Args& a) {
    return std::to_string(a.delta) + "," + std::to_string(a.samples) + "," + std::to_string(a.values) + "," +
           std::to_string(a.seed);
  }

  static Result<bool> Merge(const Args& a, const SelectionContext& context, MergeHead& head) {
    std::vector<uint64_t> dropped;
    for (uint64_t t = 0; t < head.classes.size(); ++t) {
      if (head.classes[t] == RowClass::kDropped) dropped.push_back(t);
    }
    if (dropped.empty()) return true;
    std::mt19937_64 random((uint64_t{a.seed} << 32) + uint64_t{head.layer} * context.layout.kv_heads + head.head);
    std::vector<double> denominator(head.classes.size()), numerator(head.classes.size());
    for (const std::vector<uint64_t>& cluster : Clusters(a, context, head, dropped)) {
      for (uint32_t i = 0; i < a.samples; ++i) {
        denominator[cluster[random() % cluster.size()]] += static_cast<double>(cluster.size()) / a.samples;
      }
    }
    SampleValues(a, context, head, dropped, random, numerator);
    for (const uint64_t t : dropped) {
      if (denominator[t] == 0 && numerator[t] == 0) continue;
      head.classes[t] = RowClass::kKept;
      head.weights[2 * t] = static_cast<float>(denominator[t]);
      head.weights[2 * t + 1] = static_cast<float>(numerator[t]);
    }
    return true;
  }

  /// Tokens of each cluster, its centre first.
  static std::vector<std::vector<uint64_t>> Clusters(const Args& a, const SelectionContext& context,
                                                     const MergeHead& head, std::span<const uint64_t> dropped) {
    const uint64_t dim = context.layout.key_dim;
    const double radius = a.delta / 10.0;
    std::vector<std::vector<uint64_t>> clusters;
    for (const uint64_t t : dropped) {
      size_t nearest = clusters.size();
      double least = radius * radius;
      for (size_t i = 0; i < clusters.size(); ++i) {
        double squares = 0;
        for (uint64_t c = 0; c < dim; ++c) {
          const double d = double{head.keys[t * dim + c]} - head.keys[clusters[i][0] * dim + c];
          squares += d * d;
        }
        if (squares > least || (squares == least && nearest < clusters.size())) continue;
        nearest = i;
        least = squares;
      }
      if (nearest == clusters.size()) clusters.emplace_back();
      clusters[nearest].push_back(t);
    }
    return clusters;
  }

 private:
  static void SampleValues(const Args& a, const SelectionContext& context, const MergeHead& head,
                           std::span<const uint64_t> dropped, std::mt19937_64& random, std::span<double> numerator) {
    const uint64_t dim = context.layout.value_dim;
    std::vector<double> sums;  // of |v|^2 up to each token
    double all = 0;
    for (const uint64_t t : dropped) {
      for (uint64_t c = 0; c < dim; ++c) all += double{head.values[t * dim + c]} * head.values[t * dim + c];
      sums.push_back(all);
    }
    for (uint32_t i = 0; i < a.values && all > 0; ++i) {
      const double at = static_cast<double>(random() >> 11) * 0x1p-53 * all;
      const auto found = static_cast<size_t>(std::upper_bound(sums.begin(), sums.end(), at) - sums.begin());
      const double norm = sums[found] - (found > 0 ? sums[found - 1] : 0);
      numerator[dropped[found]] += all / (a.values * norm);
    }
  }
};

}  // namespace kvasir
