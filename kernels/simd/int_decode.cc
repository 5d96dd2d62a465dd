// SPDX-License-Identifier: Apache-2.0
// Q:int | P:bits, frames to elements in SIMD: see int_encode.cc. A tile's parameters become float once; codes become
// elements two at a time in a 32-bit lane.
#include "kernels/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/int_decode.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/simd/bodies.h"
#include "kernels/simd/formats-inl.h"
#include "kernels/simd/int_decode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

// One lane cannot hold a pair: the reference is the body for a CPU this old.
bool DecodeAny(const IntFrame&, const uint8_t*, uint8_t*, std::vector<std::byte>&, Destination) { return false; }

#else

template <class Pairs, bool kStream>
void DecodeFrame(const IntFrame& f, const uint8_t* frame, uint8_t* dense, std::vector<std::byte>& scratch) {
  ForEachTile(f, scratch, 0, [&](const IntTile& t, uint64_t at) {
    WithIntBits(f, [&]<uint32_t kBits>() { DecodeTile<Pairs, kBits, kStream>(f, frame, t, dense + 2 * at); });
  });
}

template <class Pairs>
void DecodeTo(const IntFrame& f, const uint8_t* frame, uint8_t* dense, std::vector<std::byte>& scratch,
              Destination destination) {
  const bool aligned = reinterpret_cast<uintptr_t>(dense) % 64 == 0;  // and so are the rows: multiples of 64 bytes
  destination == Destination::kMemory&& aligned ? DecodeFrame<Pairs, true>(f, frame, dense, scratch)
                                                : DecodeFrame<Pairs, false>(f, frame, dense, scratch);
}

bool DecodeAny(const IntFrame& as_given, const uint8_t* frame, uint8_t* dense, std::vector<std::byte>& scratch,
               Destination destination) {
  const IntFrame f = OneGroupARow(as_given);
  if (f.shape.element == ElementType::kFloat16) {
    DecodeTo<Fp16Pairs>(f, frame, dense, scratch, destination);
#if KVASIR_SIMD_BF16_BY_CPU
  } else if (CpuRoundsToBf16()) {
    DecodeTo<Bf16PairsByCpu>(f, frame, dense, scratch, destination);
#endif
  } else {
    DecodeTo<Bf16Pairs>(f, frame, dense, scratch, destination);
  }
  hwy::FlushStream();
  return true;
}

#endif  // HWY_SCALAR
}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvasir::simd {

HWY_EXPORT(DecodeAny);

bool DecodeIntFrame(const IntFrame& f, const uint8_t* frame, uint8_t* dense, std::vector<std::byte>& scratch,
                    Destination destination) {
  return HasIntBody(f) && HWY_DYNAMIC_DISPATCH(DecodeAny)(f, frame, dense, scratch, destination);
}

}  // namespace kvasir::simd
#endif
