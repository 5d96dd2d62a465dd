// SPDX-License-Identifier: Apache-2.0
// The common gate of all rows.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/number_formats.h"
#include "kernels/stages/select_list.h"
#include "tests/kernels/engine.h"
#include "tests/seeds/checks.h"

namespace kvasir::seeds {
namespace {

constexpr uint32_t kBlock = 256;
constexpr uint32_t kPage = 16;
constexpr double kBitsSlack = 1.02;

/// What the device brings to one block, [layer][tensor], all heads together.
std::vector<FrameInputs> InputsOf(const Capture& c, const StoredChain& stored, uint32_t first,
                                  std::vector<std::vector<RowClass>>& classes, std::vector<std::vector<float>>& peaks) {
  std::vector<FrameInputs> inputs;
  const uint32_t heads = c.layout.kv_heads;
  for (uint32_t layer = 0; layer < c.layout.layers; ++layer) {
    auto& peak = peaks.emplace_back();
    auto& of_layer = classes.emplace_back();
    for (uint64_t head = uint64_t{layer} * heads; head < uint64_t{layer + 1} * heads; ++head) {
      const auto at = static_cast<ptrdiff_t>(head * c.tokens + first);
      peak.insert(peak.end(), c.attention_peak.begin() + at, c.attention_peak.begin() + at + kBlock);
      if (stored.selection.classes.empty()) continue;
      const auto from = stored.selection.classes.begin() + at;
      of_layer.insert(of_layer.end(), from, from + kBlock);
    }
    FrameInputs in;
    in.query_peak = c.query_peak.data() + uint64_t{layer} * heads * c.layout.key_dim;
    in.query_norm = c.query_norm.data() + uint64_t{layer} * heads;
    in.attention_peak = peak.data();
    in.context_tokens = c.tokens;
    in.first_token = first;
    if (!of_layer.empty()) in.row_classes = of_layer.data();
    inputs.insert(inputs.end(), {in, in});
  }
  return inputs;
}

/// An engine whose pages hold the first block of the capture.
testing::Engine EngineOf(const Capture& c) {
  std::mt19937_64 rng(1);
  testing::Engine engine = testing::MakeEngine(c.layout, testing::Order::kHND, kPage, kBlock, rng);
  testing::ForEachRow(
      engine, [&](std::byte* row, uint64_t bytes, uint32_t token, uint32_t head, uint32_t layer, KvTensor tensor) {
        const std::span<const float> rows = c.rows.Of(layer, head, tensor);
        const uint32_t dim = c.layout.dim(tensor);
        for (uint32_t i = 0; i < bytes / 2; ++i) {
          StoreElement(c.layout.element, rows[uint64_t{token} * dim + i], reinterpret_cast<uint8_t*>(row) + 2 * i);
        }
      });
  return engine;
}

/// Pages to frames to pages on the device, against the codec alone. Empty: the same bytes.
std::string ThroughPages(const std::shared_ptr<const Codec>& codec, const Capture& c, const StoredChain& stored) {
  std::vector<std::vector<RowClass>> classes;
  std::vector<std::vector<float>> peaks;
  const std::vector<FrameInputs> inputs = InputsOf(c, stored, 0, classes, peaks);
  const PartGeometry part{0, c.layout.layers, 0, c.layout.kv_heads, 0, kBlock};
  const testing::Engine engine = EngineOf(c);
  const auto device = MakeCpuDevice({});
  testing::Packed packed;
  PackJob job = testing::MakePack(codec, engine, part, packed);
  job.inputs = inputs;
  if (const JobStatus status = testing::RunJob(*device, job); !status.ok) return status.error.message;
  std::mt19937_64 rng(2);
  testing::Engine back = testing::MakeEngine(c.layout, testing::Order::kFused, kPage, kBlock, rng);
  if (!codec->drops()) {
    const JobStatus status = testing::RunJob(*device, testing::MakeUnpack(codec, back, part, packed));
    if (!status.ok) return status.error.message;
  }
  std::vector<std::byte> dense, frame, scratch, row(c.layout.key_dim * 2);
  for (uint32_t index = 0; index < 2 * c.layout.layers; ++index) {
    const KvTensor tensor = static_cast<KvTensor>(index % 2);
    const FrameShape shape = ShapeOfFrame(c.layout, part, tensor);
    dense.clear();
    for (uint32_t head = 0; head < c.layout.kv_heads; ++head) {
      for (const float x : c.rows.Of(index / 2, head, tensor).first(uint64_t{kBlock} * shape.dim)) {
        dense.resize(dense.size() + 2);
        StoreElement(shape.element, x, reinterpret_cast<uint8_t*>(dense.data() + dense.size() - 2));
      }
    }
    frame.resize(codec->MaxFrameBytes(tensor, shape));
    frame.resize(codec->Encode(tensor, shape, dense, frame, scratch, Destination::kCache, inputs[index]));
    const FrameEntry& entry = packed.result.directory[index];
    if (entry.length != frame.size() || std::memcmp(&packed.area[entry.offset], frame.data(), frame.size()) != 0) {
      return "the device packs other bytes than the codec";
    }
    if (codec->drops()) continue;
    if (!codec->Decode(tensor, shape, frame, dense, scratch).ok()) return "a frame does not decode";
    bool same = true;
    testing::ForEachRow(back,
                        [&](std::byte* at, uint64_t bytes, uint32_t token, uint32_t head, uint32_t layer, KvTensor of) {
                          if (layer != index / 2 || of != tensor) return;
                          same &= std::memcmp(at, &dense[(uint64_t{head} * kBlock + token) * bytes], bytes) == 0;
                        });
    if (!same) return "the device unpacks other values than the codec";
  }
  return "";
}

double Dot(const float* a, const float* b, uint64_t dim) {
  double sum = 0;
  for (uint64_t c = dim; c-- > 0;) sum += double{a[c]} * b[c];
  return sum;
}

/// SnapKV's scores of one head, by the attention of each window query.
std::vector<double> WindowScores(const Capture& c, uint64_t head, const WindowScorer::Args& a) {
  const uint64_t n = c.tokens, dim = c.layout.key_dim, group = c.query_heads / c.layout.kv_heads, half = a.kernel / 2;
  const auto keys =
      c.rows.Of(static_cast<uint32_t>(head / c.layout.kv_heads), head % c.layout.kv_heads, KvTensor::kKey);
  std::vector<double> score(n);
  for (uint64_t q = head * group; q < (head + 1) * group; ++q) {
    std::vector<double> padded(n + 2 * half);
    for (uint64_t w = n - a.window; w < n; ++w) {
      std::vector<double> e(w + 1);
      double all = 0;
      for (uint64_t t = 0; t <= w; ++t) {
        const float* query = &c.queries[(q * n + w) * dim];
        all += e[t] = std::exp(Dot(query, &keys[t * dim], dim) / std::sqrt(double{1} * dim));
      }
      for (uint64_t t = 0; t < n - a.window; ++t) padded[half + t] += e[t] / all;
    }
    for (uint64_t t = 0; t < n - a.window; ++t) {
      double sum = 0, greatest = 0;
      for (uint64_t i = t; i < t + a.kernel; ++i) {
        sum += padded[i];
        greatest = std::max(greatest, padded[i]);
      }
      score[t] += a.max != 0 ? greatest : sum / a.kernel;
    }
  }
  return score;
}

/// CAKE's scores of one head: mean and variance over the window of the attention of each query head.
std::vector<double> MomentScores(const Capture& c, uint64_t head, const MeanVarianceScorer::Args& a) {
  const uint64_t n = c.tokens, dim = c.layout.key_dim, group = c.query_heads / c.layout.kv_heads, half = a.kernel / 2;
  const uint64_t before = n - a.window;
  const auto keys =
      c.rows.Of(static_cast<uint32_t>(head / c.layout.kv_heads), head % c.layout.kv_heads, KvTensor::kKey);
  std::vector<double> score(n);
  for (uint64_t q = head * group; q < (head + 1) * group; ++q) {
    std::vector<std::vector<double>> attention;
    for (uint64_t w = before; w < n; ++w) {
      std::vector<double>& e = attention.emplace_back(w + 1);
      double all = 0;
      for (uint64_t t = 0; t <= w; ++t) {
        all += e[t] = std::exp(Dot(&c.queries[(q * n + w) * dim], &keys[t * dim], dim) / std::sqrt(double{1} * dim));
      }
      for (double& x : e) x /= all;
    }
    std::vector<double> padded(n + 2 * half);
    for (uint64_t t = 0; t < before; ++t) {
      double mean = 0, variance = 0;
      for (const auto& e : attention) mean += e[t] / a.window;
      for (const auto& e : attention) variance += (e[t] - mean) * (e[t] - mean) / a.window;
      padded[half + t] = mean + a.gamma * variance;
    }
    for (uint64_t t = 0; t < before; ++t) {
      for (uint64_t i = t; i < t + a.kernel; ++i) score[t] += padded[i];
    }
  }
  return score;
}

template <class S>
bool Is(const StageCall& call) {
  return call.stage == SelectStages::IndexOf<S>();
}

/// The scores of one head in float64; empty where no reference is known for the scorer.
std::vector<double> ReferenceScores(const Capture& c, const StageCall& scorer, uint64_t head) {
  const uint64_t n = c.tokens;
  std::vector<double> score(n);
  const auto take = [&](const std::vector<float>& from) {
    for (uint64_t t = 0; t < n; ++t) score[t] = from[head * n + t];
    return score;
  };
  if (Is<AttentionScorer>(scorer)) return take(c.attention_sums);
  if (Is<ForgettingScorer>(scorer)) return take(c.decayed_sums);
  if (Is<ExternalScorer>(scorer)) return take(c.reconstruction);
  if (Is<NormalisedScorer>(scorer)) {
    for (uint64_t t = 0; t < n; ++t) score[t] = c.attention_sums[head * n + t] / (n - t);
    return score;
  }
  if (Is<LateScorer>(scorer)) {
    for (uint64_t t = 0; t < n; ++t) score[t] = static_cast<double>(t);
    return score;
  }
  if (Is<KeyNormScorer>(scorer)) {
    const uint64_t dim = c.layout.key_dim, heads = c.layout.kv_heads;
    const auto keys =
        c.rows.Of(static_cast<uint32_t>(head / heads), static_cast<uint32_t>(head % heads), KvTensor::kKey);
    for (uint64_t t = 0; t < n; ++t) score[t] = -std::sqrt(Dot(&keys[t * dim], &keys[t * dim], dim));
    return score;
  }
  if (Is<WindowScorer>(scorer)) {
    WindowScorer::Args args;
    std::memcpy(&args, scorer.args, sizeof args);
    return WindowScores(c, head, args);
  }
  if (Is<MeanVarianceScorer>(scorer)) {
    MeanVarianceScorer::Args args;
    std::memcpy(&args, scorer.args, sizeof args);
    return MomentScores(c, head, args);
  }
  return {};
}

/// Whether no token that is not kept has a greater score than one that is. Empty: so it is.
std::string IndexSets(const Codec& codec, const Capture& c, const StoredChain& stored) {
  const SelectionSpec& spec = *codec.selection();
  const bool by_policy = Is<PolicyScorer>(spec.scores[0]);
  if (spec.score_count > 1 || spec.has_merge || by_policy) return "";  // the row's own check holds these
  for (uint64_t head = 0; head < uint64_t{c.layout.layers} * c.layout.kv_heads; ++head) {
    const std::vector<double> score = ReferenceScores(c, spec.scores[0], head);
    if (score.empty()) return "no reference for this scorer";
    double least = 1e300, greatest = -1e300, size = 0;
    for (uint64_t t = 0; t < c.tokens; ++t) {
      const RowClass of = stored.selection.classes[head * c.tokens + t];
      if (of == RowClass::kKept && score[t] < least) least = score[t];
      if (of == RowClass::kDropped || of == RowClass::kDemoted) greatest = std::max(greatest, score[t]);
      size = std::max(size, std::fabs(score[t]));
    }
    if (greatest > least + 1e-5 * size)
      return Said("head %u keeps a token of a lesser score", static_cast<unsigned>(head));
  }
  return "";
}

}  // namespace

Verdict CommonGate(const Row& row, const Codec& codec, const Capture& capture, const StoredChain& stored) {
  const auto again = Codec::Parse(codec.spec());
  if (!again.ok() || (*again)->spec() != codec.spec()) return {false, "the canonical spec is no fixed point"};
  const auto twice = quality::StoreChain(codec, capture);
  bool same = twice.ok() && twice->bytes == stored.bytes;
  for (size_t l = 0; same && l < stored.layers.size(); ++l) {
    same = twice->layers[l].keys == stored.layers[l].keys && twice->layers[l].values == stored.layers[l].values &&
           twice->layers[l].tokens == stored.layers[l].tokens && twice->layers[l].weights == stored.layers[l].weights;
  }
  if (!same) return {false, "a second run stores something else"};
  if (std::string wrong = ThroughPages(*again, capture, stored); !wrong.empty()) return {false, wrong};
  if (!stored.selection.classes.empty()) {
    if (std::string wrong = IndexSets(codec, capture, stored); !wrong.empty()) return {false, wrong};
  }
  if (row.bits > 0 && stored.bits() > kBitsSlack * row.bits) {
    return {false, Said("%.3f bits, %.3f were stated", stored.bits(), row.bits)};
  }
  return {true, ""};
}

}  // namespace kvasir::seeds
