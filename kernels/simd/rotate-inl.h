// SPDX-License-Identifier: Apache-2.0
// T:had on rows in SIMD: elements to rotated floats and back; the same bits as t_had.h. A row of floats lies in steps
// of Lanes16 channels, the even ones before the odd ones, so that distance 1 is between vectors, distances 2 to the
// lanes are inside one, and the others are between vectors again.
#if defined(KVASIR_SIMD_ROTATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVASIR_SIMD_ROTATE_INL_H_
#undef KVASIR_SIMD_ROTATE_INL_H_
#else
#define KVASIR_SIMD_ROTATE_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/simd/formats-inl.h"
#include "kernels/stages/q_int.h"
#include "kernels/stages/t_had.h"

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {

/// T:had of one frame.
struct Rotation {
  uint32_t dim = 0, width = 0;
  float root = 0;           ///< HadStage::InverseRoot
  uint8_t* turn = nullptr;  ///< a row of elements: the signs
};

/// HadStage::Sign of channels `c`.
HWY_INLINE VecU32 SignsOf(uint32_t seed, VecU32 c) {
  if (seed == 0) return U32(0);
  VecU32 h = hn::Xor(hn::Mul(hn::Add(c, U32(1)), U32(0x9E3779B1u)), U32(seed * 0x85EBCA6Bu));
  h = hn::Xor(h, hn::ShiftRight<16>(h));
  h = hn::Mul(h, U32(0x7FEB352Du));
  return hn::ShiftLeft<31>(hn::Xor(h, hn::ShiftRight<15>(h)));
}

/// `turn` has room for a row of elements.
template <class Pairs>
HWY_INLINE Rotation RotationOf(const HadStage::Args& args, uint32_t dim, uint8_t* turn) {
  for (uint32_t c = 0; c < dim; c += kStep) {
    const VecU32 even = hn::Add(hn::ShiftLeft<1>(hn::Iota(LanesU32(), 0)), U32(c));
    Pairs::StoreSigns(SignsOf(args.seed, even), SignsOf(args.seed, hn::Add(even, U32(1))), turn + Pairs::kBytes * c);
  }
  const uint32_t width = HadStage::Width(args, dim);
  return {dim, width, HadStage::InverseRoot(width), turn};
}

/// -1 where (a - b) belongs, in the upper lane of a pair at distance kDistance; elsewhere 1.
template <uint32_t kDistance>
HWY_INLINE VecF32 UpperLanes() {
  const VecU32 lane = hn::Iota(LanesU32(), 0);
  const VecU32 sign = hn::IfThenElseZero(hn::TestBit(lane, U32(kDistance)), U32(0x80000000u));
  return FloatOf(hn::Or(sign, BitsOf(F32(1.0f))));
}

/// Every lane's partner at distance kDistance.
template <uint32_t kDistance>
HWY_INLINE VecF32 Partners(VecF32 v) {
  if constexpr (kDistance == 1) return hn::Shuffle2301(v);
  if constexpr (kDistance == 2) return hn::Shuffle1032(v);
  if constexpr (kDistance == 4) return hn::SwapAdjacentBlocks(v);
  if constexpr (kDistance == 8) return hn::ConcatLowerUpper(LanesF32(), v, v);
}

/// kSteps steps of each of kRows rows, row after row.
template <uint32_t kSteps, uint32_t kRows>
struct Steps {
  static constexpr uint32_t kAll = kSteps * kRows;
  VecF32 even[kAll], odd[kAll];
};

/// UpperLanes of every distance inside a vector.
struct Uppers {
  VecF32 of1, of2, of4, of8;
};
HWY_INLINE Uppers AllUppers() { return {UpperLanes<1>(), UpperLanes<2>(), UpperLanes<4>(), UpperLanes<8>()}; }

constexpr uint64_t kRowsAhead = 8192;  // bytes of elements, asked for before they are rotated
/// How much of a row is asked for while rows are rotated; the rest while they are coded, or the CPU has too many lines
/// on their way at once.
constexpr uint64_t FirstAhead(uint64_t row_bytes) { return row_bytes / 2; }

/// How many rows go through the rounds at once: one has too few sums that do not wait for each other.
constexpr uint32_t kRowsAtOnce = kFloatLanes >= 16 ? 2 : 1;  // as far as registers allow

/// (a, b) -> (a + b, a - b) in every vector. The product with 1 or -1 is exact: with or without a fused multiply-add
/// the sum is the same.
template <uint32_t kDistance, class X>
HWY_INLINE void LaneRound(VecF32 upper, X& x) {
  for (uint32_t s = 0; s < X::kAll; ++s) {
    x.even[s] = hn::MulAdd(x.even[s], upper, Partners<kDistance>(x.even[s]));
    x.odd[s] = hn::MulAdd(x.odd[s], upper, Partners<kDistance>(x.odd[s]));
  }
}

HWY_INLINE void Butterfly(VecF32& a, VecF32& b) {
  const VecF32 sum = hn::Add(a, b);
  b = hn::Sub(a, b);
  a = sum;
}

/// The rounds at distances below `width` that stay inside kSteps steps. REQUIRES: more than one are not wider than
/// `width`.
template <uint32_t kSteps, uint32_t kRows>
HWY_INLINE void Rounds(uint32_t width, const Uppers& uppers, Steps<kSteps, kRows>& x) {
  constexpr bool kWhole = kSteps > 1;
  if (kWhole || width > 1) {
    for (uint32_t s = 0; s < x.kAll; ++s) Butterfly(x.even[s], x.odd[s]);
  }
  if (kWhole || width > 2) LaneRound<1>(uppers.of1, x);
  if (kWhole || width > 4) LaneRound<2>(uppers.of2, x);
  if constexpr (kFloatLanes > 4) {
    if (kWhole || width > 8) LaneRound<4>(uppers.of4, x);
  }
  if constexpr (kFloatLanes > 8) {
    if (kWhole || width > 16) LaneRound<8>(uppers.of8, x);
  }
  for (uint32_t distance = 1; distance < kSteps; distance *= 2) {
    for (uint32_t s = 0; s < x.kAll; ++s) {
      if ((s & distance) != 0) continue;
      Butterfly(x.even[s], x.even[s + distance]);
      Butterfly(x.odd[s], x.odd[s + distance]);
    }
  }
}

template <class X>
HWY_INLINE void Scale(float root, X& x) {
  for (uint32_t s = 0; s < X::kAll; ++s) {
    x.even[s] = hn::Mul(x.even[s], F32(root));
    x.odd[s] = hn::Mul(x.odd[s], F32(root));
  }
}

/// The rounds from distance `from` on, of a row in memory, and the product with the root.
HWY_INLINE void FarRounds(const Rotation& r, uint32_t from, float* row) {
  const LanesF32 d;
  for (uint32_t distance = from; distance < r.width; distance *= 2) {
    const VecF32 factor = F32(2 * distance < r.width ? 1.0f : r.root);
    for (uint32_t i = 0; i < r.dim; i += 2 * distance) {
      for (uint32_t j = i; j < i + distance; j += kFloatLanes) {
        VecF32 a = hn::LoadU(d, row + j), b = hn::LoadU(d, row + j + distance);
        Butterfly(a, b);
        hn::StoreU(hn::Mul(a, factor), d, row + j);
        hn::StoreU(hn::Mul(b, factor), d, row + j + distance);
      }
    }
  }
}

/// Steps to `rows`, which are `dim` floats apart.
template <class Rows, uint32_t kSteps, uint32_t kRows>
HWY_INLINE void StoreSteps(const Steps<kSteps, kRows>& x, uint32_t dim, float* rows) {
  for (uint32_t s = 0; s < x.kAll; ++s) {
    float* at = rows + s / kSteps * dim + s % kSteps * kStep;
    Rows::template Store<false>(x.even[s], x.odd[s], reinterpret_cast<uint8_t*>(at));
  }
}

/// ChainInput of `v`, whose bound is that of IntInput; a NaN becomes the zero that `turn` is: 0 with its sign changed.
template <class Pairs>
HWY_INLINE VecF32 Bounded(VecF32 v, VecF32 turn) {
  const VecF32 bounded = hn::Max(hn::Min(v, F32(kIntInputMax)), F32(-kIntInputMax));
  return hn::IfThenElse(Pairs::IsNaN(v), turn, bounded);
}

/// HadStage::Forward of `rows` rows of elements to floats as Rows lays them, kRows at a time, but for the bounds where
/// kCareful is false. Returns the greatest magnitudes.
template <class Pairs, class Rows, uint32_t kSteps, uint32_t kRows, bool kCareful>
HWY_INLINE typename Pairs::Magnitudes RotateRows(const Rotation& rotation, const uint8_t* in, uint32_t rows,
                                                 float* out) {
  constexpr uint32_t kChannels = kSteps * kStep;
  const Rotation r = rotation;  // here no store can change it
  const Uppers uppers = AllUppers();
  auto greatest = hn::Zero(typename Pairs::LanesOfMagnitudes());
  const uint64_t row_bytes = Pairs::kBytes * r.dim;
  for (uint32_t row = 0; row < rows; row += kRows, in += kRows * row_bytes, out += kRows * uint64_t{r.dim}) {
    for (uint32_t i = 0; i < kRows; ++i) Prefetch(in + kRowsAhead + i * row_bytes, FirstAhead(row_bytes));
    for (uint64_t c = 0; c < r.dim; c += kChannels) {
      Steps<kSteps, kRows> x;
      for (uint32_t s = 0; s < x.kAll; ++s) {
        const uint64_t at = Pairs::kBytes * (c + s % kSteps * kStep);
        Pairs::LoadTurned(in + s / kSteps * row_bytes + at, r.turn + at, greatest, x.even[s], x.odd[s]);
        if constexpr (kCareful) {
          VecF32 even_turn, odd_turn;
          Pairs::Load(r.turn + at, even_turn, odd_turn);
          x.even[s] = Bounded<Pairs>(x.even[s], even_turn);
          x.odd[s] = Bounded<Pairs>(x.odd[s], odd_turn);
        }
      }
      Rounds(r.width, uppers, x);
      if (r.width <= kChannels) Scale(r.root, x);
      StoreSteps<Rows>(x, r.dim, out + c);
    }
    if (r.width <= kChannels) continue;
    for (uint32_t i = 0; i < kRows; ++i) FarRounds(r, kChannels, out + i * uint64_t{r.dim});
  }
  return greatest;
}

/// The same, as many at a time as is best. False where an element is beyond kIntInputMax or NaN and kCareful is false:
/// the floats are then wrong.
template <class Pairs, class Rows, uint32_t kSteps, bool kCareful>
HWY_INLINE bool Rotate(const Rotation& r, const uint8_t* in, uint32_t rows, float* out) {
  const uint32_t first = rows / kRowsAtOnce * kRowsAtOnce;
  auto greatest = RotateRows<Pairs, Rows, kSteps, kRowsAtOnce, kCareful>(r, in, first, out);
  if (first < rows) {
    greatest =
        hn::Max(greatest, RotateRows<Pairs, Rows, kSteps, 1, kCareful>(r, in + Pairs::kBytes * first * r.dim,
                                                                       rows - first, out + uint64_t{first} * r.dim));
  }
  return kCareful || !Pairs::IsBeyond(greatest);
}

/// HadStage::Inverse of `count` rows of floats, which are used up, to elements; kRows at a time.
template <class Pairs, class Rows, uint32_t kSteps, uint32_t kRows, bool kStream>
HWY_INLINE void RotateRowsBack(const Rotation& rotation, float* rows, uint32_t count, uint8_t* out) {
  constexpr uint32_t kChannels = kSteps * kStep;
  const Rotation r = rotation;
  const Uppers uppers = AllUppers();
  const bool far = r.width > kChannels;
  const uint64_t row_bytes = Pairs::kBytes * r.dim;
  for (uint32_t row = 0; row < count; row += kRows, rows += kRows * uint64_t{r.dim}, out += kRows * row_bytes) {
    for (uint32_t pass = far ? 0 : 1; pass < 2; ++pass) {  // the first goes back to memory for the far rounds
      for (uint64_t c = 0; c < r.dim; c += kChannels) {
        Steps<kSteps, kRows> x;
        for (uint32_t s = 0; s < x.kAll; ++s) {
          const float* at = rows + s / kSteps * r.dim + c + s % kSteps * kStep;
          Rows::Load(reinterpret_cast<const uint8_t*>(at), x.even[s], x.odd[s]);
        }
        if (pass == 0 || !far) Rounds(r.width, uppers, x);
        if (pass == 0) {
          StoreSteps<Rows>(x, r.dim, rows + c);
          continue;
        }
        if (!far) Scale(r.root, x);
        for (uint32_t s = 0; s < x.kAll; ++s) {
          const uint64_t at = Pairs::kBytes * (c + s % kSteps * kStep);
          Pairs::template StoreTurned<kStream>(x.even[s], x.odd[s], r.turn + at, out + s / kSteps * row_bytes + at);
        }
      }
      if (pass == 1) break;
      for (uint32_t i = 0; i < kRows; ++i) FarRounds(r, kChannels, rows + i * uint64_t{r.dim});
    }
  }
}

/// The same, as many at a time as is best.
template <class Pairs, class Rows, uint32_t kSteps, bool kStream>
HWY_INLINE void RotateBack(const Rotation& r, float* rows, uint32_t count, uint8_t* out) {
  const uint32_t first = count / kRowsAtOnce * kRowsAtOnce;
  RotateRowsBack<Pairs, Rows, kSteps, kRowsAtOnce, kStream>(r, rows, first, out);
  if (first == count) return;
  RotateRowsBack<Pairs, Rows, kSteps, 1, kStream>(r, rows + uint64_t{first} * r.dim, count - first,
                                                  out + Pairs::kBytes * first * r.dim);
}

/// use.template operator()<kSteps>(): as many steps at once as a width has and registers hold.
template <class Use>
HWY_INLINE void WithSteps(uint32_t width, const Use& use) {
  if (width >= 4 * kStep) return use.template operator()<4>();
  if (width >= 2 * kStep) return use.template operator()<2>();
  return use.template operator()<1>();
}

}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();
#endif  // not HWY_SCALAR
#endif  // guard
