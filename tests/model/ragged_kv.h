// SPDX-License-Identifier: Apache-2.0
// RaggedKv: what is left of a context where each head keeps rows of its own: K and V of tokens that were not dropped.
// Data only; borrows all memory.
//
// One array a layer, head after head, the rows of a head in the order of their tokens (the flattened layout of Ada-KV,
// arXiv 2407.11550, as variable-length attention kernels take it):
//   keys    | head 0, row 0 | head 0, row 1 | ... | head 1, row 0 | ...     cu_lengths = {0, n_0, n_0 + n_1, ...}
// A row stands for its token at the token's own position: keys are rotated already. With weights it stands for several:
//   out = sum w_num e^s v / sum w_den e^s,  s = q . k / sqrt(dim), over the rows of the head and then over what follows
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kv_layout.h"

namespace kvasir::model {

/// The rows of one layer.
struct RaggedLayer {
  std::span<const uint32_t> cu_lengths;  ///< [heads + 1], ascending from 0
  std::span<const std::byte> keys;       ///< [cu_lengths[heads]][key_dim] elements
  std::span<const std::byte> values;     ///< [cu_lengths[heads]][value_dim] elements
  std::span<const float> weights;        ///< [cu_lengths[heads]][2]: {denominator, numerator}; empty = all 1
};

/// KV heads [first_head, first_head + heads) of all layers: one rank's share of a context.
struct RaggedKv {
  KvLayout layout;  ///< of the whole model
  uint32_t first_head = 0;
  uint32_t heads = 0;
  uint32_t tokens = 0;  ///< the rows stand for positions [0, tokens)
  std::span<const RaggedLayer> layers;
};

}  // namespace kvasir::model
