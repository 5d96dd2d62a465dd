// SPDX-License-Identifier: Apache-2.0
// Cases, the exact run, the run through a codec, and the speed of the codec.
#include "tests/quality/bench.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/page_copy.h"
#include "tests/model/lm.h"

namespace kvasir::quality {
namespace {

constexpr uint32_t kPageTokens = 16;
constexpr uint32_t kDigits = 5;
constexpr uint32_t kPasskeySeed = 20261125;  ///< the keys are the same in every run
constexpr int kSpeedRounds = 3;              ///< the best counts
constexpr KvTensor kTensors[] = {KvTensor::kKey, KvTensor::kValue};

using Dense = std::vector<std::byte>;

/// One text, and what the exact run gave.
struct Case {
  std::vector<uint32_t> tokens;
  std::vector<Dense> prefix;      ///< frames [layer][tensor][block]
  std::vector<float> query_peak;  ///< [layer][head][dim]
  std::vector<float> query_norm;  ///< [layer][head]
  std::vector<float> attended;    ///< [layer][tail][query head][dim]; of texts only
};

/// Sums over cases.
struct Sums {
  double loss = 0, error = 0, size = 0;
  uint64_t scored = 0, bytes = 0, values = 0, found = 0;
};

class CodecBench final : public Bench {
 public:
  CodecBench(std::shared_ptr<const model::Model> model, const BenchOptions& options)
      : options_(options),
        layout_(model->layout()),
        groups_(model->config().query_heads / model->config().kv_heads),
        runner_(model, {.threads = options.threads}),
        pages_({.layout = layout_, .page_tokens = kPageTokens, .pages = kCaseTokens / kPageTokens}),
        rank_(pages_.rank()) {}

  Result<bool> Prepare(const std::string& text);
  const Figures& exact() const override { return exact_; }
  Result<Figures> Measure(const Method& method) override;

 private:
  FrameShape Shape(KvTensor tensor) const {
    return {layout_.kv_heads, kFrameTokens, layout_.dim(tensor), layout_.element};
  }
  PageRectangle Rectangle(uint32_t layer, KvTensor tensor, uint32_t block) const {
    return {rank_.cache, rank_.pages, layer, tensor, 0, layout_.kv_heads, block * kFrameTokens, kFrameTokens};
  }
  FrameInputs Inputs(const Case& c, uint32_t layer, uint32_t block) const {
    FrameInputs inputs;
    inputs.query_peak = c.query_peak.data() + size_t{layer} * layout_.kv_heads * layout_.key_dim;
    inputs.query_norm = c.query_norm.data() + size_t{layer} * layout_.kv_heads;
    inputs.context_tokens = kCaseTokens;
    inputs.first_token = block * kFrameTokens;
    return inputs;
  }
  void ReadQueries(const model::LayerView& view, Case& c) const;
  Result<bool> RunExact(Case& c, bool is_text, Sums& sums);
  Result<std::vector<float>> Tail(const Case& c, const model::LayerHook& written, const model::LayerWatch& watch);
  /// Through the codec into the pages.
  Result<bool> Store(const Codec& codec, uint32_t planes, const Case& c, uint32_t layer, KvTensor tensor,
                     uint32_t block, const Dense& dense, Sums& sums);
  Result<bool> MeasureCase(const Codec& codec, uint32_t planes, const Case& c, bool is_text, Sums& sums);
  void Score(const Case& c, bool is_text, std::span<const float> logits, Sums& sums) const;
  void MeasureSpeed(const Codec& codec, uint32_t planes, Figures& figures);
  Figures FiguresOf(const Sums& sums) const;

  const BenchOptions options_;
  const KvLayout layout_;
  const uint32_t groups_;  ///< query heads that share a KV head
  model::Runner runner_;
  model::PagedKv pages_;
  const model::RankKv rank_;
  std::vector<Case> texts_, passkeys_;
  Figures exact_;
  std::vector<std::byte> encoded_, decoded_, scratch_;
};

/// `filler` with a passkey told at `depth` (0 to 1) of the prefix and asked for at the end, the answer included.
std::vector<uint32_t> PasskeyTokens(std::string_view filler, double depth, const std::string& key) {
  const std::string told = "\nThe pass key is " + key + "\n";
  const std::string asked = "\nWhat is the pass key? The pass key is " + key;
  std::string text(filler.substr(0, kCaseTokens - told.size() - asked.size()));
  text.insert(static_cast<size_t>(depth * static_cast<double>(kPrefixTokens - told.size())), told);
  return model::TokensOf(text + asked);
}

Result<bool> CodecBench::Prepare(const std::string& text) {
  if (options_.texts == 0 || options_.texts + options_.passkeys > kCasesMax ||
      text.size() < size_t{kCasesMax} * kCaseTokens) {
    return Error{ErrorCode::kInvalidArgument, "the held-out text has room for 1 to 63 cases"};
  }
  std::mt19937 random(kPasskeySeed);
  Sums exact_sums;  // no codec takes part in them
  for (uint32_t i = 0; i < options_.texts + options_.passkeys; ++i) {
    const std::string_view window = std::string_view(text).substr(size_t{i} * kCaseTokens, kCaseTokens);
    const bool is_text = i < options_.texts;
    Case c;
    if (is_text) {
      c.tokens = model::TokensOf(window);
    } else {
      const double depth = (i - options_.texts + 0.5) / options_.passkeys;
      c.tokens = PasskeyTokens(window, depth, std::to_string(10000 + random() % 90000));
    }
    if (const Result<bool> ran = RunExact(c, is_text, exact_sums); !ran.ok()) return ran.error();
    if (!is_text) c.attended = {};
    (is_text ? texts_ : passkeys_).push_back(std::move(c));
  }
  exact_.loss = exact_sums.loss / static_cast<double>(exact_sums.scored);
  exact_.perplexity = std::exp(exact_.loss);
  exact_.bits = 8.0 * ElementBytes(layout_.element);
  if (!passkeys_.empty()) exact_.passkey = static_cast<double>(exact_sums.found) / options_.passkeys;
  return true;
}

void CodecBench::ReadQueries(const model::LayerView& view, Case& c) const {
  const uint32_t heads = layout_.kv_heads * groups_, dim = layout_.key_dim;
  const float scale = std::sqrt(static_cast<float>(dim));  // the model's queries are over it
  for (size_t row = 0; row < view.queries.size() / dim; ++row) {
    const size_t head = size_t{view.layer} * layout_.kv_heads + row % heads / groups_;
    float squares = 0;
    for (uint32_t d = 0; d < dim; ++d) {
      const float q = std::fabs(view.queries[row * dim + d] * scale);
      c.query_peak[head * dim + d] = std::max(c.query_peak[head * dim + d], q);
      squares += q * q;
    }
    c.query_norm[head] = std::max(c.query_norm[head], std::sqrt(squares));
  }
}

Result<std::vector<float>> CodecBench::Tail(const Case& c, const model::LayerHook& written,
                                            const model::LayerWatch& watch) {
  model::Chunk chunk;
  chunk.tokens = std::span(c.tokens).subspan(kPrefixTokens);
  chunk.first_position = kPrefixTokens;
  chunk.ranks = {&rank_, 1};
  chunk.layer_written = written;
  chunk.layer_attended = watch;
  chunk.logits = model::LogitsOf::kAll;
  return runner_.Prefill(chunk);
}

Result<bool> CodecBench::RunExact(Case& c, bool is_text, Sums& sums) {
  c.query_peak.resize(size_t{layout_.layers} * layout_.kv_heads * layout_.key_dim);
  c.query_norm.resize(size_t{layout_.layers} * layout_.kv_heads);
  model::Chunk chunk;
  chunk.tokens = std::span(c.tokens).first(kPrefixTokens);
  chunk.ranks = {&rank_, 1};
  chunk.layer_attended = [&](const model::LayerView& view) { ReadQueries(view, c); };
  chunk.logits = model::LogitsOf::kNone;
  if (const auto ran = runner_.Prefill(chunk); !ran.ok()) return ran.error();
  for (uint32_t layer = 0; layer < layout_.layers; ++layer) {
    for (const KvTensor tensor : kTensors) {
      for (uint32_t block = 0; block < kPrefixTokens / kFrameTokens; ++block) {
        GatherPages(Rectangle(layer, tensor, block), c.prefix.emplace_back(Shape(tensor).bytes()).data());
      }
    }
  }
  const auto logits = Tail(c, {}, [&](const model::LayerView& view) {
    c.attended.insert(c.attended.end(), view.attended.begin(), view.attended.end());
  });
  if (!logits.ok()) return logits.error();
  Score(c, is_text, *logits, sums);
  return true;
}

Result<bool> CodecBench::Store(const Codec& codec, uint32_t planes, const Case& c, uint32_t layer, KvTensor tensor,
                               uint32_t block, const Dense& dense, Sums& sums) {
  const FrameShape shape = Shape(tensor);
  encoded_.resize(codec.MaxFrameBytes(tensor, shape));
  decoded_.resize(shape.bytes());
  uint64_t bytes = codec.Encode(tensor, shape, dense, encoded_, scratch_, Destination::kCache, Inputs(c, layer, block));
  if (planes > 0) bytes = std::min(bytes, codec.PlaneEnd(tensor, shape, planes - 1));
  const Result<bool> decoded = codec.Decode(tensor, shape, std::span(encoded_).first(bytes), decoded_, scratch_);
  if (!decoded.ok()) return decoded.error();
  ScatterPages(Rectangle(layer, tensor, block), decoded_.data());
  sums.bytes += bytes;
  sums.values += shape.elements();
  return true;
}

void CodecBench::Score(const Case& c, bool is_text, std::span<const float> logits, Sums& sums) const {
  const size_t vocab = runner_.model().config().vocab;
  if (is_text) {  // the last position's next byte is not known
    const std::span targets = std::span(c.tokens).subspan(kPrefixTokens + 1);
    sums.loss += model::NegativeLogLikelihood(logits.first(targets.size() * vocab), targets);
    sums.scored += targets.size();
    return;
  }
  bool found = true;
  for (uint32_t digit = 0; digit < kDigits; ++digit) {
    const size_t row = kTailTokens - kDigits - 1 + digit;
    found &= model::Greedy(logits.subspan(row * vocab, vocab)) == c.tokens[kPrefixTokens + row + 1];
  }
  sums.found += found ? 1 : 0;
}

Result<bool> CodecBench::MeasureCase(const Codec& codec, uint32_t planes, const Case& c, bool is_text, Sums& sums) {
  size_t frame = 0;
  Sums unused;  // bits are those of texts
  Sums& sizes = is_text ? sums : unused;
  for (uint32_t layer = 0; layer < layout_.layers; ++layer) {
    for (const KvTensor tensor : kTensors) {
      for (uint32_t block = 0; block < kPrefixTokens / kFrameTokens; ++block) {
        const Result<bool> stored = Store(codec, planes, c, layer, tensor, block, c.prefix[frame++], sizes);
        if (!stored.ok()) return stored.error();
      }
    }
  }
  Result<bool> tail_stored = true;
  const auto written = [&](uint32_t layer) {
    for (const KvTensor tensor : kTensors) {
      Dense dense(Shape(tensor).bytes());
      const uint32_t block = kPrefixTokens / kFrameTokens;
      GatherPages(Rectangle(layer, tensor, block), dense.data());
      if (tail_stored.ok()) tail_stored = Store(codec, planes, c, layer, tensor, block, dense, sizes);
    }
    return tail_stored.ok();
  };
  size_t at = 0;
  const auto watch = [&](const model::LayerView& view) {
    if (!is_text) return;
    for (const float a : view.attended) {
      const double truth = c.attended[at++];
      sums.error += (a - truth) * (a - truth);
      sums.size += truth * truth;
    }
  };
  const auto logits = Tail(c, written, watch);
  if (!tail_stored.ok()) return tail_stored.error();
  if (!logits.ok()) return logits.error();
  Score(c, is_text, *logits, sums);
  return true;
}

/// 1e9 bytes a second, the best of a few rounds of at least `seconds`.
double Speed(uint64_t bytes, double seconds, const std::function<void()>& pass) {
  using Clock = std::chrono::steady_clock;
  double best = 0;
  for (int round = 0; round < kSpeedRounds; ++round) {
    const Clock::time_point begin = Clock::now();
    double took = 0;
    uint64_t passes = 0;
    do {
      pass();
      ++passes;
      took = std::chrono::duration<double>(Clock::now() - begin).count();
    } while (took < seconds);
    best = std::max(best, static_cast<double>(bytes * passes) / took / 1e9);
  }
  return best;
}

void CodecBench::MeasureSpeed(const Codec& codec, uint32_t planes, Figures& figures) {
  const Case& c = texts_[0];
  const uint32_t blocks = kPrefixTokens / kFrameTokens;
  std::vector<Dense> encoded(c.prefix.size());
  std::vector<uint64_t> sizes(c.prefix.size());
  uint64_t bytes = 0;
  const auto tensor_of = [&](size_t frame) { return kTensors[frame / blocks % 2]; };
  for (size_t frame = 0; frame < encoded.size(); frame += blocks) {  // the first block of every layer and tensor
    encoded[frame].resize(codec.MaxFrameBytes(tensor_of(frame), Shape(tensor_of(frame))));
    bytes += c.prefix[frame].size();
  }
  figures.encode_gbs = Speed(bytes, options_.speed_seconds, [&] {
    for (size_t frame = 0; frame < encoded.size(); frame += blocks) {
      const KvTensor tensor = tensor_of(frame);
      sizes[frame] = codec.Encode(tensor, Shape(tensor), c.prefix[frame], encoded[frame], scratch_, Destination::kCache,
                                  Inputs(c, static_cast<uint32_t>(frame / blocks / 2), 0));
    }
  });
  figures.decode_gbs = Speed(bytes, options_.speed_seconds, [&] {
    for (size_t frame = 0; frame < encoded.size(); frame += blocks) {
      const KvTensor tensor = tensor_of(frame);
      decoded_.resize(Shape(tensor).bytes());
      uint64_t size = sizes[frame];
      if (planes > 0) size = std::min(size, codec.PlaneEnd(tensor, Shape(tensor), planes - 1));
      (void)codec.Decode(tensor, Shape(tensor), std::span(encoded[frame]).first(size), decoded_, scratch_);
    }
  });
}

Figures CodecBench::FiguresOf(const Sums& sums) const {
  Figures figures;
  figures.bits = 8.0 * static_cast<double>(sums.bytes) / static_cast<double>(sums.values);
  figures.loss = sums.loss / static_cast<double>(sums.scored);
  figures.perplexity = std::exp(figures.loss);
  figures.change = std::expm1(figures.loss - exact_.loss);
  figures.attention_error = std::sqrt(sums.error / sums.size);
  figures.passkey = passkeys_.empty() ? 0 : static_cast<double>(sums.found) / static_cast<double>(passkeys_.size());
  return figures;
}

Result<Figures> CodecBench::Measure(const Method& method) {
  const auto parsed = Codec::Parse(method.spec);
  if (!parsed.ok()) return parsed.error();
  const Codec& codec = **parsed;
  if (codec.selection() != nullptr) {
    return Error{ErrorCode::kUnimplemented, method.spec + ": chooses tokens; this bench measures codecs of all tokens"};
  }
  for (const KvTensor tensor : kTensors) {
    if (const Result<bool> fits = codec.Check(tensor, Shape(tensor)); !fits.ok()) return fits.error();
    const Result<bool> brought = codec.CheckInputs(tensor, Inputs(texts_[0], 0, 0));
    if (!brought.ok()) return brought.error();
  }
  Sums sums;
  for (const std::vector<Case>* cases : {&texts_, &passkeys_}) {
    for (const Case& c : *cases) {
      const Result<bool> measured = MeasureCase(codec, method.planes, c, cases == &texts_, sums);
      if (!measured.ok()) return measured.error();
    }
  }
  Figures figures = FiguresOf(sums);
  if (options_.speed_seconds > 0) MeasureSpeed(codec, method.planes, figures);
  return figures;
}

}  // namespace

Result<std::unique_ptr<Bench>> Bench::Make(const std::filesystem::path& directory, const BenchOptions& options) {
  const auto loaded = model::Model::Load(directory);
  if (!loaded.ok()) return loaded.error();
  const Result<std::string> text = ReadText(directory / "heldout.txt");
  if (!text.ok()) return text.error();
  auto bench = std::make_unique<CodecBench>(*loaded, options);
  if (const Result<bool> prepared = bench->Prepare(*text); !prepared.ok()) return prepared.error();
  return std::unique_ptr<Bench>(std::move(bench));
}

}  // namespace kvasir::quality
