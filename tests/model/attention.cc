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

}  // namespace

void StoreRow(const RankKv& kv, const RowAddress& at, const float* row) {
  std::byte* to = Address(kv, at);
  const uint32_t dim = kv.cache->layout.dim(at.tensor);
  if (kv.cache->layout.element == ElementType::kFloat32) {
    std::memcpy(to, row, dim * sizeof(float));
    return;
  }
  const ElementType element = kv.cache->layout.element;
  for (uint32_t i = 0; i < dim; ++i) {
    StoreElement(element, row[i], reinterpret_cast<uint8_t*>(to) + i * ElementBytes(element));
  }
}

void LoadRow(const RankKv& kv, const RowAddress& at, float* row) {
  const std::byte* from = Address(kv, at);
  const uint32_t dim = kv.cache->layout.dim(at.tensor);
  if (kv.cache->layout.element == ElementType::kFloat32) {
    std::memcpy(row, from, dim * sizeof(float));
    return;
  }
  if (kv.cache->layout.element == ElementType::kBfloat16) {  // the usual one, apart: this loop becomes vector code
    for (uint32_t i = 0; i < dim; ++i) {
      uint16_t code;
      std::memcpy(&code, from + i * sizeof code, sizeof code);
      row[i] = BFloat16ToFloat(code);
    }
    return;
  }
  const ElementType element = kv.cache->layout.element;
  for (uint32_t i = 0; i < dim; ++i) {
    row[i] = LoadElement(element, reinterpret_cast<const uint8_t*>(from) + i * ElementBytes(element));
  }
}

void UnpackHead(const RankKv& kv, uint32_t layer, uint32_t head, size_t begin, size_t end, const HeadPanels& to) {
  const size_t dim = kv.cache->layout.key_dim;
  std::vector<float> row(dim);
  for (size_t position = begin; position < end; ++position) {
    LoadRow(kv, {layer, KvTensor::kKey, head, position}, row.data());
    float* column = to.keys + position / kPanel * kPanel * dim + position % kPanel;
    for (size_t i = 0; i < dim; ++i) column[i * kPanel] = row[i];
    LoadRow(kv, {layer, KvTensor::kValue, head, position}, to.values + position * dim);
  }
  for (size_t position = end; position % kPanel != 0; ++position) {
    float* column = to.keys + position / kPanel * kPanel * dim + position % kPanel;
    for (size_t i = 0; i < dim; ++i) column[i * kPanel] = 0;
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
