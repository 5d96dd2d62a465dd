// SPDX-License-Identifier: Apache-2.0
// What encode and decode of Q:int share for each target: the walk over tiles, and the order of their parameters.
#if defined(KVASIR_SIMD_INT_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVASIR_SIMD_INT_TILE_INL_H_
#undef KVASIR_SIMD_INT_TILE_INL_H_
#else
#define KVASIR_SIMD_INT_TILE_INL_H_
#endif

#include "kernels/simd/formats-inl.h"
#include "kernels/simd/int_tile.h"

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {

/// Where parameter `i` of a tile stands in the arrays that have even ones before odd ones.
HWY_INLINE uint32_t Shuffled(uint32_t i) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16()));
  return i / n * n + (i & 1) * (n / 2) + i % n / 2;
}

/// Calls body(tile, byte offset of its elements) for each tile of a frame.
template <class Do>
HWY_INLINE void ForEachTile(const IntFrame& f, std::vector<std::byte>& scratch, Do body) {
  IntTile t = MakeTile(f, scratch);
  for (uint32_t head = 0; head < f.shape.heads; ++head) {
    for (uint32_t token = 0; token < f.shape.tokens; token += TileRows(f)) {
      PlaceTile(f, head, token, t);
      body(t, 2 * (uint64_t{head} * f.shape.tokens + token) * f.shape.dim);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();
#endif  // not HWY_SCALAR
#endif  // guard
