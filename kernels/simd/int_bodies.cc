// SPDX-License-Identifier: Apache-2.0
// Q:int | P:bits in SIMD, for bf16 and fp16 where head dims (and groups of axis tok) are multiples of 32; else the
// caller runs the reference. Same bits as q_int.h: the same float operations in the same order, on two elements a
// 32-bit lane.
//
// Encode takes a tile of tokens at a time, small enough to stay in the first cache: least and greatest of each group in
// the integer order of the format (sign and magnitude folded to two's complement); parameters of all groups of the
// tile, a vector at a time; codes of each row, packed. A tile with a NaN, an infinity or a value beyond 65504 shows it
// in its least or greatest, and goes through the reference.
#include "kernels/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/int_bodies.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/simd/bits-inl.h"
#include "kernels/simd/bodies.h"
#include "kernels/simd/formats-inl.h"
#include "kernels/simd/int_tile.h"
#include "kernels/simd/stream-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

// One lane cannot hold a pair: the reference is the body for a CPU this old.
bool EncodeAny(const IntFrame&, const uint8_t*, uint8_t*, std::vector<std::byte>&, Destination) { return false; }
bool DecodeAny(const IntFrame&, const uint8_t*, uint8_t*, std::vector<std::byte>&, Destination) { return false; }

#else

/// Sign and magnitude to two's complement order and back.
HWY_INLINE Vec16 Fold(Vec16 x) {
  return hn::Xor(x, hn::And(hn::ShiftRight<15>(x), hn::Set(Lanes16(), int16_t{0x7FFF})));
}
HWY_INLINE Vec16 LoadFolded(const uint8_t* p) { return Fold(hn::BitCast(Lanes16(), LoadPairs(p))); }

/// Least and greatest of each channel of a tile: kVectors vectors of channels at a time.
template <int kVectors>
HWY_INLINE void ChannelRange(const uint8_t* in, uint32_t rows, uint64_t row_bytes, int16_t* least, int16_t* greatest) {
  const Lanes16 d;
  const size_t n = hn::Lanes(d);
  Vec16 lo[4], hi[4];
  for (int v = 0; v < kVectors; ++v) lo[v] = hi[v] = LoadFolded(in + 2 * n * v);
  for (uint32_t r = 1; r < rows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      const Vec16 x = LoadFolded(in + r * row_bytes + 2 * n * v);
      lo[v] = hn::Min(lo[v], x);
      hi[v] = hn::Max(hi[v], x);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    hn::StoreU(lo[v], d, least + n * v);
    hn::StoreU(hi[v], d, greatest + n * v);
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

/// The least lane of each 128-bit block, in the block's first lane.
HWY_INLINE Vec16 LeastOfBlock(Vec16 v) {
  const hn::RepartitionToWide<Lanes16> d32;
  const Lanes16 d;
  v = hn::Min(v, hn::BitCast(d, hn::Shuffle1032(hn::BitCast(d32, v))));
  v = hn::Min(v, hn::BitCast(d, hn::Shuffle2301(hn::BitCast(d32, v))));
  return hn::Min(v, hn::BitCast(d, hn::RotateRight<16>(hn::BitCast(hn::RebindToUnsigned<decltype(d32)>(), v))));
}

/// Least lane of `lo` and greatest of `hi` at once: complemented, the greatest is the least.
HWY_INLINE void ReduceRange(Vec16 lo, Vec16 hi, int16_t& least, int16_t& greatest) {
  const Vec16 not_hi = hn::Not(hi);
#if HWY_TARGET != HWY_AVX2 && HWY_TARGET != HWY_AVX3
  static_assert(hn::MaxLanes(Lanes16()) == 8, "one block: a wider target takes the other branch");
  least = hn::GetLane(LeastOfBlock(lo));
  greatest = static_cast<int16_t>(~hn::GetLane(LeastOfBlock(not_hi)));
#else
  const Lanes16 d;
  const Vec16 halves = hn::Min(hn::ConcatLowerLower(d, not_hi, lo), hn::ConcatUpperUpper(d, not_hi, lo));
  const Vec16 blocks = LeastOfBlock(halves);
  constexpr size_t kHalf = hn::MaxLanes(Lanes16()) / 2;
  alignas(64) int16_t lanes[2 * kHalf];
  hn::Store(blocks, d, lanes);
  least = lanes[0];
  greatest = static_cast<int16_t>(~lanes[kHalf]);
  if constexpr (kHalf == 16) {  // two blocks each
    least = lanes[8] < least ? lanes[8] : least;
    const int16_t other = static_cast<int16_t>(~lanes[kHalf + 8]);
    greatest = other > greatest ? other : greatest;
  }
#endif
}

/// Least and greatest of each group of channels of each token of a tile.
void TokenRanges(const IntFrame& f, const uint8_t* in, const IntTile& t) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16())), dim = f.shape.dim, group = f.group, rows = t.rows;
  uint32_t i = 0;
  for (uint32_t r = 0; r < rows; ++r, in += 2 * uint64_t{dim}) {
    for (uint32_t begin = 0; begin < dim; begin += group, ++i) {
      const uint32_t end = begin + group < dim ? begin + group : dim;
      Vec16 lo = LoadFolded(in + 2 * begin);
      Vec16 hi = lo;
      for (uint32_t c = begin + n; c < end; c += n) {
        const Vec16 x = LoadFolded(in + 2 * c);
        lo = hn::Min(lo, x);
        hi = hn::Max(hi, x);
      }
      ReduceRange(lo, hi, t.least[i], t.greatest[i]);
    }
  }
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
    zero16 = HalfTowards<false>(hn::Add(least, F32(0.0f)));
    zero = FloatOfHalf(zero16);
    range = hn::Sub(greatest, zero);
  }
  range = hn::IfThenElseZero(hn::Gt(range, F32(0.0f)), range);
  const VecU32 scale16 = HalfTowards<true>(hn::Div(range, F32(steps)));
  const VecF32 scale = FloatOfHalf(scale16);
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

/// Where parameter `i` of a tile stands in the arrays that have even ones before odd ones.
HWY_INLINE uint32_t Shuffled(uint32_t i) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16()));
  return i / n * n + (i & 1) * (n / 2) + i % n / 2;
}

/// The code lies in the low byte.
HWY_INLINE VecU32 Code(VecF32 magic, VecF32 x, VecF32 zero, VecF32 inverse) {
  return BitsOf(hn::Add(hn::Mul(hn::Sub(x, zero), inverse), magic));
}

/// Codes of one step of channels, kWidth (8 or 4) bits each.
template <class Pairs, uint32_t kWidth>
HWY_INLINE void EncodeStep(VecF32 magic, const uint8_t* in, VecF32 even_zero, VecF32 even_inverse, VecF32 odd_zero,
                           VecF32 odd_inverse, uint8_t* codes) {
  const VecU32 x = LoadPairs(in);
  const VecU32 even = Code(magic, Pairs::Even(x), even_zero, even_inverse);
  const VecU32 odd = Code(magic, Pairs::Odd(x), odd_zero, odd_inverse);
  const VecU32 pairs = hn::Or(even, hn::ShiftLeft<kWidth>(odd));
  if constexpr (kWidth == 8) {
    const hn::Rebind<uint16_t, LanesU32> d;
    hn::StoreU(hn::TruncateTo(d, pairs), d, reinterpret_cast<uint16_t*>(codes));
  } else {
    const hn::Rebind<uint8_t, LanesU32> d;
    hn::StoreU(hn::TruncateTo(d, pairs), d, codes);
  }
}

/// Codes of all rows of a tile, `codes_stride` bytes apart.
template <class Pairs, uint32_t kWidth>
HWY_INLINE void EncodeRows(const IntFrame& f, VecF32 magic, const uint8_t* in, const IntTile& t, uint8_t* codes,
                           uint64_t codes_stride) {
  const LanesF32 df;
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16())), dim = f.shape.dim, rows = t.rows, group = f.group;
  const uint64_t row_bytes = 2 * uint64_t{dim};
  const uint8_t* next = in + rows * row_bytes;  // the next tile travels while this one is coded
  if (f.spec.by_channel) {
    for (uint32_t c = 0; c < dim; c += n) {  // parameters stay in registers down the column
      const VecF32 even_zero = hn::LoadU(df, t.zero + c), odd_zero = hn::LoadU(df, t.zero + c + n / 2);
      const VecF32 even_inverse = hn::LoadU(df, t.other + c), odd_inverse = hn::LoadU(df, t.other + c + n / 2);
      const uint8_t* from = in + 2 * c;
      uint8_t* to = codes + c * kWidth / 8;
      for (uint32_t r = 0; r < rows; ++r, from += row_bytes, to += codes_stride) {
        Prefetch(from + (next - in), 1);
        EncodeStep<Pairs, kWidth>(magic, from, even_zero, even_inverse, odd_zero, odd_inverse, to);
      }
    }
    return;
  }
  uint32_t i = 0;
  for (uint32_t r = 0; r < rows; ++r, in += row_bytes, codes += codes_stride, next += row_bytes) {
    Prefetch(next, row_bytes);
    for (uint32_t begin = 0; begin < dim; begin += group, ++i) {
      const uint32_t end = begin + group < dim ? begin + group : dim;
      const VecF32 zero = hn::Set(df, t.zero[Shuffled(i)]), inverse = hn::Set(df, t.other[Shuffled(i)]);
      for (uint32_t c = begin; c < end; c += n) {
        EncodeStep<Pairs, kWidth>(magic, in + 2 * c, zero, inverse, zero, inverse, codes + c * kWidth / 8);
      }
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
  if constexpr (kBits == 8 || kBits == 4) {
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

/// Scales and zeros of a tile as float, even ones before odd ones in each step.
void LoadParameters(const IntFrame& f, const uint8_t* frame, const IntTile& t) {
  const LanesF32 df;
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16()));
  const uint64_t first = FirstParameter(f, t);
  std::memcpy(t.scale16, frame + 2 * first, 2 * uint64_t{t.parameters});
  if (!f.spec.symmetric) std::memcpy(t.zero16, frame + f.zeros_at + 2 * first, 2 * uint64_t{t.parameters});
  for (uint32_t i = 0; i < t.parameters; i += n) {
    const VecU32 scale = LoadPairs(t.scale16 + 2 * i);
    const VecU32 zero = f.spec.symmetric ? U32(0) : LoadPairs(t.zero16 + 2 * i);
    hn::StoreU(Fp16Pairs::Even(scale), df, t.other + i);
    hn::StoreU(Fp16Pairs::Odd(scale), df, t.other + i + n / 2);
    hn::StoreU(Fp16Pairs::Even(zero), df, t.zero + i);
    hn::StoreU(Fp16Pairs::Odd(zero), df, t.zero + i + n / 2);
  }
}

/// One pair of codes in each lane, the even one in the low kWidth bits, nothing above the odd one.
template <uint32_t kWidth>
HWY_INLINE VecU32 LoadCodePairs(const uint8_t* codes) {
  if constexpr (kWidth == 8) {
    const hn::Rebind<uint16_t, LanesU32> d;
    return hn::PromoteTo(LanesU32(), hn::LoadU(d, reinterpret_cast<const uint16_t*>(codes)));
  } else {
    return hn::PromoteTo(LanesU32(), hn::LoadU(hn::Rebind<uint8_t, LanesU32>(), codes));
  }
}

template <class Pairs, uint32_t kWidth, bool kStream>
HWY_INLINE void DecodeStep(Vec32 middle, const uint8_t* codes, VecF32 even_zero, VecF32 even_scale, VecF32 odd_zero,
                           VecF32 odd_scale, uint8_t* out) {
  const VecU32 pairs = LoadCodePairs<kWidth>(codes);
  const Vec32 even = hn::Sub(hn::BitCast(Lanes32(), hn::And(pairs, U32((1u << kWidth) - 1))), middle);
  const Vec32 odd = hn::Sub(hn::BitCast(Lanes32(), hn::ShiftRight<kWidth>(pairs)), middle);
  const VecF32 even_value = hn::MulAdd(hn::ConvertTo(LanesF32(), even), even_scale, even_zero);
  const VecF32 odd_value = hn::MulAdd(hn::ConvertTo(LanesF32(), odd), odd_scale, odd_zero);
  StorePairs<kStream>(Pairs::Join(even_value, odd_value), out);
}

/// Elements of all rows of a tile from codes `codes_stride` bytes apart.
template <class Pairs, uint32_t kWidth, bool kStream>
HWY_INLINE void DecodeRows(const IntFrame& f, Vec32 middle, const uint8_t* codes, uint64_t codes_stride,
                           const IntTile& t, uint8_t* out) {
  const LanesF32 df;
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16())), dim = f.shape.dim, rows = t.rows, group = f.group;
  uint32_t i = 0;
  for (uint32_t r = 0; r < rows; ++r, codes += codes_stride, out += 2 * uint64_t{dim}) {
    Prefetch(codes + kCodesAhead, codes_stride);
    if (f.spec.by_channel) {  // row by row all the same: whole rows of stores fill whole cache lines
      for (uint32_t c = 0; c < dim; c += n) {
        DecodeStep<Pairs, kWidth, kStream>(middle, codes + c * kWidth / 8, hn::LoadU(df, t.zero + c),
                                           hn::LoadU(df, t.other + c), hn::LoadU(df, t.zero + c + n / 2),
                                           hn::LoadU(df, t.other + c + n / 2), out + 2 * c);
      }
      continue;
    }
    for (uint32_t begin = 0; begin < dim; begin += group, ++i) {
      const uint32_t end = begin + group < dim ? begin + group : dim;
      const VecF32 zero = hn::Set(df, t.zero[Shuffled(i)]), scale = hn::Set(df, t.other[Shuffled(i)]);
      for (uint32_t c = begin; c < end; c += n) {
        DecodeStep<Pairs, kWidth, kStream>(middle, codes + c * kWidth / 8, zero, scale, zero, scale, out + 2 * c);
      }
    }
  }
}

template <class Pairs, uint32_t kBits, bool kStream>
void DecodeTile(const IntFrame& f, const uint8_t* frame, const IntTile& t, uint8_t* out) {
  const Vec32 middle = hn::Set(Lanes32(), f.spec.symmetric ? 1 << (kBits - 1) : 0);
  const uint8_t* rows = frame + f.codes_at + (uint64_t{t.head} * f.shape.tokens + t.token) * f.row_bytes;
  LoadParameters(f, frame, t);
  if constexpr (kBits == 8 || kBits == 4) {
    DecodeRows<Pairs, kBits, kStream>(f, middle, rows, f.row_bytes, t, out);
  } else {
    for (uint32_t r = 0; r < t.rows; ++r) {
      Prefetch(rows + r * f.row_bytes + kCodesAhead, f.row_bytes);
      UnpackRowSimd<kBits>(rows + r * f.row_bytes, f.shape.dim, t.codes + uint64_t{r} * f.shape.dim);
    }
    DecodeRows<Pairs, 8, kStream>(f, middle, t.codes, f.shape.dim, t, out);
  }
}

template <class Do>
HWY_INLINE void ForEachTile(const IntFrame& f, std::vector<std::byte>& scratch, Do body) {
  IntTile t = MakeTile(f, scratch);
  for (uint32_t head = 0; head < f.shape.heads; ++head) {
    for (uint32_t token = 0; token < f.shape.tokens; token += TileRows(f)) {
      PlaceTile(f, head, token, t);
      body(t, 2 * (uint64_t{head} * f.shape.tokens + token) * f.shape.dim);
    }
  }
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

template <class Pairs, bool kStream>
void DecodeFrame(const IntFrame& f, const uint8_t* frame, uint8_t* dense, std::vector<std::byte>& scratch) {
  ForEachTile(f, scratch, [&](const IntTile& t, uint64_t at) {
    switch (f.spec.bits) {
      case 8:
        return DecodeTile<Pairs, 8, kStream>(f, frame, t, dense + at);
      case 4:
        return DecodeTile<Pairs, 4, kStream>(f, frame, t, dense + at);
      case 3:
        return DecodeTile<Pairs, 3, kStream>(f, frame, t, dense + at);
      default:
        return DecodeTile<Pairs, 2, kStream>(f, frame, t, dense + at);
    }
  });
}

bool EncodeAny(const IntFrame& f, const uint8_t* dense, uint8_t* frame, std::vector<std::byte>& scratch,
               Destination destination) {
  f.shape.element == ElementType::kBfloat16 ? EncodeFrame<Bf16Pairs>(f, dense, frame, scratch, destination)
                                            : EncodeFrame<Fp16Pairs>(f, dense, frame, scratch, destination);
  hwy::FlushStream();
  return true;
}

template <class Pairs>
void DecodeTo(const IntFrame& f, const uint8_t* frame, uint8_t* dense, std::vector<std::byte>& scratch,
              Destination destination) {
  const bool aligned = reinterpret_cast<uintptr_t>(dense) % 64 == 0;  // and so are the rows: multiples of 64 bytes
  destination == Destination::kMemory&& aligned ? DecodeFrame<Pairs, true>(f, frame, dense, scratch)
                                                : DecodeFrame<Pairs, false>(f, frame, dense, scratch);
}

bool DecodeAny(const IntFrame& f, const uint8_t* frame, uint8_t* dense, std::vector<std::byte>& scratch,
               Destination destination) {
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

HWY_EXPORT(EncodeAny);
HWY_EXPORT(DecodeAny);

bool EncodeIntFrame(const IntFrame& f, const uint8_t* dense, uint8_t* frame, std::vector<std::byte>& scratch,
                    Destination destination) {
  return HasIntBody(f) && HWY_DYNAMIC_DISPATCH(EncodeAny)(f, dense, frame, scratch, destination);
}

bool DecodeIntFrame(const IntFrame& f, const uint8_t* frame, uint8_t* dense, std::vector<std::byte>& scratch,
                    Destination destination) {
  return HasIntBody(f) && HWY_DYNAMIC_DISPATCH(DecodeAny)(f, frame, dense, scratch, destination);
}

}  // namespace kvasir::simd
#endif
