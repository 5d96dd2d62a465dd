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
  const uint32_t dim = layout.dim(at.tensor);
  if (layout.element == ElementType::kBfloat16) return WidenBFloat16(from, dim, row);
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(from);
  for (uint32_t i = 0; i < dim; ++i) row[i] = LoadElement(layout.element, bytes + i * ElementBytes(layout.element));
}

void UnpackHead(const RankKv& kv, uint32_t layer, uint32_t head, size_t begin, size_t end, const HeadPanels& to) {
  const size_t dim = kv.cache->layout.key_dim;
  for (size_t position = begin; position < end; ++position) {
    float* row = to.values + position * dim;  // the key passes through here on its way into its column
    float* column = to.keys + position / kPanel * kPanel * dim + position % kPanel;
    LoadRow(kv, {layer, KvTensor::kKey, head, position}, row);
    for (size_t i = 0; i < dim; ++i) column[i * kPanel] = row[i];
    LoadRow(kv, {layer, KvTensor::kValue, head, position}, row);
  }
}

void Attend(const Math& math, const Queries& queries, const HeadPanels& panels, float* scores) {
  const size_t dim = queries.dim, padded = RoundUp(queries.first_position + queries.rows, kPanel);
  std::fill_n(scores, queries.rows * padded, 0.0f);
  for (size_t key = 0; key < padded; key += kPanel) {
    math.add_products(
        {queries.q, queries.q_stride, panels.keys + key * dim, kPanel, dim, scores + key, padded, queries.rows});
  }

  // Keys that all rows see are taken together; then each row goes on alone with the few that not all see.
  const size_t common = queries.first_position + 1;
  for (size_t column = 0; column < dim; column += kPanel) {
    for (size_t row = 0; row < queries.rows; ++row) {
      std::fill_n(queries.out + row * queries.out_stride + column, kPanel, 0.0f);
    }
  }
  std::vector<float> sums(queries.rows);
  for (size_t row = 0; row < queries.rows; ++row) sums[row] = math.softmax(scores + row * padded, common + row);
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
