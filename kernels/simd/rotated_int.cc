// SPDX-License-Identifier: Apache-2.0
// T:had | Q:int | P:bits in SIMD, for bf16, fp16 and fp32 where head dims (and groups of axis tok) are multiples of 32;
// else the caller runs the stages. The bits of the stages: rotate-inl.h, then Q:int of floats as int_encode.cc and
// int_decode.cc have it of elements. A tile of rotated rows stays in the first cache as floats, from its transform to
// its codes.
//
// A tile with a NaN, an infinity or a value beyond 65504, before or behind the transform, is done again with the bounds
// of ChainInput and IntInput; others need none.
#include "kernels/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/rotated_int.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "hwy/cache_control.h"
#include "hwy/highway.h"
#include "kernels/simd/bodies.h"
#include "kernels/simd/int_decode-inl.h"
#include "kernels/simd/int_encode-inl.h"
#include "kernels/simd/rotate-inl.h"

HWY_BEFORE_NAMESPACE();
namespace kvasir::simd {
namespace HWY_NAMESPACE {
#if HWY_TARGET == HWY_SCALAR

bool EncodeRotatedAny(const HadStage::Args&, const IntFrame&, const uint8_t*, uint8_t*, std::vector<std::byte>&,
                      Destination) {
  return false;
}
bool DecodeRotatedAny(const HadStage::Args&, const IntFrame&, const uint8_t*, uint8_t*, std::vector<std::byte>&,
                      Destination) {
  return false;
}

#else

/// What a tile has in its room: a row of elements, rows of floats, and their ranges.
struct RotatedRoom {
  uint8_t* turn;
  float *rows, *least, *greatest;
};

uint64_t RowElementBytes(const IntFrame& f) { return uint64_t{f.shape.dim} * ElementBytes(f.shape.element); }
uint64_t PaddedParameters(const IntFrame& f) {
  const uint64_t parameters = f.spec.by_channel ? f.shape.dim : uint64_t{TileRows(f)} * f.groups;
  return (parameters + kLanesMax - 1) / kLanesMax * kLanesMax;
}
uint64_t RoomBytes(const IntFrame& f) {
  return RowElementBytes(f) + 4 * uint64_t{TileRows(f)} * f.shape.dim + 8 * PaddedParameters(f);
}
RotatedRoom RoomOf(const IntFrame& f, uint8_t* room) {
  float* rows = reinterpret_cast<float*>(room + RowElementBytes(f));
  float* least = rows + uint64_t{TileRows(f)} * f.shape.dim;
  return {room, rows, least, least + PaddedParameters(f)};
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
void RotatedRowRanges(const IntTile& t, const RotatedRoom& room) {
  constexpr uint32_t kJoined = kFloatLanes < 8 ? kFloatLanes : 8;
  RangeWriter<LanesF32, kJoined> writer(room.least, room.greatest);
  for (uint32_t r = 0; r < t.rows; r += kJoined) {
    writer.Add(RangeOfGroups<LanesF32, kJoined>(
        r, [&](uint32_t row) { return RangeOfSteps(room.rows + row * kSteps * kStep, kSteps); }));
  }
}

/// Least and greatest of each group of channels of each token of a tile, in order.
void RotatedTokenRanges(const IntFrame& f, const IntTile& t, const RotatedRoom& room) {
  if (f.groups == 1 && t.rows % kFloatLanes == 0) {
    if (f.shape.dim == 2 * kStep) return RotatedRowRanges<2>(t, room);
    if (f.shape.dim == 4 * kStep) return RotatedRowRanges<4>(t, room);
    if (f.shape.dim == 8 * kStep) return RotatedRowRanges<8>(t, room);
  }
  RangeWriter<LanesF32, 1> writer(room.least, room.greatest);
  for (uint32_t r = 0; r < t.rows; ++r) {
    const float* row = room.rows + uint64_t{r} * f.shape.dim;
    for (uint32_t begin = 0; begin < f.shape.dim; begin += f.group) {
      const uint32_t channels = begin + f.group < f.shape.dim ? f.group : f.shape.dim - begin;
      writer.Add(RangeOfSteps(row + begin, channels / kStep));
    }
  }
  writer.Finish();
}

/// Least and greatest of each channel of a tile, in the order of a row's steps.
void RotatedChannelRanges(const IntFrame& f, const IntTile& t, const RotatedRoom& room) {
  const LanesF32 d;
  const uint32_t dim = f.shape.dim;
  for (uint32_t c = 0; c < dim; c += kFloatLanes) {
    VecF32 least = hn::LoadU(d, room.rows + c), greatest = least;
    for (uint32_t r = 1; r < t.rows; ++r) {
      const VecF32 x = hn::LoadU(d, room.rows + uint64_t{r} * dim + c);
      least = hn::Min(least, x);
      greatest = hn::Max(greatest, x);
    }
    hn::StoreU(least, d, room.least + c);
    hn::StoreU(greatest, d, room.greatest + c);
  }
}

/// Parameters of all groups of a tile from their ranges. False, nothing usable, when a value is beyond kIntInputMax.
bool ChooseRotatedParameters(const IntFrame& f, const IntTile& t, const RotatedRoom& room) {
  const LanesF32 d;
  for (uint32_t i = t.parameters; i % kStep != 0; ++i) room.least[i] = room.greatest[i] = 0;
  VecF32 least_of_all = hn::Zero(d), greatest_of_all = hn::Zero(d);
  for (uint32_t i = 0; i < t.parameters; i += kStep) {
    VecF32 even_least = hn::LoadU(d, room.least + i), odd_least = hn::LoadU(d, room.least + i + kFloatLanes);
    VecF32 even_greatest = hn::LoadU(d, room.greatest + i),
           odd_greatest = hn::LoadU(d, room.greatest + i + kFloatLanes);
    if (!f.spec.by_channel) {
      hn::LoadInterleaved2(d, room.least + i, even_least, odd_least);
      hn::LoadInterleaved2(d, room.greatest + i, even_greatest, odd_greatest);
    }
    least_of_all = hn::Min(least_of_all, hn::Min(even_least, odd_least));
    greatest_of_all = hn::Max(greatest_of_all, hn::Max(even_greatest, odd_greatest));
    ChooseStep(f, t, i, even_least, even_greatest, odd_least, odd_greatest);
  }
  return hn::AllFalse(d, hn::Or(hn::Lt(least_of_all, F32(-kIntInputMax)), hn::Gt(greatest_of_all, F32(kIntInputMax))));
}

/// IntInput of rotated values.
void BoundRows(const IntFrame& f, const IntTile& t, float* rows) {
  const LanesF32 d;
  for (uint64_t i = 0; i < uint64_t{t.rows} * f.shape.dim; i += kFloatLanes) {
    hn::StoreU(hn::Max(hn::Min(hn::LoadU(d, rows + i), F32(kIntInputMax)), F32(-kIntInputMax)), d, rows + i);
  }
}

/// Rotated rows of a tile, their ranges and parameters. False where kCareful has to do it.
template <class Pairs, uint32_t kSteps, bool kCareful>
bool RotateTile(const Rotation& r, const IntFrame& f, const uint8_t* in, const IntTile& t, const RotatedRoom& room) {
  if (!Rotate<Pairs, kSteps, kCareful>(r, in, t.rows, room.rows)) return false;
  if (kCareful) BoundRows(f, t, room.rows);
  f.spec.by_channel ? RotatedChannelRanges(f, t, room) : RotatedTokenRanges(f, t, room);
  return ChooseRotatedParameters(f, t, room);
}

template <class Pairs, uint32_t kSteps>
void EncodeRotated(const HadStage::Args& had, const IntFrame& f, const uint8_t* dense, uint8_t* frame,
                   std::vector<std::byte>& scratch, Destination destination) {
  Rotation r;
  ForEachTile(f, scratch, RoomBytes(f), [&](const IntTile& t, uint64_t at) {
    const RotatedRoom room = RoomOf(f, t.room);
    if (at == 0) r = RotationOf<Pairs>(had, f.shape.dim, room.turn);
    const uint8_t* in = dense + Pairs::kBytes * at;
    if (!RotateTile<Pairs, kSteps, false>(r, f, in, t, room)) RotateTile<Pairs, kSteps, true>(r, f, in, t, room);
    WriteParameters(f, t, frame);
    const uint8_t* rows = reinterpret_cast<const uint8_t*>(room.rows);
    WithIntBits(f, [&]<uint32_t kBits>() {
      PlaceRows(f, t, frame, destination, [&](uint8_t* out) { EncodeTileRows<RowPairs, kBits>(f, rows, t, out); });
    });
  });
}

template <class Pairs, uint32_t kSteps, bool kStream>
void DecodeRotated(const HadStage::Args& had, const IntFrame& f, const uint8_t* frame, uint8_t* dense,
                   std::vector<std::byte>& scratch) {
  Rotation r;
  ForEachTile(f, scratch, RoomBytes(f), [&](const IntTile& t, uint64_t at) {
    const RotatedRoom room = RoomOf(f, t.room);
    if (at == 0) r = RotationOf<Pairs>(had, f.shape.dim, room.turn);
    uint8_t* rows = reinterpret_cast<uint8_t*>(room.rows);
    WithIntBits(f, [&]<uint32_t kBits>() { DecodeTile<RowPairs, kBits, false>(f, frame, t, rows); });
    RotateBack<Pairs, kSteps, kStream>(r, room.rows, t.rows, dense + Pairs::kBytes * at);
  });
}

/// use.template operator()<kSteps>(): as many steps at once as a width has and registers hold.
template <class Use>
HWY_INLINE void WithSteps(const HadStage::Args& had, const IntFrame& f, const Use& use) {
  const uint32_t width = HadStage::Width(had, f.shape.dim);
  if (width >= 4 * kStep) return use.template operator()<4>();
  if (width >= 2 * kStep) return use.template operator()<2>();
  return use.template operator()<1>();
}

bool EncodeRotatedAny(const HadStage::Args& had, const IntFrame& f, const uint8_t* dense, uint8_t* frame,
                      std::vector<std::byte>& scratch, Destination destination) {
  WithSteps(had, f, [&]<uint32_t kSteps>() {
    if (f.shape.element == ElementType::kFloat32) {
      EncodeRotated<Fp32Pairs, kSteps>(had, f, dense, frame, scratch, destination);
    } else if (f.shape.element == ElementType::kFloat16) {
      EncodeRotated<Fp16Pairs, kSteps>(had, f, dense, frame, scratch, destination);
    } else {
      EncodeRotated<Bf16Pairs, kSteps>(had, f, dense, frame, scratch, destination);
    }
  });
  hwy::FlushStream();
  return true;
}

template <class Pairs>
void DecodeRotatedTo(const HadStage::Args& had, const IntFrame& f, const uint8_t* frame, uint8_t* dense,
                     std::vector<std::byte>& scratch, Destination destination) {
  const bool aligned = reinterpret_cast<uintptr_t>(dense) % 64 == 0;  // and so are the rows: multiples of 64 bytes
  WithSteps(had, f, [&]<uint32_t kSteps>() {
    if (destination == Destination::kMemory && aligned) {
      DecodeRotated<Pairs, kSteps, true>(had, f, frame, dense, scratch);
    } else {
      DecodeRotated<Pairs, kSteps, false>(had, f, frame, dense, scratch);
    }
  });
}

bool DecodeRotatedAny(const HadStage::Args& had, const IntFrame& f, const uint8_t* frame, uint8_t* dense,
                      std::vector<std::byte>& scratch, Destination destination) {
  if (f.shape.element == ElementType::kFloat32) {
    DecodeRotatedTo<Fp32Pairs>(had, f, frame, dense, scratch, Destination::kCache);
  } else if (f.shape.element == ElementType::kFloat16) {
    DecodeRotatedTo<Fp16Pairs>(had, f, frame, dense, scratch, destination);
#if KVASIR_SIMD_BF16_BY_CPU
  } else if (CpuRoundsToBf16()) {
    DecodeRotatedTo<Bf16PairsByCpu>(had, f, frame, dense, scratch, destination);
#endif
  } else {
    DecodeRotatedTo<Bf16Pairs>(had, f, frame, dense, scratch, destination);
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
namespace {

bool HasRotatedBody(const IntFrame& f) {
  if (ElementBytes(f.shape.element) < 2) return false;
  return f.shape.dim % kLanesMax == 0 && (f.spec.by_channel || f.group % kLanesMax == 0);
}

}  // namespace

HWY_EXPORT(EncodeRotatedAny);
HWY_EXPORT(DecodeRotatedAny);

bool EncodeRotatedFrame(const HadStage::Args& had, const IntFrame& f, const uint8_t* dense, uint8_t* frame,
                        std::vector<std::byte>& scratch, Destination destination) {
  return HasRotatedBody(f) && HWY_DYNAMIC_DISPATCH(EncodeRotatedAny)(had, f, dense, frame, scratch, destination);
}

bool DecodeRotatedFrame(const HadStage::Args& had, const IntFrame& f, const uint8_t* frame, uint8_t* dense,
                        std::vector<std::byte>& scratch, Destination destination) {
  return HasRotatedBody(f) && HWY_DYNAMIC_DISPATCH(DecodeRotatedAny)(had, f, frame, dense, scratch, destination);
}

}  // namespace kvasir::simd
#endif
