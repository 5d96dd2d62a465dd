// SPDX-License-Identifier: Apache-2.0
// M:gauss. Neighbours whose keys are alike become one (KVMerger: Model Tells You Where to Merge, arXiv 2407.08454).
// Tokens t and t + 1 are of one set where cos(k_t, k_(t+1)) > tau. The pivot p of a set is its kept token with the
// greatest score, of equal ones the earliest; sets without one are lost as dropped. The dropped tokens i of the set go
// into it:
//   g_i = exp(-|k_p - k_i|^2 / (2 sigma^2)), g_p = 1;   sigma = mean of |k_p - k_i| over the dropped i
//   k_p := sum g_i k_i / sum g_i, and v_p by the same weights
// Other kept tokens of a set stay as they are; the window and the sinks are no pivots. Sums in float64, tokens
// ascending.
// A softmax gives one row the share of one token, not of the many that went into it. With votes a pivot counts as all
// of them, w = 1 + their number, in the sums above and below the line (KeepKV: Achieving Periodic Lossless KV Cache
// Compression for Efficient LLM Inference, arXiv 2504.09936, its electoral votes); KVMerger has none.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct GaussianMerge {
  struct Args {
    uint32_t tau = 750000;  ///< millionths
    uint32_t votes = 0;     ///< 1 = a pivot counts as the tokens it stands for
  };
  static constexpr StageRole kRole = StageRole::kMerge;
  static constexpr StageInfo kInfo = {
      "M", "gauss", "gauss[(tau[,one|votes])]",
      "Dropped neighbours with keys alike go into the best kept one, by a Gaussian of their distance (KVMerger, arXiv "
      "2407.08454); votes: attention counts it as all of them (KeepKV, arXiv 2504.09936)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 2); !counted.ok()) return counted.error();
    const Result<uint32_t> tau = in.Share(0, 750000, "tau, the least cosine of neighbours in a set");
    if (!tau.ok()) return tau.error();
    const Result<uint32_t> votes = in.Word(1, 0, {{"one", "votes"}}, "as what a pivot counts");
    if (!votes.ok()) return votes.error();
    return Args{*tau, *votes};
  }
  static std::string Print(const Args& a) { return PrintShare(a.tau) + (a.votes != 0 ? ",votes" : ""); }

  static Result<bool> Merge(const Args& a, const SelectionContext& context, MergeHead& head) {
    const uint64_t n = head.classes.size();
    for (uint64_t begin = 0; begin < n;) {
      uint64_t end = begin + 1;
      while (end < n && Alike(a, context, head, end - 1)) ++end;
      MergeSet(a, context, head, begin, end);
      begin = end;
    }
    return true;
  }

 private:
  /// Whether token t and the next are of one set.
  static bool Alike(const Args& a, const SelectionContext& context, const MergeHead& head, uint64_t t) {
    const uint64_t dim = context.layout.key_dim;
    double dot = 0, x = 0, y = 0;
    for (uint64_t c = 0; c < dim; ++c) {
      const double k = head.keys[t * dim + c], next = head.keys[(t + 1) * dim + c];
      dot += k * next;
      x += k * k;
      y += next * next;
    }
    return dot > a.tau / 1e6 * std::sqrt(x * y);
  }
  static void MergeSet(const Args& a, const SelectionContext& context, MergeHead& head, uint64_t begin, uint64_t end) {
    const uint64_t dim = context.layout.key_dim;
    uint64_t pivot = end;
    std::vector<uint64_t> dropped;
    for (uint64_t t = begin; t < end; ++t) {
      if (head.classes[t] == RowClass::kDropped) dropped.push_back(t);
      if (head.classes[t] != RowClass::kKept) continue;
      if (pivot == end || head.scores[t] > head.scores[pivot]) pivot = t;
    }
    if (pivot == end || dropped.empty()) return;
    std::vector<double> weights;
    double sigma = 0;
    for (const uint64_t i : dropped) {
      double squares = 0;
      for (uint64_t c = 0; c < dim; ++c) {
        const double d = double{head.keys[pivot * dim + c]} - head.keys[i * dim + c];
        squares += d * d;
      }
      weights.push_back(squares);
      sigma += std::sqrt(squares) / static_cast<double>(dropped.size());
    }
    for (double& w : weights) w = sigma > 0 ? std::exp(-w / (2 * sigma * sigma)) : 1;
    Average(head.keys, dim, pivot, dropped, weights);
    Average(head.values, context.layout.value_dim, pivot, dropped, weights);
    if (a.votes == 0) return;
    head.weights[2 * pivot] = head.weights[2 * pivot + 1] = static_cast<float>(1 + dropped.size());
  }
  static void Average(std::span<float> rows, uint64_t dim, uint64_t pivot, std::span<const uint64_t> dropped,
                      std::span<const double> weights) {
    for (uint64_t c = 0; c < dim; ++c) {
      double sum = rows[pivot * dim + c], all = 1;
      for (size_t i = 0; i < dropped.size(); ++i) {
        sum += weights[i] * rows[dropped[i] * dim + c];
        all += weights[i];
      }
      rows[pivot * dim + c] = static_cast<float>(sum / all);
    }
  }
};

}  // namespace kvasir
