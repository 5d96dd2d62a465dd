// SPDX-License-Identifier: Apache-2.0
// Own checks of the rows that share a budget among layers by attention.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "kernels/stages/select_list.h"
#include "tests/seeds/checks.h"

namespace kvasir::seeds {
namespace {

constexpr uint32_t kWindow = 32;

/// Attention of the last queries on the tokens before the window, of one query head: [query][token].
std::vector<std::vector<double>> WindowAttention(const Capture& c, uint64_t query_head) {
  const uint64_t n = c.tokens, dim = c.layout.key_dim, group = c.query_heads / c.layout.kv_heads;
  const uint64_t head = query_head / group;
  const auto keys = c.rows.Of(static_cast<uint32_t>(head / c.layout.kv_heads),
                              static_cast<uint32_t>(head % c.layout.kv_heads), KvTensor::kKey);
  std::vector<std::vector<double>> attention;
  for (uint64_t q = n - kWindow; q < n; ++q) {
    std::vector<double>& a = attention.emplace_back(q + 1);
    double all = 0;
    for (uint64_t t = 0; t <= q; ++t) {
      double dot = 0;
      for (uint64_t d = 0; d < dim; ++d) dot += double{c.queries[(query_head * n + q) * dim + d]} * keys[t * dim + d];
      all += a[t] = std::exp(dot / std::sqrt(double{1} * dim));
    }
    for (double& x : a) x /= all;
    a.resize(n - kWindow);
  }
  return attention;
}

/// Tokens that a head of each layer keeps; empty where heads of a layer differ.
std::vector<uint32_t> OfLayers(const Capture& c, const StoredChain& stored) {
  std::vector<uint32_t> counts;
  for (uint32_t i = 0; i < c.layout.layers * c.layout.kv_heads; ++i) {
    if (i % c.layout.kv_heads == 0) counts.push_back(stored.selection.counts[i]);
    if (stored.selection.counts[i] != counts.back()) return {};
  }
  return counts;
}

/// Whether the counts are `exempt` and a share of `total` by `weights`, but for rounding; says them.
Verdict Shares(const std::vector<uint32_t>& counts, const std::vector<double>& weights, uint32_t exempt, double total) {
  if (counts.empty()) return {false, "heads of a layer differ"};
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  const auto all = std::accumulate(counts.begin(), counts.end(), 0.0);
  std::string said = "tokens of the layers:";
  bool held = all == total + exempt * static_cast<double>(counts.size());
  for (size_t l = 0; l < counts.size(); ++l) {
    held &= std::fabs(counts[l] - exempt - weights[l] / sum * total) < 1;
    said += Said(" %u", counts[l]);
  }
  return {held, said + "; reference:" + [&] {
            std::string reference;
            for (const double w : weights) reference += Said(" %.1f", exempt + w / sum * total);
            return reference;
          }()};
}

/// Row 23.
Verdict FastKv(Fixtures& f, const Row&, const Codec&, const StoredChain& stored) {
  const uint32_t passed = 154, heads = f.text.layout.kv_heads, n = f.text.tokens;  // 0.2 of 768
  std::set<uint32_t> behind;
  for (uint32_t layer = 2; layer < f.text.layout.layers; ++layer) {
    behind.insert(stored.layers[layer].tokens.begin(), stored.layers[layer].tokens.end());
  }
  std::set<uint32_t> before(stored.layers[1].tokens.begin(), stored.layers[1].tokens.end());
  const auto counts = OfLayers(f.text, stored);
  const bool held = behind.size() <= passed && before.size() > passed && counts.size() == 4 && counts[0] == 192 &&
                    counts[3] == 154 && stored.layers[3].cu_lengths[heads] == heads * counts[3];
  return {held, Said("behind layer 1 %zu of %u tokens exist, %zu are kept before it; each row carries its own position",
                     behind.size(), n, before.size())};
}

/// Row 25.
Verdict DynamicKv(Fixtures& f, const Row&, const Codec& codec, const StoredChain& stored) {
  const Capture& c = f.text;
  const uint32_t heads = c.layout.kv_heads, n = c.tokens, b = 192 - kWindow;
  quality::CapturedRows rows = c.rows;
  const SelectInputs inputs = c.Inputs(*codec.selection());
  const SelectionContext context{c.layout, n, *codec.selection(), inputs, rows};
  std::vector<float> scores(uint64_t{c.layout.layers} * heads * n);
  if (!WindowScorer::Score({kWindow, 7, 0, 0}, context, scores).ok()) return {false, "no scores"};
  std::vector<std::pair<float, uint64_t>> sorted;
  for (uint64_t i = 0; i < scores.size(); ++i) {
    if (i % n < n - kWindow) sorted.emplace_back(-scores[i], i);
  }
  std::sort(sorted.begin(), sorted.end());
  std::vector<double> weights(c.layout.layers, 0.1 * b);
  for (uint64_t i = 0; i < uint64_t{c.layout.layers} * heads * b; ++i) {
    weights[sorted[i].second / n / heads] += 0.9 / heads;
  }
  return Shares(OfLayers(c, stored), weights, kWindow, b * c.layout.layers);
}

/// Row 49.
Verdict ZigZag(Fixtures& f, const Row&, const Codec&, const StoredChain& stored) {
  std::vector<double> sizes(f.text.layout.layers);
  for (uint64_t q = 0; q < uint64_t{f.text.layout.layers} * f.text.query_heads; ++q) {
    std::vector<double> mean(f.text.tokens - kWindow);
    for (const auto& a : WindowAttention(f.text, q)) {
      for (size_t t = 0; t < mean.size(); ++t) mean[t] += a[t];
    }
    std::sort(mean.begin(), mean.end());
    const double all = std::accumulate(mean.begin(), mean.end(), 0.0);
    double held = 0, count = 0;
    for (size_t t = mean.size(); t-- > 0 && held < 0.9 * all; ++count) held += mean[t];
    sizes[q / f.text.query_heads] += count / f.text.query_heads;
  }
  return Shares(OfLayers(f.text, stored), sizes, kWindow, (192 - kWindow) * f.text.layout.layers);
}

/// CAKE's preference of each layer.
std::vector<double> Preferences(const Capture& c) {
  std::vector<double> preferences;
  for (uint64_t layer = 0; layer < c.layout.layers; ++layer) {
    double entropy = 0, variance = 0;
    for (uint64_t q = layer * c.query_heads; q < (layer + 1) * c.query_heads; ++q) {
      const auto attention = WindowAttention(c, q);
      for (uint64_t t = 0; t < c.tokens - kWindow; ++t) {
        double mean = 0, spread = 0;
        for (const auto& a : attention) mean += a[t] / kWindow;
        for (const auto& a : attention) spread += (a[t] - mean) * (a[t] - mean) / kWindow;
        entropy -= mean > 0 ? mean * std::log(mean) / c.query_heads : 0;
        variance += spread / c.query_heads;
      }
    }
    preferences.push_back(entropy * variance);
  }
  return preferences;
}

/// Row 62: layers come one by one; each time all so far are cut to their share of the same budget.
Verdict Cake(Fixtures& f, const Row&, const Codec& codec, const StoredChain& stored) {
  const Capture& c = f.text;
  const uint64_t layers = c.layout.layers, heads = c.layout.kv_heads, n = c.tokens;
  const double total = (192.0 - kWindow) * static_cast<double>(layers);
  const std::vector<double> preferences = Preferences(c);
  const std::vector<uint32_t> counts = OfLayers(c, stored);
  Verdict verdict = Shares(counts, preferences, kWindow, total);
  if (!verdict.held) return verdict;
  quality::CapturedRows rows = c.rows;
  const SelectInputs inputs = c.Inputs(*codec.selection());
  const SelectionContext context{c.layout, c.tokens, *codec.selection(), inputs, rows};
  std::vector<float> scores(layers * heads * n);
  if (!MeanVarianceScorer::Score({}, context, scores).ok()) return {false, "no scores"};
  std::vector<std::vector<uint32_t>> kept;  // of each head so far, best first
  uint64_t peak = 0;
  for (uint64_t layer = 0; layer < layers; ++layer) {
    for (uint64_t head = layer * heads; head < (layer + 1) * heads; ++head) {
      std::vector<uint32_t>& order = kept.emplace_back(n - kWindow);
      std::iota(order.begin(), order.end(), 0u);
      std::stable_sort(order.begin(), order.end(),
                       [&](uint32_t a, uint32_t b) { return scores[head * n + a] > scores[head * n + b]; });
    }
    uint64_t held = 0;
    for (const auto& of_head : kept) held += of_head.size() + kWindow;
    peak = std::max(peak, held);
    const double sum =
        std::accumulate(preferences.begin(), preferences.begin() + static_cast<ptrdiff_t>(layer) + 1, 0.0);
    for (uint64_t head = 0; head < kept.size(); ++head) {
      const bool last = layer + 1 == layers;  // rounding is the one-shot's
      const double share =
          last ? counts[head / heads] - kWindow : std::ceil(preferences[head / heads] / sum * total) + 1;
      if (share < static_cast<double>(kept[head].size())) kept[head].resize(static_cast<size_t>(share));
    }
  }
  for (uint64_t head = 0; head < kept.size(); ++head) {
    for (const uint32_t t : kept[head]) {
      if (stored.selection.classes[head * n + t] == RowClass::kDropped)
        return {false, "the cascade keeps other tokens"};
    }
    if (kept[head].size() + kWindow != stored.selection.counts[head]) return {false, "the cascade keeps other numbers"};
  }
  const double limit = 192.0 * static_cast<double>(layers * heads) + static_cast<double>(heads * n) +
                       2.0 * static_cast<double>(kept.size());
  verdict.held = static_cast<double>(peak) <= limit;
  verdict.said = "cascade and one shot keep the same tokens; " + verdict.said +
                 Said("; peak %llu tokens, budget and a layer %.0f", static_cast<unsigned long long>(peak), limit);
  return verdict;
}

/// Row 9. Sets by name, their mass by the attention of the last queries, in float64.
Verdict FastGen(Fixtures& f, const Row&, const Codec&, const StoredChain& stored) {
  const Capture& c = f.text;
  const uint64_t n = c.tokens, dim = c.layout.key_dim, share = 230;  // 0.3 of 768
  uint32_t chosen[5] = {};
  for (uint64_t head = 0; head < uint64_t{c.layout.layers} * c.layout.kv_heads; ++head) {
    const auto keys = c.rows.Of(static_cast<uint32_t>(head / c.layout.kv_heads),
                                static_cast<uint32_t>(head % c.layout.kv_heads), KvTensor::kKey);
    std::vector<double> paid(n);
    for (uint64_t row = 0; row < 2 * kWindow; ++row) {
      const uint64_t q = n - kWindow + row % kWindow, query_head = 2 * head + row / kWindow;
      std::vector<double> e(q + 1);
      double all = 0;
      for (uint64_t t = 0; t <= q; ++t) {
        double dot = 0;
        for (uint64_t d = 0; d < dim; ++d) dot += double{c.queries[(query_head * n + q) * dim + d]} * keys[t * dim + d];
        all += e[t] = std::exp(dot / std::sqrt(double{1} * dim));
      }
      for (uint64_t t = 0; t <= q; ++t) paid[t] += e[t] / all / (2 * kWindow);
    }
    std::vector<std::pair<float, uint64_t>> frequent;
    for (uint64_t t = 0; t < n; ++t) frequent.emplace_back(-c.attention_sums[head * n + t], t);
    std::sort(frequent.begin(), frequent.end());
    std::set<uint64_t> keeps;
    uint32_t policy = 0;
    for (;; ++policy) {
      for (const TokenSpan& span : MarkedSpans(f.tokens)) {
        if (policy == (span.kind == TokenSpan::Kind::kSpecial ? 0 : 1)) keeps.insert(span.begin);
      }
      for (uint64_t i = 0; i < share && policy == 2; ++i) keeps.insert(frequent[i].second);
      for (uint64_t t = policy == 3 ? n - share : 0; t < n && policy >= 3; ++t) keeps.insert(t);
      double held = 0;
      for (const uint64_t t : keeps) held += paid[t];
      if (held >= 0.95 || policy == 4) break;
    }
    ++chosen[policy];
    for (uint64_t t = 0; t < n; ++t) {
      const bool kept = stored.selection.classes[head * n + t] != RowClass::kDropped;
      if (kept != (keeps.count(t) > 0)) return {false, Said("head %u keeps other tokens", static_cast<unsigned>(head))};
    }
  }
  return {true,
          Said("heads by policy: special %u, punctuation %u, frequent %u, local %u, full %u; the reference's sets",
               chosen[0], chosen[1], chosen[2], chosen[3], chosen[4])};
}

constexpr NamedCheck kChecks[] = {{9, FastGen}, {23, FastKv}, {25, DynamicKv}, {49, ZigZag}, {62, Cake}};

}  // namespace

std::span<const NamedCheck> LayerChecks() { return kChecks; }

}  // namespace kvasir::seeds
