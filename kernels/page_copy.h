// SPDX-License-Identifier: Apache-2.0
// Gather and scatter between an engine's pages and dense [heads][tokens][dim] elements, on the CPU.
#pragma once

#include "kernels/paged_cache.h"

namespace kvasir {

/// One frame's rectangle in the pages.
struct PageRectangle {
  const PagedCache* cache = nullptr;
  PageTable pages;
  uint32_t layer = 0;
  KvTensor tensor = KvTensor::kKey;
  uint32_t first_head = 0, heads = 0;
  uint32_t first_token = 0, tokens = 0;  ///< multiples of cache->page_tokens
};

/// REQUIRES: CheckJob passed for a job that covers the rectangle. `dense` has heads * tokens * dim elements.
void GatherPages(const PageRectangle& rectangle, std::byte* dense);
void ScatterPages(const PageRectangle& rectangle, const std::byte* dense);

}  // namespace kvasir
