// SPDX-License-Identifier: Apache-2.0
// Causal attention of one head over paged K and V: pages to panels, then query rows against panels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/model/lm_math.h"
#include "tests/model/paged_kv.h"

namespace kvasir::model {

/// One head's K and V at positions [0, tokens), as the arithmetic wants them.
struct HeadPanels {
  float* keys = nullptr;    ///< [RoundUp(tokens, kPanel) / kPanel][dim][kPanel]; past the last token: anything
  float* values = nullptr;  ///< [tokens][dim]
};

/// One row (a head of one layer at one position) to or from a page; rounds to the cache's element type.
struct RowAddress {
  uint32_t layer = 0;
  KvTensor tensor = KvTensor::kKey;
  uint32_t head = 0;
  size_t position = 0;
};
void StoreRow(const RankKv& kv, const RowAddress& at, const float* row);
void LoadRow(const RankKv& kv, const RowAddress& at, float* row);

/// Fills positions [begin, end) of the panels of one head.
void UnpackHead(const RankKv& kv, uint32_t layer, uint32_t head, size_t begin, size_t end, const HeadPanels& to);

/// Query rows of one head at consecutive positions.
struct Queries {
  const float* q = nullptr;  ///< rows of `dim` floats, rotated and scaled
  size_t q_stride = 0;
  size_t rows = 0;
  size_t first_position = 0;  ///< row r sees keys 0 .. first_position + r
  size_t dim = 0;
  float* out = nullptr;  ///< rows of `dim` floats
  size_t out_stride = 0;
};

/// out[r] = softmax(q[r] . keys) . values, over keys in position order, whatever rows are computed together.
/// `scores`: scratch of rows * RoundUp(first_position + rows, kPanel) floats.
void Attend(const Math& math, const Queries& queries, const HeadPanels& panels, float* scores);

}  // namespace kvasir::model
