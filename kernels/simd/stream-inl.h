// SPDX-License-Identifier: Apache-2.0
// A copy whose destination is written past the caches.
#if defined(KVASIR_SIMD_STREAM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVASIR_SIMD_STREAM_INL_H_
#undef KVASIR_SIMD_STREAM_INL_H_
#else
#define KVASIR_SIMD_STREAM_INL_H_
#endif

#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {

/// Whole cache lines of `to` are streamed, the ends before and after them are copied. A fence must follow some time.
HWY_INLINE void StreamCopy(const uint8_t* from, uint8_t* to, uint64_t bytes) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<uint8_t> d;
  const uint64_t n = hn::Lanes(d);
  const uint64_t head = (64 - reinterpret_cast<uintptr_t>(to) % 64) % 64;
  if (bytes < head + 64) {
    std::memcpy(to, from, bytes);
    return;
  }
  std::memcpy(to, from, head);
  uint64_t i = head;
  for (; i + 64 <= bytes; i += 64) {
    for (uint64_t j = 0; j < 64; j += n) hn::Stream(hn::LoadU(d, from + i + j), d, to + i + j);
  }
  std::memcpy(to + i, from + i, bytes - i);
}

}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();
#endif  // guard
