// SPDX-License-Identifier: Apache-2.0
// E:win. What the last queries of the prompt look at (SnapKV: LLM Knows What You are Looking for Before Generation,
// arXiv 2404.14469). Over the last w queries q of each query head, at positions n - w to n - 1:
//   A[q, t] = softmax_t(q . k_t / sqrt(d)), t <= position of q
//   s_t     = mean_q A[q, t],  t < n - w
//   p_t     = mean or max of s over the k tokens around t, as pool1d does: outside of [0, n - w) a mean counts 0
//   score_t = mean of p_t over the query heads of the KV head
// The window itself is kept first. Products in float32, channels ascending; the rest in float64.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct WindowScorer {
  struct Args {
    uint32_t window = 32;  ///< queries
    uint32_t kernel = 7;   ///< tokens that are pooled
    uint32_t max = 0;      ///< 0 = mean
    uint32_t demote = 0;
  };
  static constexpr uint32_t kWindowMax = 1024;
  static constexpr uint32_t kKernelMax = 255;
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {
      "E", "win", "win(window[,kernel[,avg|max[,drop|demote]]])",
      "Tokens that the last queries look at, pooled over their neighbours, are kept (SnapKV, arXiv 2404.14469)",
      "window_queries"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 4); !counted.ok()) return counted.error();
    const Result<uint32_t> window = in.Number(0, 32, 1, kWindowMax, "queries of the window");
    if (!window.ok()) return window.error();
    const Result<uint32_t> kernel = in.Number(1, 7, 1, kKernelMax, "tokens of the pooling kernel, odd");
    if (!kernel.ok()) return kernel.error();
    if (*kernel % 2 == 0) return in.Refuse(1, "tokens of the pooling kernel, an odd number");
    const Result<uint32_t> max = in.Word(2, 0, {{"avg", "max"}}, "pooling");
    if (!max.ok()) return max.error();
    const Result<uint32_t> demote = in.Action(3);
    if (!demote.ok()) return demote.error();
    return Args{*window, *kernel, *max, *demote};
  }
  static std::string Print(const Args& a) {
    return std::to_string(a.window) + "," + std::to_string(a.kernel) + (a.max != 0 ? ",max" : ",avg") +
           (a.demote != 0 ? ",demote" : ",drop");
  }

  /// The queries are there, and of this chain.
  static Result<bool> CheckQueries(const Args& a, const SelectionContext& context) {
    const SelectInputs& in = context.inputs;
    const uint32_t heads = context.layout.kv_heads;
    if (in.window_queries.empty()) return MissingInput("E:win", "window_queries");
    if (in.query_heads == 0 || in.query_heads % heads != 0) return WrongHeads("E:win", in.query_heads, heads);
    if (in.window < a.window || in.window > context.tokens) {
      return Error{ErrorCode::kInvalidArgument, "E:win(" + Print(a) + "): window_queries are of " +
                                                    std::to_string(in.window) + " queries; bring " +
                                                    std::to_string(a.window) + " at least, and no more than tokens"};
    }
    const uint64_t expected = uint64_t{context.layout.layers} * in.query_heads * in.window * context.layout.key_dim;
    return NeedInput("E:win", "window_queries", in.window_queries.size(), expected);
  }

  static Result<bool> Score(const Args& a, const SelectionContext& context, std::vector<float>& scores) {
    if (Result<bool> there = CheckQueries(a, context); !there.ok()) return there;
    const SelectInputs& in = context.inputs;
    const uint32_t heads = context.layout.kv_heads, dim = context.layout.key_dim, n = context.tokens;
    const uint32_t group = in.query_heads / heads;
    std::vector<float> keys(uint64_t{n} * dim), by_channel(keys.size()), dots(uint64_t{a.window} * n);
    std::vector<double> sum(n), pooled(n);
    for (uint64_t i = 0; i < context.heads(); ++i) {
      context.rows.Load(static_cast<uint32_t>(i / heads), static_cast<uint32_t>(i % heads), KvTensor::kKey, keys);
      Transpose(n, dim, keys, by_channel);
      std::fill(pooled.begin(), pooled.end(), 0.0);
      for (uint32_t member = 0; member < group; ++member) {
        const uint64_t first = ((i * group + member + 1) * in.window - a.window) * dim;
        Products(a, n, dim, in.window_queries.subspan(first, uint64_t{a.window} * dim), by_channel, dots);
        SumAttention(a, n, dim, dots, sum);
        AddPooled(a, std::span(sum).first(n - a.window), pooled);
      }
      for (uint32_t t = 0; t < n; ++t) {
        scores[i * n + t] =
            t + a.window < n ? static_cast<float>(pooled[t] / (double{1} * group * a.window)) : kKeepFirst;
      }
    }
    return true;
  }

 private:
  static constexpr uint32_t kTileTokens = 512;  ///< keys of so many tokens stay in the cache for all queries

  static constexpr uint32_t kTurnTokens = 64;  ///< rows that stay in the first cache while they are read by columns

  /// [n][dim] to [dim][n].
  static void Transpose(uint32_t n, uint32_t dim, std::span<const float> keys, std::span<float> by_channel) {
    for (uint32_t first = 0; first < n; first += kTurnTokens) {
      const uint32_t end = std::min(first + kTurnTokens, n);
      for (uint32_t c = 0; c < dim; ++c) {
        for (uint32_t t = first; t < end; ++t) by_channel[uint64_t{c} * n + t] = keys[uint64_t{t} * dim + c];
      }
    }
  }
  /// dots[w][t] := q_w . k_t, of keys [dim][n]: each by itself with its channels ascending, many tokens side by side.
  static void Products(const Args& a, uint32_t n, uint32_t dim, std::span<const float> queries,
                       std::span<const float> keys, std::span<float> dots) {
    std::fill(dots.begin(), dots.end(), 0.0f);
    for (uint32_t first = 0; first < n; first += kTileTokens) {
      const uint32_t tokens = std::min(kTileTokens, n - first);
      for (uint32_t w = 0; w < a.window; ++w) {
        float* dot = dots.data() + uint64_t{w} * n + first;
        for (uint32_t c = 0; c < dim; ++c) {
          const float q = queries[uint64_t{w} * dim + c];
          const float* key = keys.data() + uint64_t{c} * n + first;
          for (uint32_t t = 0; t < tokens; ++t) dot[t] += q * key[t];
        }
      }
    }
  }
  /// sum_t := sum over the queries of A[q, t].
  static void SumAttention(const Args& a, uint32_t n, uint32_t dim, std::span<const float> dots,
                           std::span<double> sum) {
    std::vector<double> attention(n);
    std::fill(sum.begin(), sum.end(), 0.0);
    for (uint32_t w = 0; w < a.window; ++w) {
      const uint32_t seen = n - a.window + w + 1;
      for (uint32_t t = 0; t < seen; ++t) attention[t] = dots[uint64_t{w} * n + t] / std::sqrt(double{1} * dim);
      Softmax(std::span(attention).first(seen));
      for (uint32_t t = 0; t < seen; ++t) sum[t] += attention[t];
    }
  }
  static void AddPooled(const Args& a, std::span<const double> x, std::span<double> pooled) {
    const uint64_t side = a.kernel / 2;
    for (uint64_t t = 0; t < x.size(); ++t) {
      double sum = 0, greatest = 0;
      for (uint64_t s = t < side ? 0 : t - side; s < std::min<uint64_t>(t + side + 1, x.size()); ++s) {
        sum += x[s];
        greatest = std::max(greatest, x[s]);
      }
      pooled[t] += a.max != 0 ? greatest : sum / a.kernel;
    }
  }
};

}  // namespace kvasir
