// SPDX-License-Identifier: Apache-2.0
// Selects, encodes and decodes a captured chain, and compares attention over both.
#include "tests/quality/stored_chain.h"

#include <algorithm>
#include <cmath>

#include "kernels/number_formats.h"

namespace kvasir::quality {
namespace {

/// One frame of a chain on its way.
struct FrameJob {
  const Codec& codec;
  const Capture& capture;
  const CapturedRows& rows;  ///< after merges
  const Selection* selection;
  uint32_t planes, frame_tokens;
  std::vector<std::byte> dense, frame, scratch;

  uint64_t Head(uint32_t layer, uint32_t head) const { return uint64_t{layer} * capture.layout.kv_heads + head; }
  FrameInputs Inputs(uint32_t layer, uint32_t head, KvTensor tensor, uint32_t first) const;
  Result<uint64_t> Run(uint32_t layer, uint32_t head, KvTensor tensor, uint32_t first, StoredLayer& to);
};

FrameInputs FrameJob::Inputs(uint32_t layer, uint32_t head, KvTensor tensor, uint32_t first) const {
  const uint64_t of_head = Head(layer, head), row = of_head * capture.tokens + first;
  FrameInputs in;
  in.query_peak = capture.query_peak.data() + of_head * capture.layout.key_dim;
  in.query_norm = capture.query_norm.data() + of_head;
  in.attention_peak = capture.attention_peak.data() + row;
  in.context_tokens = capture.tokens;
  in.first_token = first;
  if (selection == nullptr) return in;
  in.row_classes = selection->classes.data() + row;
  if (selection->weights.empty() || tensor == KvTensor::kValue) return in;  // weights travel with the keys
  const float* weights = selection->weights.data() + 2 * row;
  if (std::any_of(weights, weights + 2 * frame_tokens, [](float w) { return w != 1; })) in.row_weights = weights;
  return in;
}

Result<uint64_t> FrameJob::Run(uint32_t layer, uint32_t head, KvTensor tensor, uint32_t first, StoredLayer& to) {
  const uint32_t dim = capture.layout.dim(tensor);
  const FrameShape shape{1, frame_tokens, dim, capture.layout.element};
  if (Result<bool> fits = codec.Check(tensor, shape); !fits.ok()) return fits.error();
  const FrameInputs inputs = Inputs(layer, head, tensor, first);
  if (Result<bool> brought = codec.CheckInputs(tensor, inputs); !brought.ok()) return brought.error();
  dense.resize(shape.bytes());
  const std::span<const float> from = rows.Of(layer, head, tensor).subspan(uint64_t{first} * dim, shape.elements());
  for (size_t i = 0; i < from.size(); ++i) {
    StoreElement(shape.element, from[i], reinterpret_cast<uint8_t*>(dense.data()) + 2 * i);
  }
  frame.resize(codec.MaxFrameBytes(tensor, shape));
  uint64_t bytes = codec.Encode(tensor, shape, dense, frame, scratch, Destination::kCache, inputs);
  if (planes > 0) bytes = std::min(bytes, codec.PlaneEnd(tensor, shape, planes - 1));
  const std::span<const std::byte> encoded = std::span(frame).first(bytes);
  std::vector<std::byte>& into = tensor == KvTensor::kKey ? to.keys : to.values;
  StoredRows stored;
  if (codec.drops()) {
    Result<StoredRows> held = codec.Rows(tensor, shape, encoded);
    if (!held.ok()) return held.error();
    stored = std::move(*held);
    dense.resize(stored.slots.size() * dim * ElementBytes(shape.element));
    if (Result<bool> read = codec.DecodeRows(tensor, shape, encoded, dense, scratch); !read.ok()) return read.error();
  } else {
    if (Result<bool> read = codec.Decode(tensor, shape, encoded, dense, scratch); !read.ok()) return read.error();
    for (uint32_t slot = 0; slot < frame_tokens; ++slot) stored.slots.push_back(slot);
  }
  into.insert(into.end(), dense.begin(), dense.end());
  if (tensor == KvTensor::kValue) return bytes;
  for (const uint32_t slot : stored.slots) to.tokens.push_back(first + slot);
  if (stored.weights.empty()) stored.weights.assign(2 * stored.slots.size(), 1.0f);
  to.weights.insert(to.weights.end(), stored.weights.begin(), stored.weights.end());
  return bytes;
}

/// `logits` become the weights of a softmax times {numerator weights} over {denominator weights}.
struct HeadRows {
  std::vector<float> keys, values, weights;
};

void Output(std::span<const float> q, const HeadRows& rows, uint32_t dim, std::vector<double>& out) {
  const size_t n = rows.keys.size() / dim;
  std::vector<double> e(n);
  double greatest = -1e300, all = 0;
  for (size_t t = 0; t < n; ++t) {
    double dot = 0;
    for (size_t c = 0; c < dim; ++c) dot += double{q[c]} * rows.keys[t * dim + c];
    e[t] = dot / std::sqrt(double{1} * dim);
    greatest = std::max(greatest, e[t]);
  }
  out.assign(dim, 0.0);
  for (size_t t = 0; t < n; ++t) {
    e[t] = std::exp(e[t] - greatest);
    all += e[t] * rows.weights[2 * t];
    const double weight = e[t] * rows.weights[2 * t + 1];
    for (size_t c = 0; c < dim; ++c) out[c] += weight * rows.values[t * dim + c];
  }
  for (double& x : out) x = all > 0 ? x / all : 0;
}

HeadRows RowsOf(const StoredChain& stored, uint32_t layer, uint32_t head) {
  const StoredLayer& from = stored.layers[layer];
  const size_t begin = from.cu_lengths[head], end = from.cu_lengths[head + 1];
  HeadRows rows;
  for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
    const size_t dim = stored.layout.dim(tensor);
    const std::vector<std::byte>& bytes = tensor == KvTensor::kKey ? from.keys : from.values;
    std::vector<float>& to = tensor == KvTensor::kKey ? rows.keys : rows.values;
    for (size_t i = begin * dim; i < end * dim; ++i) {
      to.push_back(LoadElement(stored.layout.element, reinterpret_cast<const uint8_t*>(bytes.data()) + 2 * i));
    }
  }
  for (size_t row = 2 * begin; row < 2 * end; ++row)
    rows.weights.push_back(from.weights.empty() ? 1 : from.weights[row]);
  return rows;
}

}  // namespace

double StoredChain::kept() const {
  double rows = 0;
  for (const StoredLayer& layer : layers) rows += layer.cu_lengths.back();
  return rows / (double{1} * layout.layers * layout.kv_heads * tokens);
}

model::RaggedKv StoredChain::Ragged(std::vector<model::RaggedLayer>& views) const {
  views.clear();
  for (const StoredLayer& layer : layers) views.push_back({layer.cu_lengths, layer.keys, layer.values, layer.weights});
  return {layout, 0, layout.kv_heads, tokens, views};
}

Result<StoredChain> StoreChain(const Codec& codec, const Capture& capture, uint32_t planes, uint32_t frame_tokens) {
  StoredChain stored;
  stored.layout = capture.layout;
  stored.tokens = capture.tokens;
  CapturedRows rows = capture.rows;
  const bool selects = codec.selection() != nullptr && codec.selection()->selects();
  if (selects) {
    Result<Selection> chosen =
        Select(*codec.selection(), capture.layout, capture.tokens, capture.Inputs(*codec.selection()), rows);
    if (!chosen.ok()) return chosen.error();
    stored.selection = std::move(*chosen);
  }
  FrameJob job{codec, capture, rows, selects ? &stored.selection : nullptr, planes, frame_tokens, {}, {}, {}};
  for (uint32_t layer = 0; layer < capture.layout.layers; ++layer) {
    StoredLayer& to = stored.layers.emplace_back();
    for (uint32_t head = 0; head < capture.layout.kv_heads; ++head) {
      for (uint32_t first = 0; first < capture.tokens; first += frame_tokens) {
        for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
          const Result<uint64_t> bytes = job.Run(layer, head, tensor, first, to);
          if (!bytes.ok()) return bytes.error();
          stored.bytes += *bytes;
          stored.values += uint64_t{frame_tokens} * capture.layout.dim(tensor);
        }
      }
      to.cu_lengths.push_back(static_cast<uint32_t>(to.tokens.size()));
    }
    if (std::all_of(to.weights.begin(), to.weights.end(), [](float w) { return w == 1; })) to.weights.clear();
  }
  return stored;
}

double AttentionError(const Capture& capture, const StoredChain& stored, uint32_t queries) {
  const uint32_t heads = capture.layout.kv_heads, dim = capture.layout.key_dim, group = capture.query_heads / heads;
  double error = 0, size = 0;
  std::vector<double> truth, got;
  for (uint32_t layer = 0; layer < capture.layout.layers; ++layer) {
    for (uint32_t head = 0; head < heads; ++head) {
      HeadRows exact;
      const auto keys = capture.rows.Of(layer, head, KvTensor::kKey);
      const auto values = capture.rows.Of(layer, head, KvTensor::kValue);
      exact.keys.assign(keys.begin(), keys.end());
      exact.values.assign(values.begin(), values.end());
      exact.weights.assign(2 * uint64_t{capture.tokens}, 1.0f);
      const HeadRows held = RowsOf(stored, layer, head);
      for (uint64_t member = 0; member < group; ++member) {
        const uint64_t query_head = (uint64_t{layer} * heads + head) * group + member;
        for (uint64_t t = capture.tokens - queries; t < capture.tokens; ++t) {
          const auto q = std::span(capture.queries).subspan((query_head * capture.tokens + t) * dim, dim);
          Output(q, exact, dim, truth);
          Output(q, held, dim, got);
          for (uint32_t c = 0; c < dim; ++c) {
            error += (got[c] - truth[c]) * (got[c] - truth[c]);
            size += truth[c] * truth[c];
          }
        }
      }
    }
  }
  return std::sqrt(error / size);
}

}  // namespace kvasir::quality
