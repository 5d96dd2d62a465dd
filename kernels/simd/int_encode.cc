// SPDX-License-Identifier: Apache-2.0
// Q:int | P:bits, elements to frames in SIMD, for bf16 and fp16 where head dims (and groups of axis tok) are multiples
// of 32; else the caller runs the reference. Same bits as q_int.h: the same float operations in the same order, on two
// elements a 32-bit lane.
//
// A tile of tokens at a time, small enough to stay in the first cache: least and greatest of each group in the integer
// order of the format (sign and magnitude folded to two's complement); parameters of all groups of the tile, a vector
// at a time; codes of each row, packed. A tile with a NaN, an infinity or a value beyond 65504 shows it in its least or
// greatest, and goes through the reference.
#include "kernels/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/int_encode.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/simd/bits-inl.h"
#include "kernels/simd/bodies.h"
#include "kernels/simd/formats-inl.h"
#include "kernels/simd/int_tile-inl.h"
#include "kernels/simd/stream-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

// One lane cannot hold a pair: the reference is the body for a CPU this old.
bool EncodeAny(const IntFrame&, const uint8_t*, uint8_t*, std::vector<std::byte>&, Destination) { return false; }

#else

constexpr uint64_t kElementsAhead = 16384;  // bytes asked for ahead of the row that is coded: two tiles of 128 channels

/// Sign and magnitude to two's complement order and back.
HWY_INLINE Vec16 Fold(Vec16 x) {
  return hn::Xor(x, hn::And(hn::ShiftRight<15>(x), hn::Set(Lanes16(), int16_t{0x7FFF})));
}
HWY_INLINE Vec16 Load16s(const uint8_t* p) { return hn::BitCast(Lanes16(), LoadPairs(p)); }

/// Least and greatest of each channel of a tile: kVectors vectors of channels at a time. Without folding each value:
/// read as signed, the greatest is right if any is positive; read as unsigned, the greatest is the most negative if any
/// is negative, the least the right one of the same sign if all are of one.
template <int kVectors>
HWY_INLINE void ChannelRange(const uint8_t* in, uint32_t rows, uint64_t row_bytes, int16_t* least, int16_t* greatest) {
  const Lanes16 d;
  const hn::RebindToUnsigned<Lanes16> du;
  const size_t n = hn::Lanes(d);
  Vec16 top[kVectors];
  hn::VFromD<decltype(du)> high[kVectors], low[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    top[v] = Load16s(in + 2 * n * v);
    high[v] = low[v] = hn::BitCast(du, top[v]);
  }
  for (uint32_t r = 1; r < rows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      const Vec16 x = Load16s(in + r * row_bytes + 2 * n * v);
      top[v] = hn::Max(top[v], x);
      high[v] = hn::Max(high[v], hn::BitCast(du, x));
      low[v] = hn::Min(low[v], hn::BitCast(du, x));
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    const Vec16 of_one_sign = hn::BitCast(d, low[v]), most_negative = hn::BitCast(d, high[v]);
    hn::StoreU(Fold(hn::IfNegativeThenElse(most_negative, most_negative, of_one_sign)), d, least + n * v);
    hn::StoreU(Fold(hn::IfNegativeThenElse(top[v], of_one_sign, top[v])), d, greatest + n * v);
  }
}

void ChannelRanges(const IntFrame& f, const uint8_t* in, const IntTile& t) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16()));
  const uint64_t row_bytes = 2 * uint64_t{f.shape.dim};
  uint32_t c = 0;
  for (; c + 4 * n <= f.shape.dim; c += 4 * n)
    ChannelRange<4>(in + 2 * c, t.rows, row_bytes, t.least + c, t.greatest + c);
  for (; c < f.shape.dim; c += n) ChannelRange<1>(in + 2 * c, t.rows, row_bytes, t.least + c, t.greatest + c);
}

struct Range {
  Vec16 least, greatest;
};

/// Neighbours joined: the lower lanes of the result are of `a`, the upper ones of `b`.
HWY_INLINE Range Join(const Range& a, const Range& b) {
  const Lanes16 d;
  return {hn::Min(hn::ConcatEven(d, b.least, a.least), hn::ConcatOdd(d, b.least, a.least)),
          hn::Max(hn::ConcatEven(d, b.greatest, a.greatest), hn::ConcatOdd(d, b.greatest, a.greatest))};
}

/// Lane by lane over the `vectors` vectors of one group.
HWY_INLINE Range RangeOfLanes(const uint8_t* in, uint32_t vectors) {
  Range range;
  range.least = range.greatest = Fold(Load16s(in));
  for (uint32_t v = 1; v < vectors; ++v) {
    const Vec16 x = Fold(Load16s(in + v * 2 * hn::Lanes(Lanes16())));
    range.least = hn::Min(range.least, x);
    range.greatest = hn::Max(range.greatest, x);
  }
  return range;
}

/// The lanes of kGroups groups, joined until all fit one vector, in order.
template <uint32_t kVectors, uint32_t kGroups>
HWY_INLINE Range RangeOfGroups(const uint8_t* in) {
  constexpr uint64_t kBytes = kVectors * 2 * hn::MaxLanes(Lanes16());
  if constexpr (kGroups == 1) {
    return RangeOfLanes(in, kVectors);
  } else {
    return Join(RangeOfGroups<kVectors, kGroups / 2>(in),
                RangeOfGroups<kVectors, kGroups / 2>(in + kGroups / 2 * kBytes));
  }
}

/// Collects ranges until a vector of groups is full: what was joined `kJoined` to a vector already.
template <uint32_t kJoined>
class RangeWriter {
 public:
  explicit RangeWriter(const IntTile& t) : least_(t.least), greatest_(t.greatest) {}
  HWY_INLINE void Add(const Range& range) {
    parts_[count_] = range;
    if (++count_ == kParts) Flush();
  }
  HWY_INLINE void Finish() {
    if (count_ == 0) return;
    for (; count_ < kParts; ++count_) parts_[count_] = {hn::Zero(Lanes16()), hn::Zero(Lanes16())};
    Flush();
  }

 private:
  static constexpr uint32_t kParts = hn::MaxLanes(Lanes16()) / kJoined;
  HWY_INLINE void Flush() {
    for (uint32_t left = kParts / 2; left > 0; left /= 2) {
      for (uint32_t i = 0; i < left; ++i) parts_[i] = Join(parts_[2 * i], parts_[2 * i + 1]);
    }
    const Lanes16 d;
    hn::StoreU(parts_[0].least, d, least_);
    hn::StoreU(parts_[0].greatest, d, greatest_);
    least_ += hn::Lanes(d);
    greatest_ += hn::Lanes(d);
    count_ = 0;
  }

  Range parts_[kParts];
  uint32_t count_ = 0;
  int16_t* least_;
  int16_t* greatest_;
};

/// Rows of one group of kVectors vectors each; their count is a multiple of the lanes.
template <uint32_t kVectors>
void RowRanges(const uint8_t* in, const IntTile& t) {
  constexpr uint32_t kLanes = hn::MaxLanes(Lanes16()), kJoined = kLanes < 8 ? kLanes : 8;
  constexpr uint64_t kRowBytes = kVectors * 2 * kLanes;
  RangeWriter<kJoined> writer(t);
  for (uint32_t r = 0; r < t.rows; r += kJoined) writer.Add(RangeOfGroups<kVectors, kJoined>(in + r * kRowBytes));
}

/// Least and greatest of each group of channels of each token of a tile.
void TokenRanges(const IntFrame& f, const uint8_t* in, const IntTile& t) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16())), dim = f.shape.dim, group = f.group;
  if (f.groups == 1 && t.rows % n == 0) {
    if (dim == n) return RowRanges<1>(in, t);
    if (dim == 2 * n) return RowRanges<2>(in, t);
    if (dim == 4 * n) return RowRanges<4>(in, t);
  }
  RangeWriter<1> writer(t);
  for (uint32_t r = 0; r < t.rows; ++r, in += 2 * uint64_t{dim}) {
    for (uint32_t begin = 0; begin < dim; begin += group) {
      writer.Add(RangeOfLanes(in + 2 * begin, (begin + group < dim ? group : dim - begin) / n));
    }
  }
  writer.Finish();
}

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

/// Parameters of all groups of a tile from their ranges. False, nothing usable, when a group is beyond the format's
/// reach.
template <class Pairs>
HWY_INLINE bool ChooseParameters(const IntFrame& f, const IntTile& t) {
  const Lanes16 d;
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(d));
  for (uint32_t i = t.parameters; i % n != 0; ++i) t.least[i] = t.greatest[i] = 0;
  const float steps = static_cast<float>(f.spec.symmetric ? (1 << (f.spec.bits - 1)) - 1 : (1 << f.spec.bits) - 1);
  Vec16 least_of_all = hn::Zero(d), greatest_of_all = hn::Zero(d);
  for (uint32_t i = 0; i < t.parameters; i += n) {
    const Vec16 lo = hn::LoadU(d, t.least + i), hi = hn::LoadU(d, t.greatest + i);
    least_of_all = hn::Min(least_of_all, lo);
    greatest_of_all = hn::Max(greatest_of_all, hi);
    const VecU32 least = hn::BitCast(LanesU32(), Fold(lo)), greatest = hn::BitCast(LanesU32(), Fold(hi));
    VecU32 even_zero16, odd_zero16;
    VecF32 zero, inverse;
    const VecU32 even16 =
        ChooseHalf(f.spec.symmetric, steps, Pairs::Even(least), Pairs::Even(greatest), even_zero16, zero, inverse);
    hn::StoreU(zero, LanesF32(), t.zero + i);
    hn::StoreU(inverse, LanesF32(), t.other + i);
    const VecU32 odd16 =
        ChooseHalf(f.spec.symmetric, steps, Pairs::Odd(least), Pairs::Odd(greatest), odd_zero16, zero, inverse);
    hn::StoreU(zero, LanesF32(), t.zero + i + n / 2);
    hn::StoreU(inverse, LanesF32(), t.other + i + n / 2);
    StorePairs(hn::Or(even16, hn::ShiftLeft<16>(odd16)), t.scale16 + 2 * i);
    StorePairs(hn::Or(even_zero16, hn::ShiftLeft<16>(odd_zero16)), t.zero16 + 2 * i);
  }
  const auto beyond = hn::Or(hn::Lt(least_of_all, hn::Set(d, static_cast<int16_t>(-1 - Pairs::kLargest))),
                             hn::Gt(greatest_of_all, hn::Set(d, Pairs::kLargest)));
  return hn::AllFalse(d, beyond);
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
  const VecU32 x = LoadPairs(in);
  const VecU32 even = Code(magic, Pairs::Even(x), p.even_zero, p.even_inverse);
  const VecU32 odd = Code(magic, Pairs::Odd(x), p.odd_zero, p.odd_inverse);
  return hn::Or(even, hn::ShiftLeft<kWidth>(odd));
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
    StoreCodes<kWidth>(PairsOfCodes<Pairs, kWidth>(magic, in + 2 * s * n, p),
                       PairsOfCodes<Pairs, kWidth>(magic, in + 2 * (s + 1) * n, p), codes + s * n * kWidth / 8);
  }
  if (s < steps) StoreCodes<kWidth>(PairsOfCodes<Pairs, kWidth>(magic, in + 2 * s * n, p), codes + s * n * kWidth / 8);
}

HWY_INLINE StepParameters ParametersOf(const IntTile& t, uint32_t i) {
  const VecF32 zero = hn::Set(LanesF32(), t.zero[Shuffled(i)]), inverse = hn::Set(LanesF32(), t.other[Shuffled(i)]);
  return {zero, inverse, zero, inverse};
}

/// Rows of one group of kSteps steps each.
template <class Pairs, uint32_t kWidth, uint32_t kSteps>
HWY_INLINE void EncodeUniformRows(VecF32 magic, const uint8_t* in, const IntTile& t, uint8_t* codes) {
  constexpr uint64_t kRowBytes = kSteps * 2 * hn::MaxLanes(Lanes16());
  for (uint32_t r = 0; r < t.rows; ++r, in += kRowBytes, codes += kRowBytes * kWidth / 16) {
    Prefetch(in + kElementsAhead, kRowBytes);
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
    StoreCodes<kWidth>(PairsOfCodes<Pairs, kWidth>(magic, in + 2 * c, ParametersOfChannels(t, c)),
                       PairsOfCodes<Pairs, kWidth>(magic, in + 2 * (c + n), ParametersOfChannels(t, c + n)),
                       codes + c * kWidth / 8);
  }
  if (c < dim) {
    StoreCodes<kWidth>(PairsOfCodes<Pairs, kWidth>(magic, in + 2 * c, ParametersOfChannels(t, c)),
                       codes + c * kWidth / 8);
  }
}

/// Codes of all rows of a tile, kWidth bits each, rows `codes_stride` bytes apart.
template <class Pairs, uint32_t kWidth>
HWY_INLINE void EncodeRows(const IntFrame& f, VecF32 magic, const uint8_t* in, const IntTile& t, uint8_t* codes,
                           uint64_t codes_stride) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16())), dim = f.shape.dim, rows = t.rows, group = f.group;
  const uint64_t row_bytes = 2 * uint64_t{dim};
  if (f.spec.by_channel) {
    for (uint32_t r = 0; r < rows; ++r, in += row_bytes, codes += codes_stride) {
      Prefetch(in + kElementsAhead, row_bytes);
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
    Prefetch(in + kElementsAhead, row_bytes);
    for (uint32_t begin = 0; begin < dim; begin += group, ++i) {
      const uint32_t steps = (begin + group < dim ? group : dim - begin) / n;
      EncodeGroup<Pairs, kWidth>(magic, in + 2 * begin, steps, ParametersOf(t, i), codes + begin * kWidth / 8);
    }
  }
}

/// Writes the parameters, and the packed rows at `rows`.
template <class Pairs, uint32_t kBits>
HWY_INLINE void EncodeTileTo(const IntFrame& f, const uint8_t* in, const IntTile& t, uint8_t* frame, uint8_t* rows) {
  f.spec.by_channel ? ChannelRanges(f, in, t) : TokenRanges(f, in, t);
  if (!ChooseParameters<Pairs>(f, t)) {
    EncodeTileReference(f, in, t, frame);
    for (uint32_t r = 0; r < t.rows; ++r) {
      PackRowSimd<kBits>(t.codes + uint64_t{r} * f.shape.dim, f.shape.dim, rows + r * f.row_bytes);
    }
    return;
  }
  const uint64_t first = FirstParameter(f, t);
  std::memcpy(frame + 2 * first, t.scale16, 2 * uint64_t{t.parameters});
  if (!f.spec.symmetric) std::memcpy(frame + f.zeros_at + 2 * first, t.zero16, 2 * uint64_t{t.parameters});
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

template <class Pairs, uint32_t kBits>
void EncodeTile(const IntFrame& f, const uint8_t* in, const IntTile& t, uint8_t* frame, Destination destination) {
  uint8_t* rows = frame + f.codes_at + (uint64_t{t.head} * f.shape.tokens + t.token) * f.row_bytes;
  if (destination == Destination::kCache) return EncodeTileTo<Pairs, kBits>(f, in, t, frame, rows);
  EncodeTileTo<Pairs, kBits>(f, in, t, frame, t.packed);
  StreamCopy(t.packed, rows, t.rows * f.row_bytes);
}

template <class Pairs>
void EncodeFrame(const IntFrame& f, const uint8_t* dense, uint8_t* frame, std::vector<std::byte>& scratch,
                 Destination destination) {
  ForEachTile(f, scratch, [&](const IntTile& t, uint64_t at) {
    switch (f.spec.bits) {
      case 8:
        return EncodeTile<Pairs, 8>(f, dense + at, t, frame, destination);
      case 4:
        return EncodeTile<Pairs, 4>(f, dense + at, t, frame, destination);
      case 3:
        return EncodeTile<Pairs, 3>(f, dense + at, t, frame, destination);
      default:
        return EncodeTile<Pairs, 2>(f, dense + at, t, frame, destination);
    }
  });
}

bool EncodeAny(const IntFrame& as_given, const uint8_t* dense, uint8_t* frame, std::vector<std::byte>& scratch,
               Destination destination) {
  const IntFrame f = OneGroupARow(as_given);
  f.shape.element == ElementType::kBfloat16 ? EncodeFrame<Bf16Pairs>(f, dense, frame, scratch, destination)
                                            : EncodeFrame<Fp16Pairs>(f, dense, frame, scratch, destination);
  hwy::FlushStream();
  return true;
}

#endif  // HWY_SCALAR
}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvasir::simd {

HWY_EXPORT(EncodeAny);

bool EncodeIntFrame(const IntFrame& f, const uint8_t* dense, uint8_t* frame, std::vector<std::byte>& scratch,
                    Destination destination) {
  return HasIntBody(f) && HWY_DYNAMIC_DISPATCH(EncodeAny)(f, dense, frame, scratch, destination);
}

}  // namespace kvasir::simd
#endif
