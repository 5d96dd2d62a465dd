// SPDX-License-Identifier: Apache-2.0
// Vector twins of number_formats.h for bf16 and fp16, two elements a 32-bit lane: the even one in the low half.
// Included once for each target by the bodies (the guard toggles, see Highway's foreach_target.h).
#if defined(KVASIR_SIMD_FORMATS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVASIR_SIMD_FORMATS_INL_H_
#undef KVASIR_SIMD_FORMATS_INL_H_
#else
#define KVASIR_SIMD_FORMATS_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/portable.h"

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Elements are taken at most 32 at a time, so that head dims that are multiples of 32 have no rest on any target.
using Lanes16 = hn::CappedTag<int16_t, 32>;
using Lanes32 = hn::RepartitionToWide<Lanes16>;
using LanesU32 = hn::RebindToUnsigned<Lanes32>;
using LanesF32 = hn::RebindToFloat<Lanes32>;
using Vec16 = hn::VFromD<Lanes16>;
using Vec32 = hn::VFromD<Lanes32>;
using VecU32 = hn::VFromD<LanesU32>;
using VecF32 = hn::VFromD<LanesF32>;

HWY_INLINE VecU32 U32(uint32_t v) { return hn::Set(LanesU32(), v); }
HWY_INLINE VecF32 F32(float v) { return hn::Set(LanesF32(), v); }
HWY_INLINE VecU32 BitsOf(VecF32 v) { return hn::BitCast(LanesU32(), v); }
HWY_INLINE VecF32 FloatOf(VecU32 v) { return hn::BitCast(LanesF32(), v); }
/// All ones where a < b; both below 2^31.
HWY_INLINE hn::Mask<LanesU32> Below(VecU32 a, VecU32 b) {
  return hn::RebindMask(LanesU32(), hn::Lt(hn::BitCast(Lanes32(), a), hn::BitCast(Lanes32(), b)));
}

/// A finite fp16 in the low half of each lane, the high half zero; exact.
HWY_INLINE VecF32 FloatOfHalf(VecU32 h) {
  const VecU32 magnitude = hn::ShiftLeft<13>(hn::And(h, U32(0x7FFF)));
  const VecU32 normal = hn::Add(magnitude, U32(112u << 23));
  // A subnormal reads as if it had the leading one; taking that one away is exact.
  const VecF32 one = FloatOf(U32(113u << 23));
  const VecU32 subnormal = BitsOf(hn::Sub(FloatOf(hn::Add(magnitude, U32(113u << 23))), one));
  const VecU32 sign = hn::ShiftLeft<16>(hn::And(h, U32(0x8000)));
  return FloatOf(hn::Or(sign, hn::IfThenElse(Below(magnitude, U32(1u << 23)), subnormal, normal)));
}

/// The fp16 nearest to each finite |v| <= 65504, ties to even, in the low half; the high half is zero.
HWY_INLINE VecU32 HalfOfFloat(VecF32 v) {
  const VecU32 sign = hn::And(BitsOf(v), U32(0x80000000u));
  const VecU32 magnitude = hn::Xor(BitsOf(v), sign);
  VecU32 normal = hn::Sub(magnitude, U32(112u << 23));
  normal = hn::Add(hn::Add(normal, U32(0xFFF)), hn::And(hn::ShiftRight<13>(normal), U32(1)));
  normal = hn::ShiftRight<13>(normal);
  // Adding 0.5 makes the unit in the last place 2^-24, that of a subnormal fp16: the sum rounds as wanted.
  const VecU32 subnormal = hn::Sub(BitsOf(hn::Add(FloatOf(magnitude), F32(0.5f))), U32(126u << 23));
  const VecU32 rounded = hn::IfThenElse(Below(magnitude, U32(113u << 23)), subnormal, normal);
  return hn::Or(rounded, hn::ShiftRight<16>(sign));
}

/// Float16Below (kAbove false) and Float16Above of each lane, and their value.
template <bool kAbove>
HWY_INLINE VecU32 HalfTowards(VecF32 v, VecF32& value) {
#if HWY_TARGET == HWY_AVX3
  const __m256i half =
      _mm512_cvtps_ph(v.raw, (kAbove ? _MM_FROUND_TO_POS_INF : _MM_FROUND_TO_NEG_INF) | _MM_FROUND_NO_EXC);
  value = VecF32{_mm512_cvtph_ps(half)};
  return VecU32{_mm512_cvtepu16_epi32(half)};
#elif HWY_TARGET == HWY_AVX2
  const __m128i half =
      _mm256_cvtps_ph(v.raw, (kAbove ? _MM_FROUND_TO_POS_INF : _MM_FROUND_TO_NEG_INF) | _MM_FROUND_NO_EXC);
  value = VecF32{_mm256_cvtph_ps(half)};
  return VecU32{_mm256_cvtepu16_epi32(half)};
#else
  const VecU32 nearest = HalfOfFloat(v);
  const VecF32 back = FloatOfHalf(nearest);
  const auto wrong = hn::RebindMask(LanesU32(), kAbove ? hn::Lt(back, v) : hn::Gt(back, v));
  const auto negative = hn::RebindMask(LanesU32(), hn::Ne(hn::And(nearest, U32(0x8000)), U32(0)));
  const VecU32 up = kAbove ? U32(~0u) : U32(1), down = kAbove ? U32(1) : U32(~0u);
  const VecU32 half = hn::Add(nearest, hn::IfThenElseZero(wrong, hn::IfThenElse(negative, up, down)));
  value = FloatOfHalf(half);
  return half;
#endif
}

HWY_INLINE VecU32 LoadPairs(const uint8_t* p) {
  return hn::BitCast(LanesU32(), hn::LoadU(hn::Repartition<uint8_t, Lanes32>(), p));
}
/// kStream: past the caches; `p` is then a multiple of the vector's size.
template <bool kStream = false>
HWY_INLINE void StorePairs(VecU32 v, uint8_t* p) {
  const hn::Repartition<uint8_t, Lanes32> d;
  if constexpr (kStream) return hn::Stream(hn::BitCast(d, v), d, p);
  hn::StoreU(hn::BitCast(d, v), d, p);
}

/// What all formats of pairs have: a step of Lanes16 elements to floats, the even ones and the odd ones, and back.
/// Turned: the signs are changed where `turn`, elements too, has a sign; `greatest` takes in the magnitudes.
template <class Pairs>
struct PairsOfElements {
  static constexpr bool kElements = true;  ///< of a cache; false: floats on their way
  static constexpr uint64_t kBytes = 2;    ///< of a value
  using LanesOfMagnitudes = Lanes16;
  using Magnitudes = Vec16;
  static HWY_INLINE void Load(const uint8_t* p, VecF32& even, VecF32& odd) {
    const VecU32 pairs = LoadPairs(p);
    even = Pairs::Even(pairs);
    odd = Pairs::Odd(pairs);
  }
  template <bool kStream>
  static HWY_INLINE void Store(VecF32 even, VecF32 odd, uint8_t* p) {
    StorePairs<kStream>(Pairs::Join(even, odd), p);
  }
  static HWY_INLINE void LoadTurned(const uint8_t* p, const uint8_t* turn, Magnitudes& greatest, VecF32& even,
                                    VecF32& odd) {
    const VecU32 pairs = hn::Xor(LoadPairs(p), LoadPairs(turn));
    greatest = hn::Max(greatest, hn::BitCast(Lanes16(), hn::And(pairs, U32(0x7FFF7FFF))));
    even = Pairs::Even(pairs);
    odd = Pairs::Odd(pairs);
  }
  template <bool kStream>
  static HWY_INLINE void StoreTurned(VecF32 even, VecF32 odd, const uint8_t* turn, uint8_t* p) {
    StorePairs<kStream>(hn::Xor(Pairs::Join(even, odd), LoadPairs(turn)), p);
  }
  /// Sign bits of floats as those of elements.
  static HWY_INLINE void StoreSigns(VecU32 even, VecU32 odd, uint8_t* turn) {
    StorePairs(hn::Or(hn::ShiftRight<16>(even), odd), turn);
  }
  static HWY_INLINE bool IsBeyond(Magnitudes greatest) {
    return !hn::AllFalse(Lanes16(), hn::Gt(greatest, hn::Set(Lanes16(), Pairs::kLargest)));
  }
};

/// bf16 pairs. Both formats: Even and Odd to float, Join back with rounding, and the greatest magnitude Q:int takes as
/// it is.
struct Bf16Pairs : PairsOfElements<Bf16Pairs> {
  static constexpr int16_t kLargest = 0x477F;  // 65280, the greatest bf16 that is no more than 65504
  static constexpr bool kJoinsInOrder = false;
  static HWY_INLINE VecF32 Even(VecU32 x) { return FloatOf(hn::ShiftLeft<16>(x)); }
  static HWY_INLINE VecF32 Odd(VecU32 x) { return FloatOf(hn::And(x, U32(0xFFFF0000u))); }
  static HWY_INLINE hn::Mask<LanesF32> IsNaN(VecF32 v) { return hn::IsNaN(v); }
  static HWY_INLINE VecU32 Round(VecF32 v) {
    const VecU32 b = BitsOf(v);
    return hn::Add(hn::Add(b, U32(0x7FFF)), hn::And(hn::ShiftRight<16>(b), U32(1)));
  }
  static HWY_INLINE VecU32 Join(VecF32 even, VecF32 odd) {
    return hn::OrAnd(hn::ShiftRight<16>(Round(even)), Round(odd), U32(0xFFFF0000u));
  }
};

#if HWY_TARGET <= HWY_AVX3 && (HWY_COMPILER_GCC || HWY_COMPILER_CLANG)
/// bf16 pairs where the CPU rounds to bf16 itself (AVX512_BF16). The instruction takes denormals as zero, which decode
/// never makes: every value is a multiple of 2^-24. Highway 1.0 has no name for it, hence the assembly.
struct Bf16PairsByCpu : Bf16Pairs {
  static constexpr bool kJoinsInOrder = true;
  /// The lanes of `first`, then those of `second`.
  static HWY_INLINE VecU32 JoinInOrder(VecF32 first, VecF32 second) {
    __m512i joined;
    asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(joined) : "v"(second.raw), "v"(first.raw));
    return VecU32{joined};
  }
  template <bool kStream>
  static HWY_INLINE void Store(VecF32 even, VecF32 odd, uint8_t* p) {
    StorePairs<kStream>(Join(even, odd), p);
  }
  template <bool kStream>
  static HWY_INLINE void StoreTurned(VecF32 even, VecF32 odd, const uint8_t* turn, uint8_t* p) {
    StorePairs<kStream>(hn::Xor(Join(even, odd), LoadPairs(turn)), p);
  }
  static HWY_INLINE VecU32 Join(VecF32 even, VecF32 odd) {
    alignas(64) static constexpr uint16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                        8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return VecU32{_mm512_permutexvar_epi16(_mm512_load_si512(kOrder), JoinInOrder(even, odd).raw)};
  }
};
#undef KVASIR_SIMD_BF16_BY_CPU
#define KVASIR_SIMD_BF16_BY_CPU 1
#else
#undef KVASIR_SIMD_BF16_BY_CPU
#define KVASIR_SIMD_BF16_BY_CPU 0
#endif

/// fp16 pairs; Join saturates.
struct Fp16Pairs : PairsOfElements<Fp16Pairs> {
  static constexpr int16_t kLargest = 0x7BFF;
  static constexpr bool kJoinsInOrder = false;
  static HWY_INLINE VecF32 Even(VecU32 x) { return FloatOfHalf(hn::And(x, U32(0xFFFF))); }
  static HWY_INLINE VecF32 Odd(VecU32 x) { return FloatOfHalf(hn::ShiftRight<16>(x)); }
  /// Of what Even and Odd make of an element: infinity becomes 65536, NaN more.
  static HWY_INLINE hn::Mask<LanesF32> IsNaN(VecF32 v) { return hn::Gt(hn::Abs(v), F32(65536.0f)); }
  static HWY_INLINE VecF32 Clamp(VecF32 v) { return hn::Max(hn::Min(v, F32(65504.0f)), F32(-65504.0f)); }
  static HWY_INLINE VecU32 Join(VecF32 even, VecF32 odd) {
    return hn::Or(HalfOfFloat(Clamp(even)), hn::ShiftLeft<16>(HalfOfFloat(Clamp(odd))));
  }
};

constexpr uint32_t kFloatLanes = hn::MaxLanes(LanesF32());
constexpr uint32_t kStep = 2 * kFloatLanes;  // channels

/// Floats of a row on their way, in steps.
struct RowPairs {
  static constexpr bool kElements = false;
  static constexpr bool kJoinsInOrder = false;
  static constexpr uint64_t kBytes = 4;
  static HWY_INLINE void Load(const uint8_t* p, VecF32& even, VecF32& odd) {
    even = hn::LoadU(LanesF32(), reinterpret_cast<const float*>(p));
    odd = hn::LoadU(LanesF32(), reinterpret_cast<const float*>(p) + kFloatLanes);
  }
  template <bool kStream>
  static HWY_INLINE void Store(VecF32 even, VecF32 odd, uint8_t* p) {
    hn::StoreU(even, LanesF32(), reinterpret_cast<float*>(p));
    hn::StoreU(odd, LanesF32(), reinterpret_cast<float*>(p) + kFloatLanes);
  }
};

/// fp32 elements, in the manner of PairsOfElements.
struct Fp32Pairs {
  static constexpr bool kElements = true;
  static constexpr bool kJoinsInOrder = false;
  static constexpr uint64_t kBytes = 4;
  using LanesOfMagnitudes = Lanes32;
  using Magnitudes = Vec32;
  static HWY_INLINE void Load(const uint8_t* p, VecF32& even, VecF32& odd) {
    hn::LoadInterleaved2(LanesF32(), reinterpret_cast<const float*>(p), even, odd);
  }
  template <bool kStream>
  static HWY_INLINE void Store(VecF32 even, VecF32 odd, uint8_t* p) {
    hn::StoreInterleaved2(even, odd, LanesF32(), reinterpret_cast<float*>(p));
  }
  static HWY_INLINE void LoadTurned(const uint8_t* p, const uint8_t* turn, Magnitudes& greatest, VecF32& even,
                                    VecF32& odd) {
    VecF32 even_turn, odd_turn;
    Load(p, even, odd);
    Load(turn, even_turn, odd_turn);
    greatest = hn::Max(greatest, hn::BitCast(Lanes32(), hn::Max(hn::And(BitsOf(even), U32(0x7FFFFFFF)),
                                                                hn::And(BitsOf(odd), U32(0x7FFFFFFF)))));
    even = hn::Xor(even, even_turn);
    odd = hn::Xor(odd, odd_turn);
  }
  template <bool kStream>
  static HWY_INLINE void StoreTurned(VecF32 even, VecF32 odd, const uint8_t* turn, uint8_t* p) {
    VecF32 even_turn, odd_turn;
    Load(turn, even_turn, odd_turn);
    hn::StoreInterleaved2(hn::Xor(even, even_turn), hn::Xor(odd, odd_turn), LanesF32(), reinterpret_cast<float*>(p));
  }
  static HWY_INLINE void StoreSigns(VecU32 even, VecU32 odd, uint8_t* turn) {
    hn::StoreInterleaved2(FloatOf(even), FloatOf(odd), LanesF32(), reinterpret_cast<float*>(turn));
  }
  static HWY_INLINE bool IsBeyond(Magnitudes greatest) {
    const VecF32 largest = F32(65504.0f);
    return !hn::AllFalse(Lanes32(), hn::Gt(greatest, hn::BitCast(Lanes32(), largest)));
  }
  static HWY_INLINE hn::Mask<LanesF32> IsNaN(VecF32 v) { return hn::IsNaN(v); }
};

}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();
#endif  // not HWY_SCALAR
#endif  // guard
