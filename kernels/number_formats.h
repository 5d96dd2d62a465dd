// SPDX-License-Identifier: Apache-2.0
// The number formats of KV caches to and from float, by integer work only: the same bits on every target.
//
//              sign exponent mantissa bias  largest   infinity
//   bfloat16     1      8        7     127  3.39e38   yes
//   float16      1      5       10      15  65504     yes
//   float8 E4M3  1      4        3       7  448       no: 0x7F and 0xFF are NaN (OCP "fn")
//   float8 E5M2  1      5        2      15  57344     yes
//
// To float is exact. From float rounds to nearest, ties to even; too large becomes infinity (E4M3: NaN); NaN stays NaN.
#pragma once

#include <cstdint>

#include "kernels/kv_layout.h"
#include "kernels/portable.h"

namespace kvasir {

namespace detail {

/// A format with `kExponent` and `kMantissa` bits below the sign; `kInfinity` false means E4M3's rule.
template <int kExponent, int kMantissa, bool kInfinity>
struct SmallFloat {
  static constexpr uint32_t kShift = 23 - kMantissa;
  static constexpr uint32_t kRebias = (127u - ((1u << (kExponent - 1)) - 1)) << 23;
  static constexpr uint32_t kSign = 1u << (kExponent + kMantissa);
  static constexpr uint32_t kExponentMask = ((1u << kExponent) - 1) << kMantissa;
  /// The first magnitude that is not finite.
  static constexpr uint32_t kBeyond = kInfinity ? kExponentMask : kSign - 1;

  KVASIR_HD static float ToFloat(uint32_t code) {
    const uint32_t sign = (code & kSign) != 0 ? 0x80000000u : 0;
    const uint32_t magnitude = code & (kSign - 1);
    if (magnitude >= kBeyond) {
      const uint32_t mantissa = (magnitude & ((1u << kMantissa) - 1)) << kShift;
      return FloatOfBits(sign | 0x7F800000u | mantissa);
    }
    if (magnitude >= (1u << kMantissa)) return FloatOfBits(sign | ((magnitude << kShift) + kRebias));
    if (magnitude == 0) return FloatOfBits(sign);
    uint32_t mantissa = magnitude;  // subnormal: shift the leading one into its place
    uint32_t exponent = kRebias + (1u << 23);
    while ((mantissa & (1u << kMantissa)) == 0) {
      mantissa <<= 1;
      exponent -= 1u << 23;
    }
    return FloatOfBits(sign | (exponent + ((mantissa - (1u << kMantissa)) << kShift)));
  }

  KVASIR_HD static uint32_t FromFloat(float value) {
    const uint32_t bits = BitsOfFloat(value);
    const uint32_t sign = (bits >> 31) != 0 ? kSign : 0;
    const uint32_t magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) return sign | NaN(magnitude);
    if (magnitude < kRebias + (1u << 23)) return sign | Subnormal(magnitude);
    uint32_t rounded = magnitude - kRebias;
    rounded += (1u << (kShift - 1)) - 1 + ((rounded >> kShift) & 1);
    rounded >>= kShift;
    return sign | (rounded < kBeyond ? rounded : kBeyond);
  }

 private:
  KVASIR_HD static uint32_t NaN(uint32_t magnitude) {
    if (!kInfinity) return kBeyond;
    return kExponentMask | (1u << (kMantissa - 1)) | ((magnitude >> kShift) & ((1u << kMantissa) - 1));
  }
  KVASIR_HD static uint32_t Subnormal(uint32_t magnitude) {
    const uint32_t exponent = magnitude >> 23;
    const uint32_t below = (kRebias >> 23) + 1 - exponent;  // binades under the smallest normal, at least 1
    if (exponent == 0 || below + kShift > 25) return 0;
    const uint32_t significand = (magnitude & 0x7FFFFFu) | 0x800000u;
    const uint32_t shift = kShift + below;
    const uint32_t rest = significand & ((1u << shift) - 1);
    const uint32_t half = 1u << (shift - 1);
    const uint32_t kept = significand >> shift;
    return kept + (rest > half || (rest == half && (kept & 1) != 0) ? 1 : 0);
  }
};

using Half = SmallFloat<5, 10, true>;
using E4M3 = SmallFloat<4, 3, false>;
using E5M2 = SmallFloat<5, 2, true>;

}  // namespace detail

KVASIR_HD inline float BFloat16ToFloat(uint16_t code) { return FloatOfBits(uint32_t{code} << 16); }
KVASIR_HD inline uint16_t FloatToBFloat16(float value) {
  const uint32_t bits = BitsOfFloat(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1)) >> 16);
}

KVASIR_HD inline float Float16ToFloat(uint16_t code) { return detail::Half::ToFloat(code); }
KVASIR_HD inline uint16_t FloatToFloat16(float value) { return static_cast<uint16_t>(detail::Half::FromFloat(value)); }
KVASIR_HD inline float Float8E4M3ToFloat(uint8_t code) { return detail::E4M3::ToFloat(code); }
KVASIR_HD inline uint8_t FloatToFloat8E4M3(float value) { return static_cast<uint8_t>(detail::E4M3::FromFloat(value)); }
KVASIR_HD inline float Float8E5M2ToFloat(uint8_t code) { return detail::E5M2::ToFloat(code); }
KVASIR_HD inline uint8_t FloatToFloat8E5M2(float value) { return static_cast<uint8_t>(detail::E5M2::FromFloat(value)); }

/// Rounded to the nearest fp16; beyond the largest finite one that one is taken.
KVASIR_HD inline uint16_t SaturatedFloat16(float value) {
  return FloatToFloat16(value > 65504.0f ? 65504.0f : value < -65504.0f ? -65504.0f : value);
}

/// The greatest fp16 that is no more than `value`, and the least that is no less. REQUIRES: |value| <= 65504; -0 is not
/// given.
KVASIR_HD inline uint16_t Float16Below(float value) {
  const uint32_t code = FloatToFloat16(value);
  if (!(Float16ToFloat(static_cast<uint16_t>(code)) > value)) return static_cast<uint16_t>(code);
  return static_cast<uint16_t>((code & 0x8000) != 0 ? code + 1 : code - 1);
}
KVASIR_HD inline uint16_t Float16Above(float value) {
  const uint32_t code = FloatToFloat16(value);
  if (!(Float16ToFloat(static_cast<uint16_t>(code)) < value)) return static_cast<uint16_t>(code);
  return static_cast<uint16_t>((code & 0x8000) != 0 ? code - 1 : code + 1);
}

/// The element at `p`, exactly.
KVASIR_HD inline float LoadElement(ElementType type, const uint8_t* p) {
  switch (type) {
    case ElementType::kFloat32:
      return FloatOfBits(Load16(p) | uint32_t{Load16(p + 2)} << 16);
    case ElementType::kFloat16:
      return Float16ToFloat(Load16(p));
    case ElementType::kBfloat16:
      return BFloat16ToFloat(Load16(p));
    case ElementType::kFloat8E4M3:
      return Float8E4M3ToFloat(*p);
    case ElementType::kFloat8E5M2:
      return Float8E5M2ToFloat(*p);
  }
  return 0;
}

/// Rounds a finite `value` to the element type and stores it; beyond the type's range the largest finite value is
/// stored.
KVASIR_HD inline void StoreElement(ElementType type, float value, uint8_t* p) {
  const float largest = type == ElementType::kFloat16      ? 65504.0f
                        : type == ElementType::kFloat8E4M3 ? 448.0f
                        : type == ElementType::kFloat8E5M2 ? 57344.0f
                                                           : 3.38953139e38f;  // of bfloat16
  if (type != ElementType::kFloat32) value = value > largest ? largest : value < -largest ? -largest : value;
  switch (type) {
    case ElementType::kFloat32:
      Store16(p, BitsOfFloat(value));
      Store16(p + 2, BitsOfFloat(value) >> 16);
      break;
    case ElementType::kFloat16:
      Store16(p, FloatToFloat16(value));
      break;
    case ElementType::kBfloat16:
      Store16(p, FloatToBFloat16(value));
      break;
    case ElementType::kFloat8E4M3:
      *p = FloatToFloat8E4M3(value);
      break;
    case ElementType::kFloat8E5M2:
      *p = FloatToFloat8E5M2(value);
      break;
  }
}

}  // namespace kvasir
