// SPDX-License-Identifier: Apache-2.0
// E:expq. The attention that queries to come are expected to pay (Expected Attention: KV Cache Compression by
// Estimating Attention from Future Queries Distribution, arXiv 2510.00636). Queries of a head are Gaussian with mean mu
// and covariance Sigma, over the RoPE of positions to come; then E[exp(q . k / sqrt(d))] = exp(z):
//   z_t     = mu . k_t / sqrt(d) + k_t' Sigma k_t / (2 d)
//   score_t = mean over the query heads of the KV head of softmax_t(z), times |v_t|
// The sinks of the spec stand outside of the softmax and are kept first. Products in float64, channels ascending.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct ExpectedScorer : ActionOnly {
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {
      "E", "expq", "expq[(drop|demote)]",
      "Tokens that queries to come are expected to look at are kept (Expected Attention, arXiv 2510.00636)",
      "query_mean, query_covariance"};

  static Result<bool> Score(const Args&, const SelectionContext& context, std::vector<float>& scores) {
    const SelectInputs& in = context.inputs;
    const uint32_t heads = context.layout.kv_heads, dim = context.layout.key_dim, n = context.tokens;
    if (in.query_mean.empty()) return MissingInput("E:expq", "query_mean");
    if (in.query_covariance.empty()) return MissingInput("E:expq", "query_covariance");
    if (in.query_heads == 0 || in.query_heads % heads != 0) return WrongHeads("E:expq", in.query_heads, heads);
    const uint64_t means = uint64_t{context.layout.layers} * in.query_heads * dim;
    Result<bool> there = NeedInput("E:expq", "query_mean", in.query_mean.size(), means);
    if (there.ok()) there = NeedInput("E:expq", "query_covariance", in.query_covariance.size(), means * dim);
    if (!there.ok()) return there;
    const uint32_t group = in.query_heads / heads, sinks = std::min(context.spec.sink_tokens, n);
    std::vector<float> keys(uint64_t{n} * dim), values(uint64_t{n} * context.layout.value_dim);
    std::vector<double> z(n), sum(n);
    for (uint64_t i = 0; i < context.heads(); ++i) {
      const uint32_t layer = static_cast<uint32_t>(i / heads), head = static_cast<uint32_t>(i % heads);
      context.rows.Load(layer, head, KvTensor::kKey, keys);
      if (!context.layout.latent()) context.rows.Load(layer, head, KvTensor::kValue, values);
      std::fill(sum.begin(), sum.end(), 0.0);
      for (uint64_t q = i * group; q < (i + 1) * group && sinks < n; ++q) {
        const auto mean = in.query_mean.subspan(q * dim, dim);
        const auto covariance = in.query_covariance.subspan(q * dim * dim, uint64_t{dim} * dim);
        for (uint32_t t = sinks; t < n; ++t) z[t] = Exponent(mean, covariance, &keys[uint64_t{t} * dim]);
        Softmax(std::span(z).subspan(sinks));
        for (uint32_t t = sinks; t < n; ++t) sum[t] += z[t];
      }
      for (uint32_t t = 0; t < n; ++t) {
        const double length = context.layout.latent() ? 1.0 : Length(values, t, context.layout.value_dim);
        scores[i * n + t] = t < sinks ? kKeepFirst : static_cast<float>(sum[t] / group * length);
      }
    }
    return true;
  }

 private:
  static double Exponent(std::span<const float> mean, std::span<const float> covariance, const float* k) {
    const size_t dim = mean.size();
    double first = 0, second = 0;
    for (size_t i = 0; i < dim; ++i) {
      double row = 0;
      for (size_t j = 0; j < dim; ++j) row += double{covariance[i * dim + j]} * k[j];
      first += double{mean[i]} * k[i];
      second += row * k[i];
    }
    return first / std::sqrt(static_cast<double>(dim)) + second / (2 * static_cast<double>(dim));
  }
  static double Length(std::span<const float> rows, uint64_t t, uint32_t dim) {
    double squares = 0;
    for (uint32_t c = 0; c < dim; ++c) squares += double{rows[t * dim + c]} * rows[t * dim + c];
    return std::sqrt(squares);
  }
};

}  // namespace kvasir
