// SPDX-License-Identifier: Apache-2.0
// What checks run on: a captured text of the reference model, and numbers drawn in the shape of a larger model's.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <random>

#include "kernels/number_formats.h"
#include "tests/model/lm.h"
#include "tests/quality/methods.h"
#include "tests/seeds/checks.h"

namespace kvasir::seeds {
namespace {

constexpr uint32_t kTextTokens = 768;
constexpr uint32_t kSyntheticSeed = 20261126, kRunsSeed = 16, kWordsSeed = 1;
constexpr uint32_t kTextOffset = 40 * 1024;  ///< of held-out text: none of the bench's cases

/// F1: one layer of two KV heads of 128. Rows of a falling spectrum (singular values 1 / (i + 1)), a few key channels
/// that are far larger, RoPE; queries lean to some keys, as heavy-tailed attention does.
constexpr KvLayout kSyntheticLayout{1, 2, 128, 128, ElementType::kBfloat16};
constexpr uint32_t kSyntheticTokens = 768, kSyntheticRank = 48, kSyntheticOutliers = 6;

void Rotate(std::span<float> row, uint32_t position) {
  const size_t half = row.size() / 2;
  for (size_t i = 0; i < half; ++i) {
    const double angle = position * std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half));
    const double a = row[i], b = row[i + half], c = std::cos(angle), s = std::sin(angle);
    row[i] = static_cast<float>(a * c - b * s);
    row[i + half] = static_cast<float>(b * c + a * s);
  }
}

float Rounded(float x) { return BFloat16ToFloat(FloatToBFloat16(x)); }

/// Rows of one head: a mixture of kSyntheticRank directions, and a little noise.
void FillRows(std::span<float> rows, uint32_t dim, bool keys, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> directions(kSyntheticRank * dim), constant(dim);
  for (float& x : directions) x = normal(random);
  for (uint32_t i = 0; keys && i < kSyntheticOutliers; ++i) {  // of the slow pairs, so that RoPE leaves them
    constant[dim / 2 - 1 - i / 2 + (i % 2) * dim / 2] = random() % 2 == 0 ? 12.0f : -12.0f;
  }
  for (uint32_t t = 0; t < kSyntheticTokens; ++t) {
    const std::span<float> row = rows.subspan(uint64_t{t} * dim, dim);
    for (uint32_t c = 0; c < dim; ++c) row[c] = constant[c] + 0.15f * normal(random);
    for (uint32_t i = 0; i < kSyntheticRank; ++i) {
      const float weight = 2.0f * normal(random) / static_cast<float>(i + 1);
      for (uint32_t c = 0; c < dim; ++c) row[c] += weight * directions[i * dim + c];
    }
    if (keys) Rotate(row, t);
    for (float& x : row) x = Rounded(x);
  }
}

}  // namespace

Capture SyntheticCapture() {
  std::mt19937 random(kSyntheticSeed);
  std::normal_distribution<float> normal;
  Capture c;
  c.layout = kSyntheticLayout;
  c.tokens = kSyntheticTokens;
  c.query_heads = 2 * kSyntheticLayout.kv_heads;
  c.rows = quality::CapturedRows(c.layout, c.tokens);
  const uint32_t dim = c.layout.key_dim;
  c.queries.resize(uint64_t{c.query_heads} * c.tokens * dim);
  for (uint32_t head = 0; head < c.layout.kv_heads; ++head) {
    const std::span<float> keys = c.rows.Of(0, head, KvTensor::kKey);
    FillRows(keys, dim, true, random);
    FillRows(c.rows.Of(0, head, KvTensor::kValue), dim, false, random);
    for (uint64_t row = 0; row < uint64_t{2} * c.tokens; ++row) {
      const uint64_t like = random() % c.tokens;  // the key that this query looks for
      float* q = &c.queries[(uint64_t{head} * 2 * c.tokens + row) * dim];
      for (uint32_t d = 0; d < dim; ++d) q[d] = 0.3f * keys[like * dim + d] + normal(random);
    }
  }
  const uint64_t heads = c.layout.kv_heads;
  c.query_peak.assign(heads * dim, 3.0f);
  c.query_norm.assign(heads, 24.0f);
  c.attention_peak.assign(heads * c.tokens, 0.05f);
  return c;
}

Capture RunsCapture() {
  std::mt19937 random(kRunsSeed);
  std::normal_distribution<float> normal;
  Capture c;
  c.layout = {1, 2, 64, 64, ElementType::kBfloat16};
  c.tokens = kSyntheticTokens;
  c.query_heads = c.layout.kv_heads;
  c.rows = quality::CapturedRows(c.layout, c.tokens);
  const uint64_t n = c.tokens, dim = c.layout.key_dim;
  for (uint32_t head = 0; head < c.layout.kv_heads; ++head) {
    const std::span<float> keys = c.rows.Of(0, head, KvTensor::kKey), values = c.rows.Of(0, head, KvTensor::kValue);
    std::vector<float> topic(2 * dim);
    for (uint64_t t = 0, end = 0; t < n; ++t) {
      const bool first = t == end;  // of a run of 3 to 8 tokens: it draws more attention than the others
      for (float& x : topic) x = first ? normal(random) : x;
      if (first) end = t + 3 + random() % 6;
      for (uint64_t d = 0; d < dim; ++d) {
        keys[t * dim + d] = Rounded((first ? 1.4f : 1.0f) * topic[d] + 0.25f * normal(random));
        values[t * dim + d] = Rounded(topic[dim + d] + 0.5f * normal(random));
      }
    }
    std::vector<double> e(n);
    c.attention_sums.resize(c.attention_sums.size() + n);
    for (uint64_t t = 0; t < n; ++t) {  // of a later turn: looks for any of the keys, and all are before it
      const uint64_t like = random() % n;
      double all = 0;
      for (uint64_t d = 0; d < dim; ++d) c.queries.push_back(0.4f * keys[like * dim + d] + 0.5f * normal(random));
      for (uint64_t k = 0; k < n; ++k) {
        double dot = 0;
        for (uint64_t d = 0; d < dim; ++d) dot += double{c.queries[c.queries.size() - dim + d]} * keys[k * dim + d];
        all += e[k] = std::exp(dot / std::sqrt(double{1} * static_cast<double>(dim)));
      }
      for (uint64_t k = 0; k < n; ++k) c.attention_sums[head * n + k] += static_cast<float>(e[k] / all);
    }
  }
  c.query_peak.assign(c.layout.kv_heads * dim, 3.0f);
  c.query_norm.assign(c.layout.kv_heads, 24.0f);
  c.attention_peak.assign(c.layout.kv_heads * n, 0.05f);
  return c;
}

Capture WordsCapture() {
  constexpr uint32_t kWords = 200;
  std::mt19937 random(kWordsSeed);
  std::normal_distribution<float> normal;
  Capture c = SyntheticCapture();
  const uint64_t n = c.tokens, dim = c.layout.key_dim;
  std::vector<double> share;  // of the words up to one
  for (uint32_t i = 0; i < kWords; ++i) share.push_back((i > 0 ? share[i - 1] : 0) + 1.0 / (i + 1));
  for (uint32_t head = 0; head < c.layout.kv_heads; ++head) {
    std::vector<uint64_t> word(n);
    for (uint64_t& w : word) {
      const double place = share.back() * (random() % 65536) / 65536;
      w = static_cast<uint64_t>(std::upper_bound(share.begin(), share.end(), place) - share.begin());
    }
    for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
      std::vector<float> of_word(kWords * dim);
      for (float& x : of_word) x = normal(random);
      const std::span<float> rows = c.rows.Of(0, head, tensor);
      for (uint64_t i = 0; i < n * dim; ++i)
        rows[i] = Rounded(of_word[word[i / dim] * dim + i % dim] + 0.1f * normal(random));
    }
    const auto keys = c.rows.Of(0, head, KvTensor::kKey);
    for (uint64_t row = 0; row < 2 * n; ++row) {
      const uint64_t like = random() % n;
      float* q = &c.queries[(head * 2 * n + row) * dim];
      for (uint64_t d = 0; d < dim; ++d) q[d] = 0.3f * keys[like * dim + d] + normal(random);
    }
  }
  return c;
}

Result<Fixtures> MakeFixtures(const FixtureOptions& options) {
  const auto model = model::Model::Load(options.model);
  if (!model.ok()) return model.error();
  const Result<std::string> text = quality::ReadText(options.model + "/heldout.txt");
  if (!text.ok()) return text.error();
  if (text->size() < kTextOffset + kTextTokens) return Error{ErrorCode::kInvalidArgument, "heldout.txt is too short"};
  const Result<std::vector<float>> heads = quality::ProbeHeads(*model, options.threads);
  if (!heads.ok()) return heads.error();
  const auto tokens = model::TokensOf(std::string_view(*text).substr(kTextOffset, kTextTokens));
  Result<Capture> captured = quality::CaptureChain(*model, tokens, *heads, {.threads = options.threads});
  if (!captured.ok()) return captured.error();
  Fixtures fixtures{tokens, std::move(*captured), SyntheticCapture(), {}};
  for (uint32_t begin = 20; begin + 60 < kTextTokens; begin += 60 + begin % 17) {  // "examples" of uneven length
    fixtures.text.spans.push_back({begin, begin + 43 + begin % 11, TokenSpan::Kind::kExample});
  }
  auto bench = std::make_shared<std::unique_ptr<quality::SelectBench>>();
  fixtures.bench = [options, bench]() -> quality::SelectBench* {
    if (*bench == nullptr) {
      auto made = quality::SelectBench::Make(options.model, {options.texts, options.turns, options.threads});
      if (made.ok()) *bench = std::move(*made);
    }
    return bench->get();
  };
  return fixtures;
}

std::vector<TokenSpan> MarkedSpans(std::span<const uint32_t> tokens) {
  std::vector<TokenSpan> spans;
  for (uint32_t t = 0; t < tokens.size(); ++t) {
    const auto byte = static_cast<unsigned char>(tokens[t]);
    if (byte == '\n') {
      spans.push_back({t, t + 1, TokenSpan::Kind::kSpecial});
    } else if (std::ispunct(byte) != 0) {
      spans.push_back({t, t + 1, TokenSpan::Kind::kPunctuation});
    }
  }
  return spans;
}

std::string Said(const char* format, ...) {
  char text[240];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  return text;
}

}  // namespace kvasir::seeds
