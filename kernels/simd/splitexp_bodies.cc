// SPDX-License-Identifier: Apache-2.0
// P:splitexp of bf16 in SIMD, full chunks only: the same bits as p_splitexp.h. And the copy past the caches.
#include "kernels/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/splitexp_bodies.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/simd/bits-inl.h"
#include "kernels/simd/bodies.h"
#include "kernels/simd/stream-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

bool EncodeChunk(const uint8_t*, uint8_t*, uint8_t*, SplitChunk&, Destination) { return false; }
bool DecodeChunk(const uint8_t*, const uint8_t*, const SplitChunk&, uint8_t*, Destination) { return false; }

#else

using LanesFull8 = hn::ScalableTag<uint8_t>;
using LanesFull16 = hn::RepartitionToWide<LanesFull8>;
using VecFull8 = hn::VFromD<LanesFull8>;
using VecFull16 = hn::VFromD<LanesFull16>;

HWY_INLINE VecFull16 Load16s(const uint8_t* p) { return hn::BitCast(LanesFull16(), hn::LoadU(LanesFull8(), p)); }
HWY_INLINE VecFull8 U8(uint32_t v) { return hn::Set(LanesFull8(), static_cast<uint8_t>(v)); }

/// The greatest exponent of a chunk: signs do not matter, mantissas only below it.
HWY_INLINE uint32_t GreatestExponent(const uint8_t* in) {
  const LanesFull16 d;
  const size_t n = hn::Lanes(d);
  const VecFull16 magnitude = hn::Set(d, 0x7F80);
  VecFull16 a = hn::Zero(d), b = a;
  for (size_t i = 0; i < kSplitChunk; i += 2 * n) {
    a = hn::Max(a, hn::And(Load16s(in + 2 * i), magnitude));
    b = hn::Max(b, hn::And(Load16s(in + 2 * (i + n)), magnitude));
  }
  return hn::GetLane(hn::MaxOfLanes(d, hn::Max(a, b))) >> 7;
}

HWY_INLINE void Put(VecFull8 v, uint8_t* p, bool stream) {
  stream ? hn::Stream(v, LanesFull8(), p) : hn::StoreU(v, LanesFull8(), p);
}

/// The codes of one vector of values; writes their bytes, lists their escapes.
HWY_INLINE VecFull8 EncodeVector(const uint8_t* in, uint32_t first, uint32_t top, uint8_t* bytes, bool stream,
                                 uint8_t*& tail, uint32_t& escapes) {
  const LanesFull8 d;
  const size_t n = hn::Lanes(d);
  const VecFull8 last = U8(15);
  const VecFull16 a = Load16s(in), b = Load16s(in + n);
  const VecFull8 low = hn::ConcatEven(d, hn::BitCast(d, b), hn::BitCast(d, a));
  const VecFull8 high = hn::ConcatOdd(d, hn::BitCast(d, b), hn::BitCast(d, a));
  Put(hn::OrAnd(hn::And(low, U8(0x7F)), high, U8(0x80)), bytes, stream);
  const VecFull8 exponent = hn::Or(hn::Add(high, high), hn::ShiftRight<7>(low));
  const VecFull8 code = hn::Min(hn::SaturatedSub(U8(top), exponent), last);
  // No exponent is above the top: an escape is at least 15 below it and not zero.
  const auto escape = hn::And(hn::Eq(code, last), hn::Ne(exponent, hn::Zero(d)));
  if (HWY_LIKELY(hn::AllFalse(d, escape))) return code;
  alignas(8) uint8_t bits[8] = {};
  hn::StoreMaskBits(d, escape, bits);
  uint64_t left;
  for (std::memcpy(&left, bits, sizeof left); left != 0; left &= left - 1) {
    const uint32_t j = static_cast<uint32_t>(__builtin_ctzll(left));
    Store16(tail, first + j);
    tail[2] = static_cast<uint8_t>(Load16(in + 2 * j) >> 7);
    tail += kSplitEscapeBytes;
    ++escapes;
  }
  return code;
}

HWY_INLINE hn::VFromD<LanesFull16> Nibbles(VecFull8 codes) {
  const LanesFull16 d16;
  const auto pairs = hn::BitCast(d16, codes);
  return hn::Or(pairs, hn::ShiftRight<4>(pairs));
}

bool EncodeChunk(const uint8_t* in, uint8_t* fixed, uint8_t* tail, SplitChunk& chunk, Destination destination) {
  const LanesFull8 d;
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(d));
  const uint32_t top = GreatestExponent(in);
  const bool stream = destination == Destination::kMemory && reinterpret_cast<uintptr_t>(fixed) % 64 == 0;
  uint32_t escapes = 0;
  for (uint32_t i = 0; i < kSplitChunk; i += 2 * n) {
    const VecFull8 a = EncodeVector(in + 2 * i, i, top, fixed + i, stream, tail, escapes);
    const VecFull8 b = EncodeVector(in + 2 * (i + n), i + n, top, fixed + i + n, stream, tail, escapes);
    const VecFull8 codes = hn::ConcatEven(d, hn::BitCast(d, Nibbles(b)), hn::BitCast(d, Nibbles(a)));
    Put(codes, fixed + kSplitChunk + i / 2, stream);
    if (escapes > kSplitFewEscapes) return false;
  }
  chunk = {static_cast<uint8_t>(top), 0, static_cast<uint16_t>(escapes)};
  return true;
}

/// The values whose low and high bytes these are, in order. Interleaving works within 128-bit blocks; the rest orders
/// the blocks.
HWY_INLINE void Interleave(VecFull8 low, VecFull8 high, VecFull8& first, VecFull8& second) {
  const LanesFull8 d;
  const VecFull8 l = hn::InterleaveLower(d, low, high), u = hn::InterleaveUpper(d, low, high);
#if HWY_TARGET == HWY_AVX3
  first = VecFull8{_mm512_permutex2var_epi64(l.raw, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), u.raw)};
  second = VecFull8{_mm512_permutex2var_epi64(l.raw, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), u.raw)};
#elif HWY_TARGET == HWY_AVX2
  first = hn::ConcatLowerLower(d, u, l);
  second = hn::ConcatUpperUpper(d, u, l);
#else
  static_assert(hn::MaxLanes(LanesFull8()) == 16, "one block: a wider target needs its order of blocks here");
  first = l;
  second = u;
#endif
}

bool DecodeChunk(const uint8_t* fixed, const uint8_t* tail, const SplitChunk& chunk, uint8_t* out,
                 Destination destination) {
  const LanesFull8 d;
  const LanesFull16 d16;
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(d));
  // Both halves of the 16 exponents the codes stand for, as they lie in the two bytes of a value.
  alignas(64) uint8_t upper[16], lower[16];
  for (uint32_t c = 0; c < 16; ++c) {
    const uint32_t exponent = WindowExponent(SplitFormat(), chunk.top, c);
    upper[c] = static_cast<uint8_t>(exponent >> 1);
    lower[c] = static_cast<uint8_t>(exponent << 7);
  }
  const VecFull8 uppers = hn::LoadDup128(d, upper), lowers = hn::LoadDup128(d, lower);
  const bool stream = destination == Destination::kMemory && reinterpret_cast<uintptr_t>(out) % 64 == 0;
  const uint8_t* tail_end = tail + kSplitEscapeBytes * chunk.escapes;
  for (uint32_t i = 0; i < kSplitChunk; i += n, out += 2 * n) {
    const auto bytes = hn::PromoteTo(d16, hn::LoadU(hn::Half<LanesFull8>(), fixed + kSplitChunk + i / 2));
    const VecFull8 code = hn::BitCast(d, hn::And(hn::Or(bytes, hn::ShiftLeft<4>(bytes)), hn::Set(d16, 0x0F0F)));
    const VecFull8 rest = hn::LoadU(d, fixed + i);
    VecFull8 up = hn::TableLookupBytes(uppers, code), down = hn::TableLookupBytes(lowers, code);
    // Escapes go in by register: a value patched in memory would hold up the loads behind it.
    for (; tail < tail_end && Load16(tail) < i + n; tail += kSplitEscapeBytes) {
      const auto lane = hn::Eq(hn::Iota(d, 0), U8(Load16(tail) - i));
      up = hn::IfThenElse(lane, U8(tail[2] >> 1), up);
      down = hn::IfThenElse(lane, U8(tail[2] << 7), down);
    }
    VecFull8 first, second;
    Interleave(hn::OrAnd(down, rest, U8(0x7F)), hn::OrAnd(up, rest, U8(0x80)), first, second);
    Put(first, out, stream);
    Put(second, out + n, stream);
  }
  return true;
}

#endif  // HWY_SCALAR

void CopyPastCaches(const uint8_t* from, uint8_t* to, uint64_t bytes) { StreamCopy(from, to, bytes); }

}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvasir::simd {

HWY_EXPORT(EncodeChunk);
HWY_EXPORT(DecodeChunk);
HWY_EXPORT(CopyPastCaches);

std::string TargetName() {
  const int64_t usable = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(usable & -usable);  // a lower bit is a better target
}

void Copy(const uint8_t* from, uint8_t* to, uint64_t bytes, Destination destination) {
  if (destination == Destination::kCache) {
    std::memcpy(to, from, bytes);
  } else {
    HWY_DYNAMIC_DISPATCH(CopyPastCaches)(from, to, bytes);
  }
}

void Fence() { hwy::FlushStream(); }

bool EncodeSplitChunk(const uint8_t* in, uint8_t* fixed, uint8_t* tail, SplitChunk& chunk, Destination destination) {
  return HWY_DYNAMIC_DISPATCH(EncodeChunk)(in, fixed, tail, chunk, destination);
}

bool DecodeSplitChunk(const uint8_t* fixed, const uint8_t* tail, const SplitChunk& chunk, uint8_t* out,
                      Destination destination) {
  return HWY_DYNAMIC_DISPATCH(DecodeChunk)(fixed, tail, chunk, out, destination);
}

}  // namespace kvasir::simd
#endif
