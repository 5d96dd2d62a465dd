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

/// Calls body(tile, index of its first element) for each tile of a frame; a tile has `room` bytes of its own beside.
template <class Do>
HWY_INLINE void ForEachTile(const IntFrame& f, std::vector<std::byte>& scratch, uint64_t room, Do body) {
  IntTile t = MakeTile(f, scratch, room);
  for (uint32_t head = 0; head < f.shape.heads; ++head) {
    for (uint32_t token = 0; token < f.shape.tokens; token += TileRows(f)) {
      PlaceTile(f, head, token, t);
      body(t, (uint64_t{head} * f.shape.tokens + token) * f.shape.dim);
    }
  }
}

/// use.template operator()<kBits>().
template <class Use>
HWY_INLINE void WithIntBits(const IntFrame& f, const Use& use) {
  switch (f.spec.bits) {
    case 8:
      return use.template operator()<8>();
    case 4:
      return use.template operator()<4>();
    case 3:
      return use.template operator()<3>();
    default:
      return use.template operator()<2>();
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();
#endif  // not HWY_SCALAR
#endif  // guard
