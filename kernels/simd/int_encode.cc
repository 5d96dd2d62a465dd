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
#include "kernels/simd/bodies.h"
#include "kernels/simd/formats-inl.h"
#include "kernels/simd/int_encode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

// One lane cannot hold a pair: the reference is the body for a CPU this old.
bool EncodeAny(const IntFrame&, const uint8_t*, uint8_t*, std::vector<std::byte>&, Destination) { return false; }

#else

using ElementRange = Range<Lanes16>;  // in the integer order of the format

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

/// Lane by lane over the `vectors` vectors of one group.
HWY_INLINE ElementRange RangeOfLanes(const uint8_t* in, uint32_t vectors) {
  ElementRange range;
  range.least = range.greatest = Fold(Load16s(in));
  for (uint32_t v = 1; v < vectors; ++v) {
    const Vec16 x = Fold(Load16s(in + v * 2 * hn::Lanes(Lanes16())));
    range.least = hn::Min(range.least, x);
    range.greatest = hn::Max(range.greatest, x);
  }
  return range;
}

/// Rows of one group of kVectors vectors each; their count is a multiple of the lanes.
template <uint32_t kVectors>
void RowRanges(const uint8_t* in, const IntTile& t) {
  constexpr uint32_t kLanes = hn::MaxLanes(Lanes16()), kJoined = kLanes < 8 ? kLanes : 8;
  constexpr uint64_t kRowBytes = kVectors * 2 * kLanes;
  RangeWriter<Lanes16, kJoined> writer(t.least, t.greatest);
  for (uint32_t r = 0; r < t.rows; r += kJoined) {
    writer.Add(
        RangeOfGroups<Lanes16, kJoined>(r, [&](uint32_t row) { return RangeOfLanes(in + row * kRowBytes, kVectors); }));
  }
}

/// Least and greatest of each group of channels of each token of a tile.
void TokenRanges(const IntFrame& f, const uint8_t* in, const IntTile& t) {
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(Lanes16())), dim = f.shape.dim, group = f.group;
  if (f.groups == 1 && t.rows % n == 0) {
    if (dim == n) return RowRanges<1>(in, t);
    if (dim == 2 * n) return RowRanges<2>(in, t);
    if (dim == 4 * n) return RowRanges<4>(in, t);
  }
  RangeWriter<Lanes16, 1> writer(t.least, t.greatest);
  for (uint32_t r = 0; r < t.rows; ++r, in += 2 * uint64_t{dim}) {
    for (uint32_t begin = 0; begin < dim; begin += group) {
      writer.Add(RangeOfLanes(in + 2 * begin, (begin + group < dim ? group : dim - begin) / n));
    }
  }
  writer.Finish();
}

/// Parameters of all groups of a tile from their ranges. False, nothing usable, when a group is beyond the format's
/// reach.
template <class Pairs>
HWY_INLINE bool ChooseParameters(const IntFrame& f, const IntTile& t) {
  const Lanes16 d;
  const uint32_t n = static_cast<uint32_t>(hn::Lanes(d));
  for (uint32_t i = t.parameters; i % n != 0; ++i) t.least[i] = t.greatest[i] = 0;
  Vec16 least_of_all = hn::Zero(d), greatest_of_all = hn::Zero(d);
  for (uint32_t i = 0; i < t.parameters; i += n) {
    const Vec16 lo = hn::LoadU(d, t.least + i), hi = hn::LoadU(d, t.greatest + i);
    least_of_all = hn::Min(least_of_all, lo);
    greatest_of_all = hn::Max(greatest_of_all, hi);
    const VecU32 least = hn::BitCast(LanesU32(), Fold(lo)), greatest = hn::BitCast(LanesU32(), Fold(hi));
    ChooseStep(f, t, i, Pairs::Even(least), Pairs::Even(greatest), Pairs::Odd(least), Pairs::Odd(greatest));
  }
  const auto beyond = hn::Or(hn::Lt(least_of_all, hn::Set(d, static_cast<int16_t>(-1 - Pairs::kLargest))),
                             hn::Gt(greatest_of_all, hn::Set(d, Pairs::kLargest)));
  return hn::AllFalse(d, beyond);
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
  WriteParameters(f, t, frame);
  EncodeTileRows<Pairs, kBits>(f, in, t, rows);
}

template <class Pairs, uint32_t kBits>
void EncodeTile(const IntFrame& f, const uint8_t* in, const IntTile& t, uint8_t* frame, Destination destination) {
  uint8_t* rows = RowsOfTile(f, t, frame);
  if (destination == Destination::kCache) return EncodeTileTo<Pairs, kBits>(f, in, t, frame, rows);
  EncodeTileTo<Pairs, kBits>(f, in, t, frame, t.packed);
  StreamCopy(t.packed, rows, t.rows * f.row_bytes);
}

template <class Pairs>
void EncodeFrame(const IntFrame& f, const uint8_t* dense, uint8_t* frame, std::vector<std::byte>& scratch,
                 Destination destination) {
  ForEachTile(f, scratch, 0, [&](const IntTile& t, uint64_t at) {
    WithIntBits(f, [&]<uint32_t kBits>() { EncodeTile<Pairs, kBits>(f, dense + 2 * at, t, frame, destination); });
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
