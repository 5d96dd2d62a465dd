// SPDX-License-Identifier: Apache-2.0
// What encoders of Q:int | P:bits share, whatever the values come from: ranges joined to parameters, codes of a tile's
// rows, packed. `Pairs` brings the values of a step of channels, the even ones and the odd ones (formats-inl.h).
#if defined(KVASIR_SIMD_INT_ENCODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVASIR_SIMD_INT_ENCODE_INL_H_
#undef KVASIR_SIMD_INT_ENCODE_INL_H_
#else
#define KVASIR_SIMD_INT_ENCODE_INL_H_
#endif

#include <cstring>

#include "hwy/highway.h"
#include "kernels/simd/bits-inl.h"
#include "kernels/simd/int_tile-inl.h"
#include "kernels/simd/stream-inl.h"

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {

/// Least and greatest, lane by lane.
template <class D>
struct Range {
  hn::VFromD<D> least, greatest;
};

/// Neighbours joined: the lower lanes of the result are of `a`, the upper ones of `b`.
template <class D>
HWY_INLINE Range<D> Join(const Range<D>& a, const Range<D>& b) {
  const D d;
  return {hn::Min(hn::ConcatEven(d, b.least, a.least), hn::ConcatOdd(d, b.least, a.least)),
          hn::Max(hn::ConcatEven(d, b.greatest, a.greatest), hn::ConcatOdd(d, b.greatest, a.greatest))};
}

/// The lanes of range_of(first) and the kGroups - 1 groups after it, joined until all fit one vector, in order.
template <class D, uint32_t kGroups, class RangeOf>
HWY_INLINE Range<D> RangeOfGroups(uint32_t first, const RangeOf& range_of) {
  if constexpr (kGroups == 1) {
    return range_of(first);
  } else {
    return Join<D>(RangeOfGroups<D, kGroups / 2>(first, range_of),
                   RangeOfGroups<D, kGroups / 2>(first + kGroups / 2, range_of));
  }
}

/// Collects ranges until a vector of groups is full: what was joined `kJoined` to a vector already.
template <class D, uint32_t kJoined>
class RangeWriter {
 public:
  RangeWriter(hn::TFromD<D>* least, hn::TFromD<D>* greatest) : least_(least), greatest_(greatest) {}
  HWY_INLINE void Add(const Range<D>& range) {
    parts_[count_] = range;
    if (++count_ == kParts) Flush();
  }
  HWY_INLINE void Finish() {
    if (count_ == 0) return;
    for (; count_ < kParts; ++count_) parts_[count_] = {hn::Zero(D()), hn::Zero(D())};
    Flush();
  }

 private:
  static constexpr uint32_t kParts = hn::MaxLanes(D()) / kJoined;
  HWY_INLINE void Flush() {
    for (uint32_t left = kParts / 2; left > 0; left /= 2) {
      for (uint32_t i = 0; i < left; ++i) parts_[i] = Join(parts_[2 * i], parts_[2 * i + 1]);
    }
    const D d;
    hn::StoreU(parts_[0].least, d, least_);
    hn::StoreU(parts_[0].greatest, d, greatest_);
    least_ += hn::Lanes(d);
    greatest_ += hn::Lanes(d);
    count_ = 0;
  }

  Range<D> parts_[kParts];
  uint32_t count_ = 0;
  hn::TFromD<D>* least_;
  hn::TFromD<D>* greatest_;
};

/// One lane's ChooseIntParameters. Returns scale and zero as fp16; `zero` and `inverse` as float.
HWY_INLINE VecU32 ChooseHalf(bool symmetric, float steps, VecF32 least, VecF32 greatest, VecU32& zero16, VecF32& zero,
                             VecF32& inverse) {
  VecF32 range;
  if (symmetric) {
    zero16 = U32(0);
    zero = F32(0.0f);
    range = hn::Max(greatest, hn::Neg(least));
  } else {
    zero16 = HalfTowards<false>(hn::Add(least, F32(0.0f)), zero);
    range = hn::Sub(greatest, zero);
  }
  range = hn::IfThenElseZero(hn::Gt(range, F32(0.0f)), range);
  VecF32 scale;
  const VecU32 scale16 = HalfTowards<true>(hn::Div(range, F32(steps)), scale);
  inverse = hn::IfThenElseZero(hn::Gt(scale, F32(0.0f)), hn::Div(F32(1.0f), scale));
  return scale16;
}

/// Parameters of one step of groups of a tile, the even ones and the odd ones, from their ranges; `i` is the first.
HWY_INLINE void ChooseStep(const IntFrame& f, const IntTile& t, uint32_t i, VecF32 even_least, VecF32 even_greatest,
                           VecF32 odd_least, VecF32 odd_greatest) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16()));
  const float steps = static_cast<float>(f.spec.symmetric ? (1 << (f.spec.bits - 1)) - 1 : (1 << f.spec.bits) - 1);
  VecU32 even_zero16, odd_zero16;
  VecF32 zero, inverse;
  const VecU32 even16 = ChooseHalf(f.spec.symmetric, steps, even_least, even_greatest, even_zero16, zero, inverse);
  hn::StoreU(zero, LanesF32(), t.zero + i);
  hn::StoreU(inverse, LanesF32(), t.other + i);
  const VecU32 odd16 = ChooseHalf(f.spec.symmetric, steps, odd_least, odd_greatest, odd_zero16, zero, inverse);
  hn::StoreU(zero, LanesF32(), t.zero + i + n / 2);
  hn::StoreU(inverse, LanesF32(), t.other + i + n / 2);
  StorePairs(hn::Or(even16, hn::ShiftLeft<16>(odd16)), t.scale16 + 2 * i);
  StorePairs(hn::Or(even_zero16, hn::ShiftLeft<16>(odd_zero16)), t.zero16 + 2 * i);
}

/// The parameters of a tile into the frame.
HWY_INLINE void WriteParameters(const IntFrame& f, const IntTile& t, uint8_t* frame) {
  const uint64_t first = FirstParameter(f, t);
  std::memcpy(frame + 2 * first, t.scale16, 2 * uint64_t{t.parameters});
  if (!f.spec.symmetric) std::memcpy(frame + f.zeros_at + 2 * first, t.zero16, 2 * uint64_t{t.parameters});
}

constexpr uint64_t kElementsAhead = 16384;  // bytes asked for ahead of the row that is coded: two tiles of 128 channels

/// Asks for elements of later tiles while row `r` is coded, which lies at `row`.
template <class Pairs>
HWY_INLINE void PrefetchElements(const IntTile& t, uint32_t r, const uint8_t* row, uint64_t bytes) {
  if constexpr (Pairs::kElements) {
    Prefetch(row + kElementsAhead, bytes);
  } else {
    Prefetch(t.ahead + r * t.ahead_stride, t.ahead_bytes);
  }
}

/// The code lies in the low byte, nothing but the exponent of 2^23 above it.
HWY_INLINE VecU32 Code(VecF32 magic, VecF32 x, VecF32 zero, VecF32 inverse) {
  return BitsOf(hn::Add(hn::Mul(hn::Sub(x, zero), inverse), magic));
}

/// What a step of channels is coded with: even ones and odd ones.
struct StepParameters {
  VecF32 even_zero, even_inverse, odd_zero, odd_inverse;
};

/// Codes of one step, two a lane in its low 2 * kWidth bits; above bit 24 they are undefined.
template <class Pairs, uint32_t kWidth>
HWY_INLINE VecU32 PairsOfCodes(VecF32 magic, const uint8_t* in, const StepParameters& p) {
  VecF32 even, odd;
  Pairs::Load(in, even, odd);
  return hn::Or(Code(magic, even, p.even_zero, p.even_inverse),
                hn::ShiftLeft<kWidth>(Code(magic, odd, p.odd_zero, p.odd_inverse)));
}

template <uint32_t kWidth>
HWY_INLINE void StoreCodes(VecU32 pairs, uint8_t* codes) {
  if constexpr (kWidth == 8) {
    const hn::Rebind<uint16_t, LanesU32> d;
    hn::StoreU(hn::TruncateTo(d, pairs), d, reinterpret_cast<uint16_t*>(codes));
  } else if constexpr (kWidth == 4) {
    const hn::Rebind<uint8_t, LanesU32> d;
    hn::StoreU(hn::TruncateTo(d, pairs), d, codes);
  } else {
    const hn::RepartitionToWide<LanesU32> d64;
    const hn::Rebind<uint8_t, decltype(d64)> d;
    const auto fours = hn::BitCast(d64, hn::And(pairs, U32(15)));
    hn::StoreU(hn::TruncateTo(d, hn::Or(fours, hn::ShiftRight<28>(fours))), d, codes);
  }
}

/// The same for two steps, `a` before `b`: one shuffle brings their codes together.
template <uint32_t kWidth>
HWY_INLINE void StoreCodes(VecU32 a, VecU32 b, uint8_t* codes) {
  const hn::RebindToUnsigned<Lanes16> d16;
  const auto pairs = hn::ConcatEven(d16, hn::BitCast(d16, b), hn::BitCast(d16, a));
  if constexpr (kWidth == 8) {
    const hn::Repartition<uint8_t, Lanes16> d;
    hn::StoreU(hn::BitCast(d, pairs), d, codes);
  } else if constexpr (kWidth == 4) {
    const hn::Rebind<uint8_t, Lanes16> d;
    hn::StoreU(hn::TruncateTo(d, pairs), d, codes);
  } else {
    const VecU32 fours = hn::BitCast(LanesU32(), pairs);
    const hn::Rebind<uint8_t, LanesU32> d;
    hn::StoreU(hn::TruncateTo(d, hn::Or(fours, hn::ShiftRight<12>(fours))), d, codes);
  }
}

/// `steps` steps of channels that share their parameters.
template <class Pairs, uint32_t kWidth>
HWY_INLINE void EncodeGroup(VecF32 magic, const uint8_t* in, uint32_t steps, const StepParameters& p, uint8_t* codes) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16()));
  uint32_t s = 0;
  for (; s + 2 <= steps; s += 2) {
    StoreCodes<kWidth>(PairsOfCodes<Pairs, kWidth>(magic, in + Pairs::kBytes * s * n, p),
                       PairsOfCodes<Pairs, kWidth>(magic, in + Pairs::kBytes * (s + 1) * n, p),
                       codes + s * n * kWidth / 8);
  }
  if (s < steps)
    StoreCodes<kWidth>(PairsOfCodes<Pairs, kWidth>(magic, in + Pairs::kBytes * s * n, p), codes + s * n * kWidth / 8);
}

HWY_INLINE StepParameters ParametersOf(const IntTile& t, uint32_t i) {
  const VecF32 zero = hn::Set(LanesF32(), t.zero[Shuffled(i)]), inverse = hn::Set(LanesF32(), t.other[Shuffled(i)]);
  return {zero, inverse, zero, inverse};
}

/// Rows of one group of kSteps steps each.
template <class Pairs, uint32_t kWidth, uint32_t kSteps>
HWY_INLINE void EncodeUniformRows(VecF32 magic, const uint8_t* in, const IntTile& t, uint8_t* codes) {
  constexpr uint64_t kChannels = kSteps * hn::MaxLanes(Lanes16()), kRowBytes = kChannels * Pairs::kBytes;
  for (uint32_t r = 0; r < t.rows; ++r, in += kRowBytes, codes += kChannels * kWidth / 8) {
    PrefetchElements<Pairs>(t, r, in, kRowBytes);
    EncodeGroup<Pairs, kWidth>(magic, in, kSteps, ParametersOf(t, r), codes);
  }
}

HWY_INLINE StepParameters ParametersOfChannels(const IntTile& t, uint32_t c) {
  const LanesF32 df;
  const uint32_t half = static_cast<uint32_t>(hn::Lanes(df));
  return {hn::LoadU(df, t.zero + c), hn::LoadU(df, t.other + c), hn::LoadU(df, t.zero + c + half),
          hn::LoadU(df, t.other + c + half)};
}

/// One row whose channels each have their own parameters.
template <class Pairs, uint32_t kWidth>
HWY_INLINE void EncodeChannels(VecF32 magic, const uint8_t* in, uint32_t dim, const IntTile& t, uint8_t* codes) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16()));
  uint32_t c = 0;
  for (; c + 2 * n <= dim; c += 2 * n) {
    StoreCodes<kWidth>(PairsOfCodes<Pairs, kWidth>(magic, in + Pairs::kBytes * c, ParametersOfChannels(t, c)),
                       PairsOfCodes<Pairs, kWidth>(magic, in + Pairs::kBytes * (c + n), ParametersOfChannels(t, c + n)),
                       codes + c * kWidth / 8);
  }
  if (c < dim) {
    StoreCodes<kWidth>(PairsOfCodes<Pairs, kWidth>(magic, in + Pairs::kBytes * c, ParametersOfChannels(t, c)),
                       codes + c * kWidth / 8);
  }
}

/// Codes of all rows of a tile, kWidth bits each, rows `codes_stride` bytes apart.
template <class Pairs, uint32_t kWidth>
HWY_INLINE void EncodeRows(const IntFrame& f, VecF32 magic, const uint8_t* in, const IntTile& t, uint8_t* codes,
                           uint64_t codes_stride) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16())), dim = f.shape.dim, rows = t.rows, group = f.group;
  const uint64_t row_bytes = Pairs::kBytes * uint64_t{dim};
  if (f.spec.by_channel) {
    for (uint32_t r = 0; r < rows; ++r, in += row_bytes, codes += codes_stride) {
      PrefetchElements<Pairs>(t, r, in, row_bytes);
      EncodeChannels<Pairs, kWidth>(magic, in, dim, t, codes);
    }
    return;
  }
  if (f.groups == 1) {  // rows without padding
    if (dim == n) return EncodeUniformRows<Pairs, kWidth, 1>(magic, in, t, codes);
    if (dim == 2 * n) return EncodeUniformRows<Pairs, kWidth, 2>(magic, in, t, codes);
    if (dim == 4 * n) return EncodeUniformRows<Pairs, kWidth, 4>(magic, in, t, codes);
  }
  uint32_t i = 0;
  for (uint32_t r = 0; r < rows; ++r, in += row_bytes, codes += codes_stride) {
    PrefetchElements<Pairs>(t, r, in, row_bytes);
    for (uint32_t begin = 0; begin < dim; begin += group, ++i) {
      const uint32_t steps = (begin + group < dim ? group : dim - begin) / n;
      EncodeGroup<Pairs, kWidth>(magic, in + Pairs::kBytes * begin, steps, ParametersOf(t, i),
                                 codes + begin * kWidth / 8);
    }
  }
}

/// The packed rows of a tile to `rows`, by the parameters in it.
template <class Pairs, uint32_t kBits>
HWY_INLINE void EncodeTileRows(const IntFrame& f, const uint8_t* in, const IntTile& t, uint8_t* rows) {
  const VecF32 magic = F32(8388608.0f + (f.spec.symmetric ? static_cast<float>(1 << (kBits - 1)) : 0.0f));
  if constexpr (kBits != 3) {
    EncodeRows<Pairs, kBits>(f, magic, in, t, rows, f.row_bytes);
  } else {
    EncodeRows<Pairs, 8>(f, magic, in, t, t.codes, f.shape.dim);
    for (uint32_t r = 0; r < t.rows; ++r) {
      PackRowSimd<kBits>(t.codes + uint64_t{r} * f.shape.dim, f.shape.dim, rows + r * f.row_bytes);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();
#endif  // not HWY_SCALAR
#endif  // guard
