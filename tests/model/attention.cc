// SPDX-License-Identifier: Apache-2.0
// Attention: scores are q times packed keys, the result is scores times values; both by the one add_products.
#include "tests/model/attention.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/number_formats.h"

namespace kvasir::model {
namespace {

std::byte* Address(const RankKv& kv, const RowAddress& at) {
  const uint32_t page_tokens = kv.cache->page_tokens;
  return kv.cache->At(at.layer, at.tensor, kv.pages[at.position / page_tokens], at.head,
                      static_cast<uint32_t>(at.position % page_tokens));
}

/// The usual element type, apart from the others and without overlap, so that the loop becomes vector code.
void WidenBFloat16(const std::byte* __restrict from, uint32_t count, float* __restrict to) {
  for (uint32_t i = 0; i < count; ++i) {
    uint16_t code;
    std::memcpy(&code, from + i * sizeof code, sizeof code);
    to[i] = BFloat16ToFloat(code);
  }
}

void Widen(ElementType type, const std::byte* from, uint32_t count, float* to) {
  if (type == ElementType::kBfloat16) return WidenBFloat16(from, count, to);
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(from);
  for (uint32_t i = 0; i < count; ++i) to[i] = LoadElement(type, bytes + i * ElementBytes(type));
}

/// A key into its column of the panels.
void PlaceKey(const float* key, size_t row, size_t dim, const HeadPanels& to) {
  float* column = to.keys + row / kPanel * kPanel * dim + row % kPanel;
  for (size_t i = 0; i < dim; ++i) column[i * kPanel] = key[i];
}

/// Turns e^s into w_num e^s and returns the sum of w_den e^s, in the lanes and order of Math::softmax: with all weights
/// 1 it returns what that returned.
float Weigh(const float* weights, size_t count, float* exponentials) {
  float lane[kLanes] = {};
  for (size_t i = 0; i < count; ++i) {
    lane[i % kLanes] += weights[2 * i] * exponentials[i];
    exponentials[i] *= weights[2 * i + 1];
  }
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

}  // namespace

void StoreRow(const RankKv& kv, const RowAddress& at, const float* row) {
  uint8_t* to = reinterpret_cast<uint8_t*>(Address(kv, at));
  const KvLayout& layout = kv.cache->layout;
  for (uint32_t i = 0; i < layout.dim(at.tensor); ++i) {
    StoreElement(layout.element, row[i], to + i * ElementBytes(layout.element));
  }
}

void LoadRow(const RankKv& kv, const RowAddress& at, float* row) {
  const std::byte* from = Address(kv, at);
  const KvLayout& layout = kv.cache->layout;
  Widen(layout.element, from, layout.dim(at.tensor), row);
}

void UnpackHead(const RankKv& kv, uint32_t layer, uint32_t head, const RowRange& range, const HeadPanels& to) {
  const size_t dim = kv.cache->layout.key_dim;
  for (size_t position = range.begin; position < range.end; ++position) {
    const size_t row = range.row + (position - range.begin);
    float* value = to.values + row * dim;  // the key passes through here on its way into its column
    LoadRow(kv, {layer, KvTensor::kKey, head, position}, value);
    PlaceKey(value, row, dim, to);
    LoadRow(kv, {layer, KvTensor::kValue, head, position}, value);
  }
}

size_t RowsOf(const RaggedKv& kv, uint32_t layer, uint32_t head) {
  const std::span<const uint32_t> cu_lengths = kv.layers[layer].cu_lengths;
  return cu_lengths[head - kv.first_head + 1] - cu_lengths[head - kv.first_head];
}

size_t UnpackHead(const RaggedKv& kv, uint32_t layer, uint32_t head, const HeadPanels& to) {
  const RaggedLayer& from = kv.layers[layer];
  const size_t dim = kv.layout.key_dim, bytes = dim * ElementBytes(kv.layout.element);
  const size_t first = from.cu_lengths[head - kv.first_head], rows = RowsOf(kv, layer, head);
  for (size_t row = 0; row < rows; ++row) {
    float* value = to.values + row * dim;
    Widen(kv.layout.element, from.keys.data() + (first + row) * bytes, kv.layout.key_dim, value);
    PlaceKey(value, row, dim, to);
    Widen(kv.layout.element, from.values.data() + (first + row) * bytes, kv.layout.value_dim, value);
  }
  if (to.weights != nullptr && !from.weights.empty()) {
    std::copy_n(from.weights.data() + 2 * first, 2 * rows, to.weights);
  }
  return rows;
}

void Score(const Math& math, const Queries& queries, const HeadPanels& panels, float* scores) {
  const size_t padded = RoundUp(queries.first_position + queries.rows, kPanel);
  std::fill_n(scores, queries.rows * padded, 0.0f);
  for (size_t key = 0; key < padded; key += kPanel) {
    math.add_products({queries.q, queries.q_stride, panels.keys + key * queries.dim, kPanel, queries.dim, scores + key,
                       padded, queries.rows});
  }
}

void Attend(const Math& math, const Queries& queries, const HeadPanels& panels, float* scores) {
  const size_t dim = queries.dim, padded = RoundUp(queries.first_position + queries.rows, kPanel);
  Score(math, queries, panels, scores);

  // Keys that all rows see are taken together; then each row goes on alone with the few that not all see.
  const size_t common = queries.first_position + 1;
  for (size_t column = 0; column < dim; column += kPanel) {
    for (size_t row = 0; row < queries.rows; ++row) {
      std::fill_n(queries.out + row * queries.out_stride + column, kPanel, 0.0f);
    }
  }
  std::vector<float> sums(queries.rows);
  for (size_t row = 0; row < queries.rows; ++row) {
    sums[row] = math.softmax(scores + row * padded, common + row);
    if (panels.weights != nullptr) sums[row] = Weigh(panels.weights, common + row, scores + row * padded);
  }
  for (size_t column = 0; column < dim; column += kPanel) {
    float* out = queries.out + column;
    math.add_products({scores, padded, panels.values + column, dim, common, out, queries.out_stride, queries.rows});
    for (size_t row = 1; row < queries.rows; ++row) {
      math.add_products({scores + row * padded + common, padded, panels.values + common * dim + column, dim, row,
                         out + row * queries.out_stride, queries.out_stride, 1});
    }
  }
  for (size_t row = 0; row < queries.rows; ++row) {
    for (size_t i = 0; i < dim; ++i) queries.out[row * queries.out_stride + i] /= sums[row];
  }
}

}  // namespace kvasir::model
