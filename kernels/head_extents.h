// SPDX-License-Identifier: Apache-2.0
// HeadExtents: where an engine wants rows of heads that differ in length, one behind the other. Data only.
//
// One array a layer, head after head, the rows of a head by position (the flattened layout of Ada-KV: Optimizing KV
// Cache Eviction by Adaptive Budget Allocation, arXiv 2407.11550, as variable-length attention kernels take it):
//   keys | head 0, row 0 | head 0, row 1 | ... | head 1, row 0 | ...     cu_lengths = {0, n_0, n_0 + n_1, ...}
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/kv_layout.h"
#include "kernels/paged_cache.h"

namespace kvasir {

/// One layer: memory of the engine.
struct ExtentLayer {
  uint32_t* cu_lengths = nullptr;  ///< [heads + 1], ascending from 0
  std::byte* keys = nullptr;       ///< [rows_max][key_dim] elements
  std::byte* values = nullptr;     ///< [rows_max][value_dim] elements; null in a latent layout
  uint32_t* positions = nullptr;   ///< [rows_max]: the token that each row is, ascending in a head
  float* weights = nullptr;  ///< [rows_max][2]: {in the sum of exponentials, in the sum of values}; null: rows that
                             ///< do not weigh 1 are refused
};

/// Layers [first_layer, first_layer + layers.size()) and KV heads [first_head, first_head + heads) of a model. Does not
/// own the memory: the engine keeps it valid until every job that names it has completed.
struct HeadExtents {
  KvLayout layout;  ///< of the whole model
  uint32_t first_layer = 0;
  uint32_t first_head = 0;
  uint32_t heads = 0;
  uint64_t rows_max = 0;  ///< room of each layer, its heads together
  std::vector<ExtentLayer> layers;
  MemoryKind memory = MemoryKind::kHost;
};

/// The rows of some layers and heads of one part, decoded: layer after layer, head after head, ascending positions.
struct PartRows {
  uint32_t first_layer = 0, layers = 0;
  uint32_t first_head = 0, heads = 0;
  std::vector<uint32_t> counts;         ///< [layers][heads]
  std::vector<uint32_t> positions;      ///< [rows], in the sequence
  std::vector<std::byte> keys, values;  ///< [rows][dim]
  std::vector<float> weights;           ///< [rows][2]
};

}  // namespace kvasir
