// SPDX-License-Identifier: Apache-2.0
// Own checks of the rows that choose by attention, norms or layers.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "kernels/stages/select_list.h"
#include "tests/seeds/checks.h"

namespace kvasir::seeds {
namespace {

/// H2O's policy, step by step, as it is written: after each token the least of the accumulated scores leaves, of those
/// that are not recent.
struct GreedyReference {
  uint32_t budget, recent;
  std::vector<double> sums;
  std::set<uint32_t> kept;
  void Step(uint32_t t, const std::vector<float>& attention) {
    sums.push_back(0);
    kept.insert(t);
    for (const uint32_t i : kept) sums[i] += attention[i];
    if (kept.size() <= budget) return;
    uint32_t least = ~0u;
    for (const uint32_t i : kept) {
      if (i + recent > t) break;  // ascending: all others are recent
      if (least == ~0u || sums[i] <= sums[least]) least = i;
    }
    kept.erase(least);
  }
};

/// Row 24. Tokens that left have the score of none: the sums of the others are all the state there is.
Verdict GreedyH2o(Fixtures&, const Row&, const Codec&, const StoredChain&) {
  constexpr uint32_t kSteps = 1000, kBudget = 96, kRecent = 32;
  const auto codec = *Codec::Parse("B:uni(96)|E:acc|R:win(32)|raw");
  const KvLayout layout{1, 1, 8, 8, ElementType::kBfloat16};
  std::mt19937 random(24);
  std::normal_distribution<float> normal;
  GreedyReference reference{kBudget, kRecent, {}, {}};
  std::vector<float> keys, sums;
  std::vector<uint32_t> kept;
  for (uint32_t t = 0; t < kSteps; ++t) {
    for (uint32_t c = 0; c < 8; ++c) keys.push_back(1.5f * normal(random));
    float query[8];
    for (float& q : query) q = normal(random);
    sums.push_back(0);
    kept.push_back(t);
    std::vector<float> attention(t + 1);
    double all = 0;
    for (const uint32_t i : kept) {
      double dot = 0;
      for (uint32_t c = 0; c < 8; ++c) dot += query[c] * keys[uint64_t{i} * 8 + c];
      all += attention[i] = static_cast<float>(std::exp(dot / std::sqrt(8.0)));
    }
    for (const uint32_t i : kept) sums[i] += attention[i] = static_cast<float>(attention[i] / all);
    reference.Step(t, attention);
    SelectInputs inputs;
    inputs.attention_sums = sums;
    quality::CapturedRows rows(layout, t + 1);
    const auto chosen = Select(*codec->selection(), layout, t + 1, inputs, rows);
    if (!chosen.ok()) return {false, chosen.error().message};
    kept.clear();
    for (uint32_t i = 0; i <= t; ++i) {
      if (chosen->classes[i] != RowClass::kDropped) kept.push_back(i);
      if (chosen->classes[i] == RowClass::kDropped) sums[i] = -std::numeric_limits<float>::infinity();
    }
    if (!std::equal(kept.begin(), kept.end(), reference.kept.begin(), reference.kept.end())) {
      return {false, Said("step %u keeps other tokens than the reference", t)};
    }
  }
  return {true,
          Said("%u steps, budget %u, %u recent: the kept sets are equal at every step", kSteps, kBudget, kRecent)};
}

/// Row 30.
Verdict WholeExamples(Fixtures& f, const Row&, const Codec&, const StoredChain& stored) {
  const uint32_t heads = f.text.layout.kv_heads, n = f.text.tokens;
  uint32_t whole = 0, cut = 0, out = 0;
  for (uint32_t layer = 0; layer < f.text.layout.layers; ++layer) {
    uint32_t cut_here = 0;
    const RowClass* classes = &stored.selection.classes[uint64_t{layer} * heads * n];
    for (uint32_t head = 1; head < heads; ++head) {
      if (!std::equal(classes, classes + n, classes + uint64_t{head} * n)) return {false, "heads of a layer differ"};
    }
    for (const TokenSpan& span : f.text.spans) {
      const auto kept =
          std::count_if(classes + span.begin, classes + span.end, [](RowClass c) { return c != RowClass::kDropped; });
      if (kept == span.end - span.begin)
        ++whole;
      else if (kept == 0)
        ++out;
      else
        ++cut_here;
    }
    if (cut_here > 1) return {false, Said("layer %u cuts %u examples", layer, cut_here)};
    cut += cut_here;
  }
  return {whole > 0 && out > 0,
          Said("of %u examples in %u layers %u whole, %u not, %u cut where the budget ends",
               static_cast<unsigned>(f.text.spans.size()), f.text.layout.layers, whole, out, cut)};
}

/// Row 34. All ways to put the layers into three classes.
Verdict Squeeze(Fixtures& f, const Row&, const Codec&, const StoredChain& stored) {
  const std::vector<float>& cosine = f.text.hidden_cosine;
  const uint32_t layers = f.text.layout.layers, heads = f.text.layout.kv_heads;
  double least = 1e300;
  std::vector<bool> squeezed;
  for (uint32_t code = 0; code < std::pow(3, layers); ++code) {
    double sum[3] = {}, square[3] = {}, count[3] = {};
    std::vector<uint32_t> of;
    for (uint32_t l = 0, rest = code; l < layers; ++l, rest /= 3) {
      of.push_back(rest % 3);
      sum[of[l]] += cosine[l];
      square[of[l]] += double{cosine[l]} * cosine[l];
      count[of[l]] += 1;
    }
    double loss = 0, greatest = -2;
    uint32_t top = 0;
    for (uint32_t c = 0; c < 3; ++c) {
      if (count[c] == 0) continue;
      loss += square[c] - sum[c] * sum[c] / count[c];
      if (sum[c] / count[c] > greatest) {
        greatest = sum[c] / count[c];
        top = c;
      }
    }
    if (loss > least - 1e-12) continue;
    least = loss;
    squeezed.assign(layers, false);
    for (uint32_t l = 0; l < layers; ++l) squeezed[l] = of[l] == top;
  }
  const double b = 192 - 32, size = static_cast<double>(std::count(squeezed.begin(), squeezed.end(), true));
  uint64_t total = 0;
  std::string counts;
  for (uint32_t l = 0; l < layers; ++l) {
    const uint32_t got = stored.selection.counts[uint64_t{l} * heads];
    const double wanted = squeezed[l] ? 0.3 * b : (layers * b - size * 0.3 * b) / (layers - size);
    if (std::fabs(got - 32 - wanted) >= 1)
      return {false, Said("layer %u keeps %u, %.1f are right", l, got, 32 + wanted)};
    total += got;
    counts += Said(l > 0 ? " %u" : "%u", got);
  }
  return {total == uint64_t{192} * layers, "tokens of the layers: " + counts + "; the sum is the budget's"};
}

/// The tokens that ChunkKV keeps of a layer: whole chunks of ten, best mean first, until the budget ends in one.
std::vector<bool> KeptChunks(const Capture& c, std::span<const float> scores, uint64_t layer, uint32_t budget,
                             uint32_t window) {
  constexpr uint64_t kChunk = 10;
  const uint64_t n = c.tokens, heads = c.layout.kv_heads;
  std::vector<std::pair<double, uint64_t>> chunks;  // minus the mean, its first token
  for (uint64_t begin = 0; begin < n; begin += kChunk) {
    const uint64_t end = std::min(begin + kChunk, n);
    double sum = 0;
    for (uint64_t head = 0; head < heads; ++head) {
      for (uint64_t t = begin; t < end; ++t) sum += scores[(layer * heads + head) * n + t];
    }
    chunks.emplace_back(-sum / static_cast<double>(heads * (end - begin)), begin);
  }
  std::sort(chunks.begin(), chunks.end());
  std::vector<bool> kept(n);
  for (uint64_t t = n - window; t < n; ++t) kept[t] = true;
  uint64_t left = budget - window;
  for (const auto& [unused, begin] : chunks) {
    for (uint64_t t = begin; t < std::min(begin + kChunk, n) && left > 0; ++t) {
      if (kept[t]) continue;
      kept[t] = true;
      --left;
    }
  }
  return kept;
}

/// Row 47. The scores of single tokens are E:win's, which the gate holds to float64 in other rows.
Verdict ChunkKv(Fixtures& f, const Row& row, const Codec& codec, const StoredChain& stored) {
  const uint32_t heads = f.text.layout.kv_heads, n = f.text.tokens, layers = f.text.layout.layers;
  quality::CapturedRows rows = f.text.rows;
  const SelectInputs inputs = f.text.Inputs(*codec.selection());
  std::vector<float> scores(uint64_t{layers} * heads * n);
  const SelectionContext context{f.text.layout, n, *codec.selection(), inputs, rows};
  if (!WindowScorer::Score({32, 7}, context, scores).ok()) return {false, "no scores"};
  std::set<std::vector<bool>> indices;
  for (uint64_t layer = 0; layer < layers; ++layer) {
    const std::vector<bool> expected = KeptChunks(f.text, scores, layer - layer % 2, n / 4, 32);
    indices.insert(expected);
    for (uint64_t head = 0; head < heads; ++head) {
      for (uint64_t t = 0; t < n; ++t) {
        const RowClass of = stored.selection.classes[(layer * heads + head) * n + t];
        if ((of != RowClass::kDropped) != expected[t]) {
          return {false, Said("layer %u keeps other tokens than the reference", static_cast<unsigned>(layer))};
        }
      }
    }
  }
  std::string own = row.spec;
  own.replace(own.find("chunk(10,2)"), 11, "chunk(10)");
  const auto alone = quality::StoreChain(**Codec::Parse(own), f.text);
  if (!alone.ok()) return {false, alone.error().message};
  return {indices.size() == layers / 2,
          Said("%u layers of %u heads keep by %u indices, the reference's; error %.4f, %.4f where each layer has its "
               "own (a frame decodes alone: each carries the map, 2 bits a row)",
               layers, heads, static_cast<unsigned>(indices.size()), quality::AttentionError(f.text, stored),
               quality::AttentionError(f.text, *alone))};
}

/// Row 51.
Verdict Forgetting(Fixtures& f, const Row&, const Codec&, const StoredChain&) {
  constexpr uint32_t kTokens = 256;
  const uint32_t dim = f.text.layout.key_dim, n = f.text.tokens;
  double worst = 0;
  for (uint64_t head = 0; head < 4; ++head) {  // of query heads and layers any: those of the first layer
    const auto keys = f.text.rows.Of(0, static_cast<uint32_t>(head), KvTensor::kKey);
    std::vector<float> state(kTokens);
    std::vector<double> closed(kTokens);
    for (uint64_t q = 0; q < kTokens; ++q) {
      std::vector<double> a(q + 1);
      double all = 0;
      for (uint64_t t = 0; t <= q; ++t) {
        double dot = 0;
        for (uint64_t c = 0; c < dim; ++c)
          dot += double{f.text.queries[(2 * head * n + q) * dim + c]} * keys[t * dim + c];
        all += a[t] = std::exp(dot / std::sqrt(double{1} * dim));
      }
      for (uint64_t t = 0; t < kTokens; ++t) {
        state[t] = 0.95f * state[t] + (t <= q ? static_cast<float>(a[t] / all) : 0.0f);
        if (t <= q) closed[t] += std::pow(0.95, static_cast<double>(kTokens - 1 - q)) * a[t] / all;
      }
    }
    for (uint64_t t = 0; t < kTokens; ++t) {
      if (closed[t] > 1e-20) worst = std::max(worst, std::fabs(state[t] - closed[t]) / closed[t]);
    }
  }
  return {worst <= 1e-5, Said("256 steps in float32, 4 heads: %.1e of the closed form at most", worst)};
}

/// Row 61.
Verdict KeyNorm(Fixtures& f, const Row&, const Codec& codec, const StoredChain&) {
  Capture c = f.text;
  const auto chosen = Select(*codec.selection(), c.layout, c.tokens, {}, c.rows);
  if (!chosen.ok()) return {false, chosen.error().message};
  // One layer and head, so that a part of its rows is a chain of its own.
  const KvLayout one{1, 1, c.layout.key_dim, c.layout.value_dim, c.layout.element};
  std::vector<float> whole(c.tokens), block(256);
  for (const uint32_t tokens : {c.tokens, 256u}) {
    quality::CapturedRows rows(one, tokens);
    const auto from = c.rows.Of(1, 2, KvTensor::kKey).first(uint64_t{tokens} * one.key_dim);
    rows.Store(0, 0, KvTensor::kKey, from);
    const SelectInputs nothing;
    const SelectionContext context{one, tokens, *codec.selection(), nothing, rows};
    if (!KeyNormScorer::Score({}, context, tokens == 256 ? block : whole).ok()) return {false, "no scores"};
  }
  if (!std::equal(block.begin(), block.end(), whole.begin()))
    return {false, "later tokens change the scores of a block"};
  return {true,
          "chosen from K alone; a block's scores are the same whatever follows (its layers: all, no @layers yet)"};
}

constexpr NamedCheck kChecks[] = {{24, GreedyH2o}, {30, WholeExamples}, {34, Squeeze},
                                  {47, ChunkKv},   {51, Forgetting},    {61, KeyNorm}};

}  // namespace

std::span<const NamedCheck> SelectionChecks() { return kChecks; }

}  // namespace kvasir::seeds
