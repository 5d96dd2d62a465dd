// SPDX-License-Identifier: Apache-2.0
// Causal attention of one head over paged or ragged K and V: rows to panels, then query rows against panels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/model/lm_math.h"
#include "tests/model/paged_kv.h"
#include "tests/model/ragged_kv.h"

namespace kvasir::model {

/// One head's K and V, a row a token in the order of positions, as the arithmetic wants them.
struct HeadPanels {
  float* keys = nullptr;     ///< [RoundUp(rows, kPanel) / kPanel][dim][kPanel]; past the last row: anything
  float* values = nullptr;   ///< [rows][dim]
  float* weights = nullptr;  ///< [rows][2] as RaggedLayer::weights; null = all 1
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

/// Positions of pages that become rows of panels: position `begin` row `row`, and so on.
struct RowRange {
  size_t begin = 0, end = 0;
  size_t row = 0;
};
/// Fills the rows of one head from the pages.
void UnpackHead(const RankKv& kv, uint32_t layer, uint32_t head, const RowRange& range, const HeadPanels& to);
/// Fills the first rows of one head (its weights too, where the panels have room for them). Returns how many.
size_t UnpackHead(const RaggedKv& kv, uint32_t layer, uint32_t head, const HeadPanels& to);
/// Rows of one head of a ragged context.
size_t RowsOf(const RaggedKv& kv, uint32_t layer, uint32_t head);

/// Query rows of one head at consecutive positions.
struct Queries {
  const float* q = nullptr;  ///< rows of `dim` floats, rotated and scaled
  size_t q_stride = 0;
  size_t rows = 0;
  size_t first_position = 0;  ///< row r sees rows 0 .. first_position + r of the panels
  size_t dim = 0;
  float* out = nullptr;  ///< rows of `dim` floats
  size_t out_stride = 0;
};

/// scores[r][i] = q[r] . key i, rows of RoundUp(first_position + rows, kPanel) floats: all keys, seen or not.
void Score(const Math& math, const Queries& queries, const HeadPanels& panels, float* scores);
/// out[r] = softmax(q[r] . keys) . values, over keys in position order, whatever rows are computed together.
/// `scores`: scratch as Score fills it.
void Attend(const Math& math, const Queries& queries, const HeadPanels& panels, float* scores);

}  // namespace kvasir::model
