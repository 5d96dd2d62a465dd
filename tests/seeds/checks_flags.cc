// SPDX-License-Identifier: Apache-2.0
// Own checks of the rows whose tokens somebody else chose: flags, scores, head classes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/number_formats.h"
#include "tests/seeds/checks.h"

namespace kvasir::seeds {
namespace {

/// Rows that are stored are those that `selection` keeps, in their places, with the bits they had.
std::string ExactlyTheKept(const Capture& c, const StoredChain& stored) {
  for (uint32_t layer = 0; layer < c.layout.layers; ++layer) {
    const quality::StoredLayer& of = stored.layers[layer];
    size_t row = 0;
    for (uint32_t head = 0; head < c.layout.kv_heads; ++head) {
      if (of.cu_lengths[head] != row) return "lengths do not add up";
      const auto keys = c.rows.Of(layer, head, KvTensor::kKey), values = c.rows.Of(layer, head, KvTensor::kValue);
      for (uint32_t t = 0; t < c.tokens; ++t) {
        if (stored.selection.classes[(layer * c.layout.kv_heads + head) * c.tokens + t] == RowClass::kDropped) continue;
        if (row >= of.tokens.size() || of.tokens[row] != t) return "a token is missing or out of its place";
        for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
          const uint32_t dim = c.layout.dim(tensor);
          const auto* bytes = reinterpret_cast<const uint8_t*>((tensor == KvTensor::kKey ? of.keys : of.values).data());
          for (uint32_t i = 0; i < dim; ++i) {
            const float x = (tensor == KvTensor::kKey ? keys : values)[uint64_t{t} * dim + i];
            if (LoadElement(c.layout.element, bytes + 2 * (row * dim + i)) != x) return "a value changed";
          }
        }
        ++row;
      }
    }
    if (row != of.tokens.size()) return "rows that nobody chose";
  }
  return "";
}

/// Rows 5, 18, 40: what is stored is what the flags say, head by head.
Verdict FlagsAlone(Fixtures& f, const Row&, const Codec&, const StoredChain& stored) {
  if (std::string wrong = ExactlyTheKept(f.text, stored); !wrong.empty()) return {false, wrong};
  uint32_t least = ~0u, most = 0;
  for (const uint32_t count : stored.selection.counts) {
    least = std::min(least, count);
    most = std::max(most, count);
  }
  return {least > 0,
          Said("heads keep %u to %u of %u tokens, every value and position as it was", least, most, f.text.tokens)};
}

/// Row 55: the blocks of a shorter chain are those of the longer one.
Verdict GrowingChain(Fixtures& f, const Row&, const Codec& codec, const StoredChain& stored) {
  const auto keeps = [&](uint32_t layer, uint32_t head, uint32_t t) {
    const uint64_t at = (uint64_t{layer} * f.text.layout.kv_heads + head) * f.text.tokens + t;
    return stored.selection.classes[at] != RowClass::kDropped;
  };
  Capture part = f.text;
  part.tokens = 512;
  part.rows = quality::CapturedRows(part.layout, part.tokens);
  part.attention_peak.assign(uint64_t{part.layout.layers} * part.layout.kv_heads * part.tokens, 0.0f);
  for (uint32_t layer = 0; layer < part.layout.layers; ++layer) {
    for (uint32_t head = 0; head < part.layout.kv_heads; ++head) {
      for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
        const auto to = part.rows.Of(layer, head, tensor), from = f.text.rows.Of(layer, head, tensor);
        std::copy_n(from.begin(), to.size(), to.begin());
      }
    }
  }
  const auto shorter = quality::StoreChain(codec, WithFlags(part, keeps));
  if (!shorter.ok()) return {false, shorter.error().message};
  if (std::string wrong = ExactlyTheKept(part, *shorter); !wrong.empty()) return {false, wrong};
  for (uint32_t layer = 0; layer < part.layout.layers; ++layer) {
    for (uint32_t head = 0; head < part.layout.kv_heads; ++head) {
      const auto of = [&](const StoredChain& chain) {
        const quality::StoredLayer& l = chain.layers[layer];
        std::vector<uint32_t> tokens(l.tokens.begin() + l.cu_lengths[head], l.tokens.begin() + l.cu_lengths[head + 1]);
        std::erase_if(tokens, [](uint32_t t) { return t >= 512; });
        return tokens;
      };
      if (of(*shorter) != of(stored)) return {false, "a sealed block changed as the chain grew"};
    }
  }
  return {true,
          Said("two blocks, then three: the first two as they were; %.0f%% of the tokens stored", 100 * stored.kept())};
}

/// Row 42: scores kept as fp16 give every budget its tokens, and a smaller budget is part of a larger.
Verdict FromStoredScores(Fixtures& f, const Row&, const Codec&, const StoredChain&) {
  Capture again = f.text;
  for (float& score : again.reconstruction) score = Float16ToFloat(SaturatedFloat16(score));
  std::vector<RowClass> before;
  for (const char* spec :
       {"B:uni(0.5)|E:ext|R:win(100)|raw", "B:uni(0.25)|E:ext|R:win(100)|raw", "B:uni(0.15)|E:ext|R:win(100)|raw"}) {
    const auto codec = Codec::Parse(spec);
    SelectInputs inputs;  // nothing but the scores
    inputs.external_scores = again.reconstruction;
    const auto chosen = Select(*(*codec)->selection(), again.layout, again.tokens, inputs, again.rows);
    if (!chosen.ok()) return {false, chosen.error().message};
    for (size_t i = 0; i < before.size(); ++i) {
      if (before[i] == RowClass::kDropped && chosen->classes[i] != RowClass::kDropped) {
        return {false, "a smaller budget keeps what a larger one dropped"};
      }
    }
    before = chosen->classes;
  }
  return {true, "budgets 0.5, 0.25, 0.15 from the same fp16 scores, each within the one before"};
}

/// Row 3.
Verdict Compensation(Fixtures& f, const Row&, const Codec&, const StoredChain& stored) {
  uint32_t tokens = 0;
  double worst = 0;
  const uint32_t heads = f.text.layout.kv_heads, n = f.text.tokens;
  for (uint32_t layer = 0; layer < f.text.layout.layers; ++layer) {
    const quality::StoredLayer& of = stored.layers[layer];
    for (uint32_t row = 0; row < of.weights.size() / 2; ++row) {
      if (of.weights[2 * row] == 1) continue;
      uint32_t head = 0;
      while (of.cu_lengths[head + 1] <= row) ++head;
      ++tokens;
      const RowClass* classes = &stored.selection.classes[(uint64_t{layer} * heads + head) * n];
      std::vector<uint32_t> dropped = {of.tokens[row]};
      for (uint32_t t = 0; t < n; ++t) {
        if (classes[t] == RowClass::kDropped) dropped.push_back(t);
      }
      if (of.weights[2 * row] != static_cast<float>(dropped.size()) || of.weights[2 * row + 1] != of.weights[2 * row]) {
        return {false, "the count did not come back"};
      }
      for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
        const uint64_t dim = f.text.layout.dim(tensor);
        const auto rows = f.text.rows.Of(layer, head, tensor);
        const auto* bytes = reinterpret_cast<const uint8_t*>((tensor == KvTensor::kKey ? of.keys : of.values).data());
        for (uint64_t c = 0; c < dim; ++c) {
          double mean = 0;
          for (const uint32_t t : dropped) mean += rows[t * dim + c] / static_cast<double>(dropped.size());
          const double got = LoadElement(f.text.layout.element, bytes + 2 * (row * dim + c));
          worst = std::max(worst, std::fabs(got - mean) / (std::fabs(mean) + 1e-3));
        }
      }
    }
  }
  const bool held = tokens > 0 && worst < 1.0 / 256 && stored.bits() <= 0.30 * 16;
  return {held, Said("%.0f%% of the bytes; %u compensation tokens, means within a bf16 (%.4f), counts back",
                     100 * stored.bits() / 16, tokens, worst)};
}

constexpr NamedCheck kChecks[] = {{3, Compensation}, {5, FlagsAlone},        {18, FlagsAlone},
                                  {40, FlagsAlone},  {42, FromStoredScores}, {55, GrowingChain}};

}  // namespace

std::span<const NamedCheck> FlagChecks() { return kChecks; }

}  // namespace kvasir::seeds
