// SPDX-License-Identifier: Apache-2.0
// Gather and scatter: one memcpy for a head's tokens of a page where they lie together (HND), else one a token (NHD).
#include "kernels/page_copy.h"

#include <cstring>

#include "kernels/simd/bodies.h"

namespace kvasir {
namespace {

constexpr uint64_t kStreamedRunBytes = 256;  // shorter runs are dearer past the caches than through them

/// Calls copy(bytes in the page, offset in dense, length) for each run of bytes that is contiguous in both.
template <class Copy>
void ForEachRun(const PageRectangle& r, Copy copy) {
  const PagedCache& cache = *r.cache;
  const uint64_t row = uint64_t{cache.layout.dim(r.tensor)} * ElementBytes(cache.layout.element);
  const PageStrides& strides = r.tensor == KvTensor::kKey ? cache.key_strides : cache.value_strides;
  const uint32_t page_tokens = cache.page_tokens;
  const bool together = strides.token == static_cast<int64_t>(row);
  uint64_t at = 0;
  for (uint32_t head = r.first_head; head < r.first_head + r.heads; ++head) {
    for (uint32_t token = 0; token < r.tokens; token += page_tokens) {
      std::byte* run = cache.At(r.layer, r.tensor, r.pages[(r.first_token + token) / page_tokens], head, 0);
      if (together) {
        copy(run, at, row * page_tokens);
        at += row * page_tokens;
        continue;
      }
      for (uint32_t i = 0; i < page_tokens; ++i, at += row) copy(run + int64_t{i} * strides.token, at, row);
    }
  }
}

}  // namespace

void GatherPages(const PageRectangle& rectangle, std::byte* dense) {
  ForEachRun(rectangle,
             [dense](const std::byte* run, uint64_t at, uint64_t bytes) { std::memcpy(dense + at, run, bytes); });
}

void ScatterPages(const PageRectangle& rectangle, const std::byte* dense) {
  // The engine's pages are not read here again, and each run is whole cache lines where the engine aligns its rows.
  ForEachRun(rectangle, [dense](std::byte* run, uint64_t at, uint64_t bytes) {
    simd::Copy(reinterpret_cast<const uint8_t*>(dense) + at, reinterpret_cast<uint8_t*>(run), bytes,
               bytes >= kStreamedRunBytes ? Destination::kMemory : Destination::kCache);
  });
  simd::Fence();
}

}  // namespace kvasir
