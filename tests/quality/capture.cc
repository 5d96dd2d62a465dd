// SPDX-License-Identifier: Apache-2.0
// Runs the model over a text and takes the inputs of stages from what its layers show.
#include "tests/quality/capture.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "kernels/number_formats.h"
#include "kernels/page_copy.h"
#include "kernels/stages/select_list.h"
#include "tests/model/lm_math.h"
#include "tests/model/lm_weights.h"

namespace kvasir::quality {
namespace {

constexpr uint32_t kPageTokens = 16;
constexpr uint32_t kProbeBytes = 128;
constexpr uint32_t kProbeSeed = 20261126;

/// One pass of the model over a text: queries and keys of every layer.
struct Pass {
  std::vector<float> queries;  ///< [layers][query heads][tokens][dim], not scaled
  CapturedRows rows;
  std::vector<float> hidden_cosine;
};

/// Mean over positions of the cosine between the hidden state before and after the attention of a layer.
float CosineOf(const model::Model& model, const model::LayerView& view) {
  const size_t width = model.config().d_model, n = view.hidden.size() / width;
  const size_t attended = view.attended.size() / n;
  std::vector<float> mixed(n * width);
  model.weights().layers[view.layer].o.Apply(*model::MathBodies().front(), n, view.attended.data(), attended,
                                             mixed.data(), width);
  double sum = 0;
  for (size_t t = 0; t < n; ++t) {
    double dot = 0, before = 0, after = 0;
    for (size_t i = t * width; i < (t + 1) * width; ++i) {
      const double h = view.hidden[i], x = h + mixed[i];
      dot += h * x;
      before += h * h;
      after += x * x;
    }
    sum += dot / std::sqrt(before * after);
  }
  return static_cast<float>(sum / static_cast<double>(n));
}

Result<Pass> RunPass(const std::shared_ptr<const model::Model>& model, std::span<const uint32_t> tokens,
                     uint32_t threads) {
  const KvLayout layout = model->layout();
  const auto n = static_cast<uint32_t>(tokens.size());
  const uint32_t heads = model->config().query_heads, dim = layout.key_dim, pages = (n + kPageTokens - 1) / kPageTokens;
  model::Runner runner(model, {.threads = threads});
  model::PagedKv kv({.layout = layout, .page_tokens = kPageTokens, .pages = pages});
  const model::RankKv rank = kv.rank();
  Pass pass;
  pass.queries.resize(uint64_t{layout.layers} * heads * n * dim);
  pass.rows = CapturedRows(layout, n);
  pass.hidden_cosine.resize(layout.layers);
  const float scale = std::sqrt(static_cast<float>(dim));  // the model's queries are over it
  model::Chunk chunk;
  chunk.tokens = tokens;
  chunk.ranks = {&rank, 1};
  chunk.logits = model::LogitsOf::kNone;
  chunk.layer_attended = [&](const model::LayerView& view) {
    pass.hidden_cosine[view.layer] = CosineOf(*model, view);
    for (size_t t = 0; t < n; ++t) {
      for (size_t h = 0; h < heads; ++h) {
        float* to = &pass.queries[((view.layer * heads + h) * n + t) * dim];
        for (size_t c = 0; c < dim; ++c) to[c] = scale * view.queries[(t * heads + h) * dim + c];
      }
    }
  };
  if (const auto ran = runner.Prefill(chunk); !ran.ok()) return ran.error();
  std::vector<std::byte> dense(uint64_t{pages} * kPageTokens * dim * ElementBytes(layout.element));
  for (uint32_t layer = 0; layer < layout.layers; ++layer) {
    for (uint32_t head = 0; head < layout.kv_heads; ++head) {
      for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
        GatherPages({rank.cache, rank.pages, layer, tensor, head, 1, 0, pages * kPageTokens}, dense.data());
        const std::span<float> to = pass.rows.Of(layer, head, tensor);
        const auto* from = reinterpret_cast<const uint8_t*>(dense.data());
        for (size_t i = 0; i < to.size(); ++i) to[i] = LoadElement(layout.element, from + 2 * i);
      }
    }
  }
  return pass;
}

/// a_t = softmax_t(q . k_t / sqrt(d)) over the first `seen` keys; the sum in float64.
void Attend(const float* q, std::span<const float> keys, uint32_t dim, uint32_t seen, std::vector<float>& a) {
  const float root = 1.0f / std::sqrt(static_cast<float>(dim));
  a.assign(seen, 0.0f);
  float greatest = -3e38f;
  for (uint32_t t = 0; t < seen; ++t) {
    float lanes[8] = {};
    const float* k = keys.data() + uint64_t{t} * dim;
    for (uint32_t c = 0; c < dim; c += 8) {
      for (uint32_t i = 0; i < 8; ++i) lanes[i] += q[c + i] * k[c + i];
    }
    float dot = 0;
    for (const float lane : lanes) dot += lane;
    a[t] = dot * root;
    greatest = std::max(greatest, a[t]);
  }
  double sum = 0;
  for (float& x : a) sum += x = std::exp(x - greatest);
  for (float& x : a) x = static_cast<float>(x / sum);
}

/// Attention of all queries: its sums, its decayed sums, its peaks in the window.
void SumAttention(Capture& c) {
  const uint32_t n = c.tokens, dim = c.layout.key_dim, group = c.query_heads / c.layout.kv_heads;
  const uint64_t heads = uint64_t{c.layout.layers} * c.layout.kv_heads;
  for (auto* sums : {&c.attention_sums, &c.decayed_sums, &c.attention_peak}) sums->assign(heads * n, 0.0f);
  std::vector<float> a;
  for (uint64_t h = 0; h < heads; ++h) {
    const auto keys = c.rows.Of(static_cast<uint32_t>(h / c.layout.kv_heads), h % c.layout.kv_heads, KvTensor::kKey);
    std::vector<double> sums(n), decayed(n);
    for (uint32_t q = 0; q < n; ++q) {
      for (double& x : decayed) x *= kCaptureDecay;
      for (uint32_t member = 0; member < group; ++member) {
        Attend(&c.queries[((h * group + member) * n + q) * dim], keys, dim, q + 1, a);
        for (uint32_t t = 0; t <= q; ++t) {
          sums[t] += a[t];
          decayed[t] += a[t];
          float& peak = c.attention_peak[h * n + t];
          if (q + kCaptureWindow >= n) peak = std::max(peak, a[t]);
        }
      }
    }
    for (uint32_t t = 0; t < n; ++t) {
      c.attention_sums[h * n + t] = static_cast<float>(sums[t]);
      c.decayed_sums[h * n + t] = static_cast<float>(decayed[t]);
    }
  }
}

/// KVzip: the greatest attention that a query of the repeated text pays to a token of the first.
void ScoreReconstruction(const Pass& twice, Capture& c) {
  const uint32_t n = c.tokens, dim = c.layout.key_dim, group = c.query_heads / c.layout.kv_heads;
  const uint64_t heads = uint64_t{c.layout.layers} * c.layout.kv_heads;
  c.reconstruction.assign(heads * n, 0.0f);
  std::vector<float> a;
  for (uint64_t h = 0; h < heads; ++h) {
    const auto keys =
        twice.rows.Of(static_cast<uint32_t>(h / c.layout.kv_heads), h % c.layout.kv_heads, KvTensor::kKey);
    for (uint32_t q = n; q < 2 * n; ++q) {
      for (uint32_t member = 0; member < group; ++member) {
        Attend(&twice.queries[((h * group + member) * 2 * n + q) * dim], keys, dim, q + 1, a);
        for (uint32_t t = 0; t < n; ++t) c.reconstruction[h * n + t] = std::max(c.reconstruction[h * n + t], a[t]);
      }
    }
  }
}

/// Mean and covariance of queries before RoPE, turned by the mean rotation R of the positions to come: R mu, R Sigma
/// R'.
void FitQueries(const model::RopeTable& rope, Capture& c) {
  const uint32_t n = c.tokens, dim = c.layout.key_dim, half = dim / 2;
  const uint64_t heads = uint64_t{c.layout.layers} * c.query_heads;
  std::vector<double> cosine(half), sine(half);
  for (uint32_t p = n; p < n + kCaptureFuture; ++p) {
    for (uint32_t i = 0; i < half; ++i) {
      cosine[i] += rope.cosine[uint64_t{p} * half + i] / double{kCaptureFuture};
      sine[i] += rope.sine[uint64_t{p} * half + i] / double{kCaptureFuture};
    }
  }
  c.query_mean.assign(heads * dim, 0.0f);
  c.query_covariance.assign(heads * dim * dim, 0.0f);
  std::vector<float> x(uint64_t{n} * dim);
  for (uint64_t h = 0; h < heads; ++h) {
    for (uint64_t t = 0; t < n; ++t) {  // back by the query's own position, on by R
      const float* q = &c.queries[(h * n + t) * dim];
      for (uint64_t i = 0; i < half; ++i) {
        const double cs = rope.cosine[t * half + i], sn = rope.sine[t * half + i];
        const double a = q[i] * cs + q[i + half] * sn, b = q[i + half] * cs - q[i] * sn;
        x[t * dim + i] = static_cast<float>(a * cosine[i] - b * sine[i]);
        x[t * dim + i + half] = static_cast<float>(b * cosine[i] + a * sine[i]);
      }
    }
    std::vector<float> mean(dim), covariance(uint64_t{dim} * dim);
    for (uint64_t i = 0; i < x.size(); ++i) mean[i % dim] += x[i] / static_cast<float>(n);
    for (uint64_t t = 0; t < n; ++t) {
      for (uint64_t i = 0; i < dim; ++i) {
        const float d = (x[t * dim + i] - mean[i]) / static_cast<float>(n);
        for (uint64_t j = 0; j < dim; ++j) covariance[i * dim + j] += d * (x[t * dim + j] - mean[j]);
      }
    }
    std::copy(mean.begin(), mean.end(), c.query_mean.begin() + static_cast<ptrdiff_t>(h * dim));
    std::copy(covariance.begin(), covariance.end(), c.query_covariance.begin() + static_cast<ptrdiff_t>(h * dim * dim));
  }
}

/// Peaks and norms for T:bal and Q:adapt, and the last queries.
void ReadQueries(Capture& c) {
  const uint32_t n = c.tokens, dim = c.layout.key_dim, group = c.query_heads / c.layout.kv_heads;
  const uint64_t heads = uint64_t{c.layout.layers} * c.layout.kv_heads;
  c.query_peak.assign(heads * dim, 0.0f);
  c.query_norm.assign(heads, 0.0f);
  for (uint64_t row = 0; row < heads * group * n; ++row) {
    const uint64_t head = row / n / group;
    float squares = 0;
    for (uint64_t d = 0; d < dim; ++d) {
      const float q = std::fabs(c.queries[row * dim + d]);
      c.query_peak[head * dim + d] = std::max(c.query_peak[head * dim + d], q);
      squares += q * q;
    }
    c.query_norm[head] = std::max(c.query_norm[head], std::sqrt(squares));
  }
  const uint64_t window = std::min(kCaptureWindow, n);
  for (uint64_t head = 0; head < heads * group; ++head) {
    const auto end = c.queries.begin() + static_cast<ptrdiff_t>((head + 1) * n * dim);
    c.window_queries.insert(c.window_queries.end(), end - static_cast<ptrdiff_t>(window * dim), end);
  }
}

}  // namespace

SelectInputs Capture::Inputs(const SelectionSpec& spec) const {
  SelectInputs in;
  const bool forgets = spec.score_count > 0 && spec.scores[0].stage == SelectStages::IndexOf<ForgettingScorer>();
  in.attention_sums = forgets ? decayed_sums : attention_sums;
  in.attention_decay = forgets ? kCaptureDecay : 1.0f;
  in.window_queries = window_queries;
  in.query_heads = query_heads;
  in.window = std::min(kCaptureWindow, tokens);
  in.query_mean = query_mean;
  in.query_covariance = query_covariance;
  in.external_scores = reconstruction;
  in.hidden_cosine = hidden_cosine;
  in.head_scores = head_scores;
  in.spans = spans;
  return in;
}

Result<std::vector<float>> ProbeHeads(const std::shared_ptr<const model::Model>& model, uint32_t threads) {
  std::mt19937 random(kProbeSeed);
  std::vector<uint32_t> tokens(2 * kProbeBytes);
  for (uint32_t i = 0; i < kProbeBytes; ++i) tokens[i] = tokens[i + kProbeBytes] = 33 + random() % 94;
  const Result<Pass> pass = RunPass(model, tokens, threads);
  if (!pass.ok()) return pass.error();
  const KvLayout layout = model->layout();
  const uint32_t heads = model->config().query_heads, group = heads / layout.kv_heads, n = 2 * kProbeBytes;
  std::vector<float> scores(uint64_t{layout.layers} * layout.kv_heads), a;
  for (uint64_t h = 0; h < uint64_t{layout.layers} * heads; ++h) {
    const auto layer = static_cast<uint32_t>(h / heads), head = static_cast<uint32_t>(h % heads / group);
    double sum = 0;
    for (uint32_t q = kProbeBytes; q < n; ++q) {
      Attend(&pass->queries[(h * n + q) * layout.key_dim], pass->rows.Of(layer, head, KvTensor::kKey), layout.key_dim,
             q + 1, a);
      sum += a[q - kProbeBytes + 1];
    }
    float& score = scores[h / group];
    score = std::max(score, static_cast<float>(sum / kProbeBytes));
  }
  return scores;
}

Result<Capture> CaptureChain(const std::shared_ptr<const model::Model>& model, std::span<const uint32_t> tokens,
                             std::span<const float> head_scores, const CaptureOptions& options) {
  if (tokens.empty() || tokens.size() > model->config().context_max / 2) {
    return Error{ErrorCode::kInvalidArgument, "capture: bring 1 to half the model's context of tokens"};
  }
  Result<Pass> pass = RunPass(model, tokens, options.threads);
  if (!pass.ok()) return pass.error();
  Capture c;
  c.layout = model->layout();
  c.tokens = static_cast<uint32_t>(tokens.size());
  c.query_heads = model->config().query_heads;
  c.rows = std::move(pass->rows);
  c.queries = std::move(pass->queries);
  c.hidden_cosine = std::move(pass->hidden_cosine);
  c.head_scores.assign(head_scores.begin(), head_scores.end());
  SumAttention(c);
  FitQueries(model->weights().rope, c);
  ReadQueries(c);
  if (options.reconstruct) {
    std::vector<uint32_t> twice(tokens.begin(), tokens.end());
    twice.insert(twice.end(), tokens.begin(), tokens.end());
    const Result<Pass> second = RunPass(model, twice, options.threads);
    if (!second.ok()) return second.error();
    ScoreReconstruction(*second, c);
  }
  return c;
}

}  // namespace kvasir::quality
