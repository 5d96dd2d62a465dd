// SPDX-License-Identifier: Apache-2.0
// Ranges and parameters of Q:int for rows of floats: of the tile of a chain that has transformed its elements.
#if defined(KVASIR_SIMD_INT_FLOATS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef KVASIR_SIMD_INT_FLOATS_INL_H_
#undef KVASIR_SIMD_INT_FLOATS_INL_H_
#else
#define KVASIR_SIMD_INT_FLOATS_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/simd/int_encode-inl.h"

#if HWY_TARGET != HWY_SCALAR
HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {

/// Rows of floats of a tile, and their ranges.
struct FloatTile {
  const float* rows;
  float *least, *greatest;
};

/// How many groups a tile has room for.
inline uint64_t PaddedParameters(const IntFrame& f) {
  const uint64_t parameters = f.spec.by_channel ? f.shape.dim : uint64_t{TileRows(f)} * f.groups;
  return (parameters + kLanesMax - 1) / kLanesMax * kLanesMax;
}

using FloatRange = Range<LanesF32>;

/// Lane by lane over `steps` steps of one group.
HWY_INLINE FloatRange RangeOfSteps(const float* row, uint32_t steps) {
  const LanesF32 d;
  FloatRange a = {hn::LoadU(d, row), hn::LoadU(d, row)},
             b = {hn::LoadU(d, row + kFloatLanes), hn::LoadU(d, row + kFloatLanes)};
  for (uint32_t s = 1; s < steps; ++s) {
    const VecF32 even = hn::LoadU(d, row + s * kStep), odd = hn::LoadU(d, row + s * kStep + kFloatLanes);
    a = {hn::Min(a.least, even), hn::Max(a.greatest, even)};
    b = {hn::Min(b.least, odd), hn::Max(b.greatest, odd)};
  }
  return {hn::Min(a.least, b.least), hn::Max(a.greatest, b.greatest)};
}

/// Rows of one group of kSteps steps each; their count is a multiple of the lanes.
template <uint32_t kSteps>
HWY_INLINE void FloatRowRanges(const IntTile& t, const FloatTile& x) {
  constexpr uint32_t kJoined = kFloatLanes < 8 ? kFloatLanes : 8;
  RangeWriter<LanesF32, kJoined> writer(x.least, x.greatest);
  for (uint32_t r = 0; r < t.rows; r += kJoined) {
    writer.Add(RangeOfGroups<LanesF32, kJoined>(
        r, [&](uint32_t row) { return RangeOfSteps(x.rows + row * kSteps * kStep, kSteps); }));
  }
}

/// Least and greatest of each group of channels of each token of a tile, in order.
HWY_INLINE void FloatTokenRanges(const IntFrame& f, const IntTile& t, const FloatTile& x) {
  if (f.groups == 1 && t.rows % kFloatLanes == 0) {
    if (f.shape.dim == 2 * kStep) return FloatRowRanges<2>(t, x);
    if (f.shape.dim == 4 * kStep) return FloatRowRanges<4>(t, x);
    if (f.shape.dim == 8 * kStep) return FloatRowRanges<8>(t, x);
  }
  RangeWriter<LanesF32, 1> writer(x.least, x.greatest);
  for (uint32_t r = 0; r < t.rows; ++r) {
    const float* row = x.rows + uint64_t{r} * f.shape.dim;
    for (uint32_t begin = 0; begin < f.shape.dim; begin += f.group) {
      const uint32_t channels = begin + f.group < f.shape.dim ? f.group : f.shape.dim - begin;
      writer.Add(RangeOfSteps(row + begin, channels / kStep));
    }
  }
  writer.Finish();
}

/// Least and greatest of each channel of a tile, in the order of a row.
HWY_INLINE void FloatChannelRanges(const IntFrame& f, const IntTile& t, const FloatTile& x) {
  const LanesF32 d;
  const uint32_t dim = f.shape.dim;
  for (uint32_t c = 0; c < dim; c += kFloatLanes) {
    VecF32 least = hn::LoadU(d, x.rows + c), greatest = least;
    for (uint32_t r = 1; r < t.rows; ++r) {
      const VecF32 v = hn::LoadU(d, x.rows + uint64_t{r} * dim + c);
      least = hn::Min(least, v);
      greatest = hn::Max(greatest, v);
    }
    hn::StoreU(least, d, x.least + c);
    hn::StoreU(greatest, d, x.greatest + c);
  }
}

/// Parameters of all groups of a tile from their ranges; `stepped`: they lie as in a row of steps. False, nothing
/// usable, when a value is beyond kIntInputMax.
HWY_INLINE bool ChooseFloatParameters(const IntFrame& f, const IntTile& t, const FloatTile& x, bool stepped) {
  const LanesF32 d;
  for (uint32_t i = t.parameters; i % kStep != 0; ++i) x.least[i] = x.greatest[i] = 0;
  VecF32 least_of_all = hn::Zero(d), greatest_of_all = hn::Zero(d);
  for (uint32_t i = 0; i < t.parameters; i += kStep) {
    VecF32 even_least = hn::LoadU(d, x.least + i), odd_least = hn::LoadU(d, x.least + i + kFloatLanes);
    VecF32 even_greatest = hn::LoadU(d, x.greatest + i), odd_greatest = hn::LoadU(d, x.greatest + i + kFloatLanes);
    if (!stepped) {
      hn::LoadInterleaved2(d, x.least + i, even_least, odd_least);
      hn::LoadInterleaved2(d, x.greatest + i, even_greatest, odd_greatest);
    }
    least_of_all = hn::Min(least_of_all, hn::Min(even_least, odd_least));
    greatest_of_all = hn::Max(greatest_of_all, hn::Max(even_greatest, odd_greatest));
    ChooseStep(f, t, i, even_least, even_greatest, odd_least, odd_greatest);
  }
  return hn::AllFalse(d, hn::Or(hn::Lt(least_of_all, F32(-kIntInputMax)), hn::Gt(greatest_of_all, F32(kIntInputMax))));
}

}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();
#endif  // not HWY_SCALAR
#endif  // guard
