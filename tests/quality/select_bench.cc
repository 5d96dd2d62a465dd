// SPDX-License-Identifier: Apache-2.0
// Cases, the exact run, and the run over what a store gives back.
#include "tests/quality/select_bench.h"

#include <cmath>
#include <random>
#include <string>
#include <utility>

#include "tests/quality/bench.h"
#include "tests/quality/stored_chain.h"

namespace kvasir::quality {
namespace {

constexpr uint32_t kPageTokens = 16;
constexpr uint32_t kDigits = 5;
constexpr uint32_t kTurnSeed = 20261126;

struct Case {
  std::vector<uint32_t> tail;
  Capture prefix;
  std::vector<float> attended;  ///< of the exact run; of texts only
  uint32_t answers[2] = {};     ///< of turns: where in the tail the digits begin
};

struct Sums {
  double loss = 0, error = 0, size = 0, kept = 0;
  uint64_t scored = 0, bytes = 0, values = 0, found[2] = {};
};

/// Prefix and tail of a case of two turns.
struct Turns {
  std::string prefix, tail;
  uint32_t answers[2];
};

Turns MakeTurns(std::string_view filler, std::mt19937& random) {
  std::string names[2], keys[2];
  for (int i = 0; i < 2; ++i) {
    for (int c = 0; c < 3; ++c) names[i] += static_cast<char>('a' + random() % 26);
    keys[i] = std::to_string(10000 + random() % 90000);
  }
  const auto asked = [&](int i) { return "\nThe pass key of " + names[i] + " is"; };
  const std::string told[2] = {asked(0) + " " + keys[0] + "\n", asked(1) + " " + keys[1] + "\n"};
  std::string text(filler.substr(0, kPrefixTokens - told[0].size() - told[1].size() - asked(0).size()));
  size_t at[2] = {random() % text.size(), random() % text.size()};
  const int later = at[0] > at[1] ? 0 : 1;  // goes in first, so that the other does not move it
  text.insert(at[later], told[later]);
  text.insert(at[1 - later], told[1 - later]);
  Turns turns;
  turns.prefix = text + asked(0);
  turns.tail = " " + keys[0] + asked(1) + " " + keys[1];
  turns.answers[0] = 1;
  turns.answers[1] = static_cast<uint32_t>(turns.tail.size()) - kDigits;
  return turns;
}

class ModelSelectBench final : public SelectBench {
 public:
  ModelSelectBench(std::shared_ptr<const model::Model> model, const SelectOptions& options)
      : options_(options),
        model_(model),
        runner_(model, {.threads = options.threads}),
        pages_({.layout = model->layout(), .page_tokens = kPageTokens, .pages = kCaseTokens / kPageTokens}),
        rank_(pages_.rank()) {}

  Result<bool> Prepare(const std::string& text);
  const SelectFigures& exact() const override { return exact_; }
  Result<SelectFigures> Measure(const Codec& codec) override;

 private:
  Result<bool> Add(std::vector<uint32_t> prefix, Case c, bool is_text, std::span<const float> head_scores);
  Result<bool> RunCase(const Codec& codec, const Case& c, bool is_text, Sums& sums, std::vector<float>* attended);
  void Score(const Case& c, bool is_text, std::span<const float> logits, Sums& sums) const;
  SelectFigures FiguresOf(const Sums& sums) const;

  const SelectOptions options_;
  std::shared_ptr<const model::Model> model_;
  model::Runner runner_;
  model::PagedKv pages_;
  const model::RankKv rank_;
  std::vector<Case> texts_, turns_;
  SelectFigures exact_;
  double exact_loss_ = 0;
};

Result<bool> ModelSelectBench::Add(std::vector<uint32_t> prefix, Case c, bool is_text,
                                   std::span<const float> head_scores) {
  Result<Capture> captured = CaptureChain(model_, prefix, head_scores, {.threads = options_.threads});
  if (!captured.ok()) return captured.error();
  c.prefix = std::move(*captured);
  (is_text ? texts_ : turns_).push_back(std::move(c));
  return true;
}

Result<bool> ModelSelectBench::Prepare(const std::string& text) {
  if (options_.texts == 0 || options_.turns == 0 || options_.texts + options_.turns > kCasesMax ||
      text.size() < size_t{kCasesMax} * kCaseTokens) {
    return Error{ErrorCode::kInvalidArgument,
                 "the held-out text has room for 63 cases; texts and turns at least 1 each"};
  }
  const Result<std::vector<float>> heads = ProbeHeads(model_, options_.threads);
  if (!heads.ok()) return heads.error();
  std::mt19937 random(kTurnSeed);
  for (uint32_t i = 0; i < options_.texts + options_.turns; ++i) {
    const std::string_view window = std::string_view(text).substr(size_t{i} * kCaseTokens, kCaseTokens);
    Case c;
    std::vector<uint32_t> prefix;
    if (i < options_.texts) {
      prefix = model::TokensOf(window.substr(0, kPrefixTokens));
      c.tail = model::TokensOf(window.substr(kPrefixTokens));
    } else {
      const Turns turns = MakeTurns(window, random);
      prefix = model::TokensOf(turns.prefix);
      c.tail = model::TokensOf(turns.tail);
      std::copy(turns.answers, turns.answers + 2, c.answers);
    }
    const Result<bool> added = Add(std::move(prefix), std::move(c), i < options_.texts, *heads);
    if (!added.ok()) return added;
  }
  const auto raw = Codec::Parse("raw");
  Sums sums;
  for (Case& c : texts_) {
    if (const Result<bool> ran = RunCase(**raw, c, true, sums, &c.attended); !ran.ok()) return ran;
  }
  for (Case& c : turns_) {
    if (const Result<bool> ran = RunCase(**raw, c, false, sums, nullptr); !ran.ok()) return ran;
  }
  exact_loss_ = sums.loss / static_cast<double>(sums.scored);
  exact_ = FiguresOf(sums);
  return true;
}

void ModelSelectBench::Score(const Case& c, bool is_text, std::span<const float> logits, Sums& sums) const {
  const size_t vocab = model_->config().vocab;
  if (is_text) {
    const std::span targets = std::span(c.tail).subspan(1);
    sums.loss += model::NegativeLogLikelihood(logits.first(targets.size() * vocab), targets);
    sums.scored += targets.size();
    return;
  }
  for (int turn = 0; turn < 2; ++turn) {
    bool found = true;
    for (uint32_t digit = c.answers[turn]; digit < c.answers[turn] + kDigits; ++digit) {
      found &= model::Greedy(logits.subspan((digit - 1) * vocab, vocab)) == c.tail[digit];
    }
    sums.found[turn] += found ? 1 : 0;
  }
}

/// `attended`: where the exact run leaves its outputs; null: compare with them.
Result<bool> ModelSelectBench::RunCase(const Codec& codec, const Case& c, bool is_text, Sums& sums,
                                       std::vector<float>* attended) {
  const Result<StoredChain> stored = StoreChain(codec, c.prefix);
  if (!stored.ok()) return stored.error();
  std::vector<model::RaggedLayer> views;
  const model::RaggedKv context = stored->Ragged(views);
  model::Chunk chunk;
  chunk.tokens = c.tail;
  chunk.first_position = kPrefixTokens;
  chunk.ranks = {&rank_, 1};
  chunk.context = {&context, 1};
  chunk.logits = model::LogitsOf::kAll;
  size_t at = 0;
  chunk.layer_attended = [&](const model::LayerView& view) {
    if (!is_text) return;
    if (attended != nullptr) attended->insert(attended->end(), view.attended.begin(), view.attended.end());
    for (const float a : view.attended) {
      const double truth = attended != nullptr ? a : c.attended[at++];
      sums.error += (a - truth) * (a - truth);
      sums.size += truth * truth;
    }
  };
  const auto logits = runner_.Prefill(chunk);
  if (!logits.ok()) return logits.error();
  Score(c, is_text, *logits, sums);
  if (!is_text) return true;  // bits are those of texts
  sums.bytes += stored->bytes;
  sums.values += stored->values;
  sums.kept += stored->kept();
  return true;
}

SelectFigures ModelSelectBench::FiguresOf(const Sums& sums) const {
  SelectFigures f;
  const double loss = sums.loss / static_cast<double>(sums.scored);
  f.bits = 8.0 * static_cast<double>(sums.bytes) / static_cast<double>(sums.values);
  f.kept = sums.kept / static_cast<double>(texts_.size());
  f.perplexity = std::exp(loss);
  f.change = std::expm1(loss - exact_loss_);
  f.attention_error = std::sqrt(sums.error / sums.size);
  f.first_turn = static_cast<double>(sums.found[0]) / static_cast<double>(turns_.size());
  f.second_turn = static_cast<double>(sums.found[1]) / static_cast<double>(turns_.size());
  return f;
}

Result<SelectFigures> ModelSelectBench::Measure(const Codec& codec) {
  Sums sums;
  for (const Case& c : texts_) {
    if (const Result<bool> ran = RunCase(codec, c, true, sums, nullptr); !ran.ok()) return ran.error();
  }
  for (const Case& c : turns_) {
    if (const Result<bool> ran = RunCase(codec, c, false, sums, nullptr); !ran.ok()) return ran.error();
  }
  return FiguresOf(sums);
}

}  // namespace

Result<std::unique_ptr<SelectBench>> SelectBench::Make(const std::filesystem::path& directory,
                                                       const SelectOptions& options) {
  const auto loaded = model::Model::Load(directory);
  if (!loaded.ok()) return loaded.error();
  const Result<std::string> text = ReadText(directory / "heldout.txt");
  if (!text.ok()) return text.error();
  auto bench = std::make_unique<ModelSelectBench>(*loaded, options);
  if (const Result<bool> prepared = bench->Prepare(*text); !prepared.ok()) return prepared.error();
  return std::unique_ptr<SelectBench>(std::move(bench));
}

}  // namespace kvasir::quality
