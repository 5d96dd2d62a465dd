// SPDX-License-Identifier: Apache-2.0
// PagedCache: where an engine keeps KV. Data only: pointers and strides; NHD, HND, fused or split K/V are all strides.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/kv_layout.h"

namespace kvasir {

/// Where bytes live. Values travel in messages: never renumber.
enum class MemoryKind : uint8_t { kHost = 0, kCuda = 1 };

/// Strides of one tensor (K or V) in bytes; each may be negative. The head_dim axis is always dense.
struct PageStrides {
  int64_t page = 0;
  int64_t head = 0;
  int64_t token = 0;
};

/// One layer: where page 0, head 0, token 0 of K and V begin. `value` is null in a latent layout.
struct PagedLayer {
  std::byte* key = nullptr;
  std::byte* value = nullptr;
};

/// The pages one worker owns. It holds layers [first_layer, first_layer + layers.size()) and KV heads
/// [first_head, first_head + heads) of the model; a tensor-parallel rank sets first_head. Does not own the memory: the
/// engine keeps it valid until every job that names it has completed.
struct PagedCache {
  KvLayout layout;  ///< of the whole model
  uint32_t first_layer = 0;
  uint32_t first_head = 0;
  uint32_t heads = 0;
  uint32_t page_tokens = 0;  ///< divides the store's block_tokens
  std::vector<PagedLayer> layers;
  PageStrides key_strides;
  PageStrides value_strides;
  MemoryKind memory = MemoryKind::kHost;
  int device = 0;

  std::byte* At(uint32_t layer, KvTensor tensor, uint32_t page_id, uint32_t head, uint32_t token_in_page) const {
    const PagedLayer& l = layers[layer - first_layer];
    const PageStrides& s = tensor == KvTensor::kKey ? key_strides : value_strides;
    return (tensor == KvTensor::kKey ? l.key : l.value) + int64_t{page_id} * s.page +
           int64_t{head - first_head} * s.head + int64_t{token_in_page} * s.token;
  }
};

/// Page ids of one sequence: pages[i] holds tokens [i * page_tokens, (i + 1) * page_tokens). Any order, repeats allowed
/// only for reading.
using PageTable = std::span<const uint32_t>;

}  // namespace kvasir
