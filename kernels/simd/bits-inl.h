// SPDX-License-Identifier: Apache-2.0
// Vector twins of p_bits.h: rows whose count is a multiple of 32, one byte a code in, packed bits out, and back.
#if defined(KVASIR_SIMD_BITS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVASIR_SIMD_BITS_INL_H_
#undef KVASIR_SIMD_BITS_INL_H_
#else
#define KVASIR_SIMD_BITS_INL_H_
#endif

#include <cstring>

#include "hwy/highway.h"

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Lanes8 = hn::CappedTag<uint8_t, 32>;
using Lanes8By2 = hn::RepartitionToWide<Lanes8>;     // u16
using Lanes8By4 = hn::RepartitionToWide<Lanes8By2>;  // u32
using Vec8 = hn::VFromD<Lanes8>;

/// Two codes of 4 bits a byte.
HWY_INLINE void PackNibbles(Vec8 codes, uint8_t* out) {
  const Lanes8By2 d;
  const auto pairs = hn::BitCast(d, codes);
  const hn::Rebind<uint8_t, Lanes8By2> half;
  const auto joined = hn::And(hn::Or(pairs, hn::ShiftRight<4>(pairs)), hn::Set(d, 0xFF));
  hn::StoreU(hn::TruncateTo(half, joined), half, out);
}

HWY_INLINE Vec8 UnpackNibbles(const uint8_t* in) {
  const Lanes8By2 d;
  const auto bytes = hn::PromoteTo(d, hn::LoadU(hn::Rebind<uint8_t, Lanes8By2>(), in));
  return hn::BitCast(Lanes8(), hn::And(hn::Or(bytes, hn::ShiftLeft<4>(bytes)), hn::Set(d, 0x0F0F)));
}

/// Four codes of 2 bits a byte; higher bits of the codes must be zero.
HWY_INLINE void PackPairsOfBits(Vec8 codes, uint8_t* out) {
  const Lanes8By4 d;
  const hn::Rebind<uint8_t, Lanes8By4> quarter;
  auto x = hn::BitCast(d, codes);
  x = hn::Or(x, hn::ShiftRight<6>(x));
  x = hn::And(hn::Or(x, hn::ShiftRight<12>(x)), hn::Set(d, 0xFF));
  hn::StoreU(hn::TruncateTo(quarter, x), quarter, out);
}

HWY_INLINE Vec8 UnpackPairsOfBits(const uint8_t* in) {
  const Lanes8By4 d;
  auto x = hn::PromoteTo(d, hn::LoadU(hn::Rebind<uint8_t, Lanes8By4>(), in));
  x = hn::And(hn::Or(x, hn::ShiftLeft<12>(x)), hn::Set(d, 0x000F000F));
  x = hn::And(hn::Or(x, hn::ShiftLeft<6>(x)), hn::Set(d, 0x03030303));
  return hn::BitCast(Lanes8(), x);
}

/// One bit a code: bit 2 of each.
HWY_INLINE void PackHighBits(Vec8 codes, uint8_t* out) {
  uint8_t bits[8];
  const size_t bytes = hn::StoreMaskBits(Lanes8(), hn::TestBit(codes, hn::Set(Lanes8(), 4)), bits);
  std::memcpy(out, bits, bytes);
}

HWY_INLINE Vec8 UnpackHighBits(const uint8_t* in) {
  uint8_t bits[8] = {};
  std::memcpy(bits, in, hn::Lanes(Lanes8()) / 8);
  return hn::IfThenElseZero(hn::LoadMaskBits(Lanes8(), bits), hn::Set(Lanes8(), 4));
}

template <uint32_t kBits>
HWY_INLINE void PackRowSimd(const uint8_t* codes, uint32_t count, uint8_t* row) {
  const Lanes8 d;
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(d));
  for (uint32_t i = 0; i < count; i += n) {
    const Vec8 c = hn::LoadU(d, codes + i);
    if constexpr (kBits == 8) hn::StoreU(c, d, row + i);
    if constexpr (kBits == 4) PackNibbles(c, row + i / 2);
    if constexpr (kBits == 2) PackPairsOfBits(c, row + i / 4);
    if constexpr (kBits == 3) {
      PackPairsOfBits(hn::And(c, hn::Set(d, 3)), row + i / 4);
      PackHighBits(c, row + count / 4 + i / 8);
    }
  }
}

template <uint32_t kBits>
HWY_INLINE void UnpackRowSimd(const uint8_t* row, uint32_t count, uint8_t* codes) {
  const Lanes8 d;
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(d));
  for (uint32_t i = 0; i < count; i += n) {
    if constexpr (kBits == 4) hn::StoreU(UnpackNibbles(row + i / 2), d, codes + i);
    if constexpr (kBits == 2) hn::StoreU(UnpackPairsOfBits(row + i / 4), d, codes + i);
    if constexpr (kBits == 3) {
      hn::StoreU(hn::Or(UnpackPairsOfBits(row + i / 4), UnpackHighBits(row + count / 4 + i / 8)), d, codes + i);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();
#endif  // not HWY_SCALAR
#endif  // guard
