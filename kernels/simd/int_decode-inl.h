// SPDX-License-Identifier: Apache-2.0
// What decoders of Q:int | P:bits share, wherever the values go: a tile's parameters become float once, its codes
// values, two at a time in a 32-bit lane. `Pairs` stores a step of channels, the even ones and the odd ones
// (formats-inl.h).
#if defined(KVASIR_SIMD_INT_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVASIR_SIMD_INT_DECODE_INL_H_
#undef KVASIR_SIMD_INT_DECODE_INL_H_
#else
#define KVASIR_SIMD_INT_DECODE_INL_H_
#endif

#include <cstring>

#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/simd/bits-inl.h"
#include "kernels/simd/int_tile-inl.h"

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {

/// Scales and zeros of a tile as float, even ones before odd ones in each step. Where codes are symmetric, their middle
/// goes into the zero: (code - middle) * scale = code * scale - middle * scale, all three exact.
HWY_INLINE void LoadParameters(const IntFrame& f, const uint8_t* frame, const IntTile& t) {
  const LanesF32 df;
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16()));
  const uint64_t first = FirstParameter(f, t);
  std::memcpy(t.scale16, frame + 2 * first, 2 * uint64_t{t.parameters});
  if (!f.spec.symmetric) std::memcpy(t.zero16, frame + f.zeros_at + 2 * first, 2 * uint64_t{t.parameters});
  const VecF32 middle = F32(static_cast<float>(1 << (f.spec.bits - 1)));
  for (uint32_t i = 0; i < t.parameters; i += n) {
    const VecU32 scale16 = LoadPairs(t.scale16 + 2 * i), zero16 = LoadPairs(t.zero16 + 2 * i);
    const VecF32 even = Fp16Pairs::Even(scale16), odd = Fp16Pairs::Odd(scale16);
    hn::StoreU(even, df, t.other + i);
    hn::StoreU(odd, df, t.other + i + n / 2);
    hn::StoreU(f.spec.symmetric ? hn::Neg(hn::Mul(middle, even)) : Fp16Pairs::Even(zero16), df, t.zero + i);
    hn::StoreU(f.spec.symmetric ? hn::Neg(hn::Mul(middle, odd)) : Fp16Pairs::Odd(zero16), df, t.zero + i + n / 2);
  }
}

/// One pair of codes in each lane, the even one in the low kWidth bits; of 2 bits, something else above the odd one.
template <uint32_t kWidth>
HWY_INLINE VecU32 LoadCodePairs(const uint8_t* codes) {
  if constexpr (kWidth == 8) {
    const hn::Rebind<uint16_t, LanesU32> d;
    return hn::PromoteTo(LanesU32(), hn::LoadU(d, reinterpret_cast<const uint16_t*>(codes)));
  } else if constexpr (kWidth == 4) {
    return hn::PromoteTo(LanesU32(), hn::LoadU(hn::Rebind<uint8_t, LanesU32>(), codes));
  } else {
    const hn::RepartitionToWide<LanesU32> d64;
    const hn::Rebind<uint32_t, decltype(d64)> d32;
    const auto fours = hn::PromoteTo(d64, hn::PromoteTo(d32, hn::LoadU(hn::Rebind<uint8_t, decltype(d64)>(), codes)));
    return hn::BitCast(LanesU32(), hn::Or(fours, hn::ShiftLeft<28>(fours)));
  }
}

/// What a step of channels is decoded with: even ones and odd ones.
struct StepScales {
  VecF32 even_zero, even_scale, odd_zero, odd_scale;
};

/// The number that a code stands for: itself, or where its kMissing lower bits are zeros that nobody has, the middle of
/// what it may have been. At most 9 bits of significand: a product with a scale is exact.
template <uint32_t kMissing>
HWY_INLINE VecF32 NumberOf(Vec32 code) {
  const VecF32 number = hn::ConvertTo(LanesF32(), code);
  return kMissing == 0 ? number : hn::Add(number, F32(0.5f * static_cast<float>((1u << kMissing) - 1)));
}

template <class Pairs, uint32_t kWidth, bool kStream, uint32_t kMissing>
HWY_INLINE void DecodeStep(const uint8_t* codes, const StepScales& p, uint8_t* out) {
  const VecU32 pairs = LoadCodePairs<kWidth>(codes), mask = U32((1u << kWidth) - 1);
  const VecU32 above = hn::ShiftRight<kWidth>(pairs);
  const Vec32 even = hn::BitCast(Lanes32(), hn::And(pairs, mask));
  const Vec32 odd = hn::BitCast(Lanes32(), kWidth == 2 ? hn::And(above, mask) : above);
  const VecF32 even_value = hn::MulAdd(NumberOf<kMissing>(even), p.even_scale, p.even_zero);
  const VecF32 odd_value = hn::MulAdd(NumberOf<kMissing>(odd), p.odd_scale, p.odd_zero);
  Pairs::template Store<kStream>(even_value, odd_value, out);
}

/// `steps` steps of channels that share their parameters.
template <class Pairs, uint32_t kWidth, bool kStream, uint32_t kMissing>
HWY_INLINE void DecodeGroup(const uint8_t* codes, uint32_t steps, VecF32 zero, VecF32 scale, uint8_t* out) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16()));
  for (uint32_t s = 0; s < steps; ++s, codes += n * kWidth / 8, out += Pairs::kBytes * n) {
    if constexpr (kWidth == 8 && Pairs::kJoinsInOrder) {  // bytes become lanes in order: nothing to sort out
      const hn::Rebind<uint8_t, Lanes32> d;
      const Vec32 first = hn::PromoteTo(Lanes32(), hn::LoadU(d, codes));
      const Vec32 second = hn::PromoteTo(Lanes32(), hn::LoadU(d, codes + n / 2));
      StorePairs<kStream>(Pairs::JoinInOrder(hn::MulAdd(NumberOf<kMissing>(first), scale, zero),
                                             hn::MulAdd(NumberOf<kMissing>(second), scale, zero)),
                          out);
    } else {
      DecodeStep<Pairs, kWidth, kStream, kMissing>(codes, {zero, scale, zero, scale}, out);
    }
  }
}

/// Rows of one group of kSteps steps each.
template <class Pairs, uint32_t kWidth, bool kStream, uint32_t kMissing, uint32_t kSteps>
HWY_INLINE void DecodeUniformRows(const uint8_t* codes, const IntTile& t, uint8_t* out) {
  constexpr uint64_t kChannels = kSteps * hn::MaxLanes(Lanes16()), kCodeBytes = kChannels * kWidth / 8;
  for (uint32_t r = 0; r < t.rows; ++r, codes += kCodeBytes, out += kChannels * Pairs::kBytes) {
    Prefetch(codes + kCodesAhead, kCodeBytes);
    const uint32_t at = Shuffled(r);
    DecodeGroup<Pairs, kWidth, kStream, kMissing>(codes, kSteps, hn::Set(LanesF32(), t.zero[at]),
                                        hn::Set(LanesF32(), t.other[at]), out);
  }
}

/// Elements of all rows of a tile from codes `codes_stride` bytes apart.
template <class Pairs, uint32_t kWidth, bool kStream, uint32_t kMissing = 0>
HWY_INLINE void DecodeRows(const IntFrame& f, const uint8_t* codes, uint64_t codes_stride, const IntTile& t,
                           uint8_t* out) {
  const LanesF32 df;
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16())), dim = f.shape.dim, rows = t.rows, group = f.group;
  if (!f.spec.by_channel && f.groups == 1) {  // rows without padding
    if (dim == n) return DecodeUniformRows<Pairs, kWidth, kStream, kMissing, 1>(codes, t, out);
    if (dim == 2 * n) return DecodeUniformRows<Pairs, kWidth, kStream, kMissing, 2>(codes, t, out);
    if (dim == 4 * n) return DecodeUniformRows<Pairs, kWidth, kStream, kMissing, 4>(codes, t, out);
  }
  uint32_t i = 0;
  for (uint32_t r = 0; r < rows; ++r, codes += codes_stride, out += Pairs::kBytes * uint64_t{dim}) {
    Prefetch(codes + kCodesAhead, codes_stride);
    if (f.spec.by_channel) {
      for (uint32_t c = 0; c < dim; c += n) {
        DecodeStep<Pairs, kWidth, kStream, kMissing>(codes + c * kWidth / 8,
                                           {hn::LoadU(df, t.zero + c), hn::LoadU(df, t.other + c),
                                            hn::LoadU(df, t.zero + c + n / 2), hn::LoadU(df, t.other + c + n / 2)},
                                           out + Pairs::kBytes * c);
      }
      continue;
    }
    for (uint32_t begin = 0; begin < dim; begin += group, ++i) {
      const uint32_t at = Shuffled(i), steps = (begin + group < dim ? group : dim - begin) / n;
      DecodeGroup<Pairs, kWidth, kStream, kMissing>(codes + begin * kWidth / 8, steps, hn::Set(df, t.zero[at]),
                                          hn::Set(df, t.other[at]), out + Pairs::kBytes * begin);
    }
  }
}

/// Values of a tile to `out`.
template <class Pairs, uint32_t kBits, bool kStream>
HWY_INLINE void DecodeTile(const IntFrame& f, const uint8_t* frame, const IntTile& t, uint8_t* out) {
  const uint8_t* rows = frame + f.codes_at + (uint64_t{t.head} * f.shape.tokens + t.token) * f.row_bytes;
  LoadParameters(f, frame, t);
  if constexpr (kBits != 3) {
    DecodeRows<Pairs, kBits, kStream>(f, rows, f.row_bytes, t, out);
  } else {
    for (uint32_t r = 0; r < t.rows; ++r) {
      Prefetch(rows + r * f.row_bytes + kCodesAhead, f.row_bytes);
      UnpackRowSimd<kBits>(rows + r * f.row_bytes, f.shape.dim, t.codes + uint64_t{r} * f.shape.dim);
    }
    DecodeRows<Pairs, 8, kStream>(f, t.codes, f.shape.dim, t, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();
#endif  // not HWY_SCALAR
#endif  // guard
