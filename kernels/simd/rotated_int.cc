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
#include "kernels/simd/int_floats-inl.h"
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

/// What a tile has in its room: a row of elements, its floats and their ranges.
uint64_t RowElementBytes(const IntFrame& f) { return uint64_t{f.shape.dim} * ElementBytes(f.shape.element); }
uint64_t RoomBytes(const IntFrame& f) {
  return RowElementBytes(f) + 4 * uint64_t{TileRows(f)} * f.shape.dim + 8 * PaddedParameters(f);
}
float* RowsOf(const IntFrame& f, const IntTile& t) { return reinterpret_cast<float*>(t.room + RowElementBytes(f)); }

/// IntInput of rotated values.
void BoundRows(const IntFrame& f, const IntTile& t, float* rows) {
  const LanesF32 d;
  for (uint64_t i = 0; i < uint64_t{t.rows} * f.shape.dim; i += kFloatLanes) {
    hn::StoreU(hn::Max(hn::Min(hn::LoadU(d, rows + i), F32(kIntInputMax)), F32(-kIntInputMax)), d, rows + i);
  }
}

/// Rotated rows of a tile, their ranges and parameters. False where kCareful has to do it.
template <class Pairs, uint32_t kSteps, bool kCareful>
bool RotateTile(const Rotation& r, const IntFrame& f, const uint8_t* in, const IntTile& t) {
  float* rows = RowsOf(f, t);
  if (!Rotate<Pairs, RowPairs, kSteps, kCareful>(r, in, t.rows, rows)) return false;
  if (kCareful) BoundRows(f, t, rows);
  float* least = rows + uint64_t{TileRows(f)} * f.shape.dim;
  const FloatTile x = {rows, least, least + PaddedParameters(f)};
  f.spec.by_channel ? FloatChannelRanges(f, t, x) : FloatTokenRanges(f, t, x);
  return ChooseFloatParameters(f, t, x, f.spec.by_channel);
}

template <class Pairs, uint32_t kSteps>
void EncodeRotated(const HadStage::Args& had, const IntFrame& f, const uint8_t* dense, uint8_t* frame,
                   std::vector<std::byte>& scratch, Destination destination) {
  Rotation r;
  ForEachTile(f, scratch, RoomBytes(f), [&](IntTile& t, uint64_t at) {
    if (at == 0) r = RotationOf<Pairs>(had, f.shape.dim, t.room);
    const uint8_t* in = dense + Pairs::kBytes * at;
    t.ahead_stride = RowElementBytes(f);
    t.ahead_bytes = t.ahead_stride - FirstAhead(t.ahead_stride);
    t.ahead = in + kRowsAhead + FirstAhead(t.ahead_stride);
    if (!RotateTile<Pairs, kSteps, false>(r, f, in, t)) RotateTile<Pairs, kSteps, true>(r, f, in, t);
    WriteParameters(f, t, frame);
    const uint8_t* rows = reinterpret_cast<const uint8_t*>(RowsOf(f, t));
    uint8_t* out = destination == Destination::kCache ? RowsOfTile(f, t, frame) : t.packed;
    WithIntBits(f, [&]<uint32_t kBits>() { EncodeTileRows<RowPairs, kBits>(f, rows, t, out); });
    if (destination == Destination::kMemory) StreamCopy(out, RowsOfTile(f, t, frame), t.rows * f.row_bytes);
  });
}

template <class Pairs, uint32_t kSteps, bool kStream>
void DecodeRotated(const HadStage::Args& had, const IntFrame& f, const uint8_t* frame, uint8_t* dense,
                   std::vector<std::byte>& scratch) {
  Rotation r;
  ForEachTile(f, scratch, RoomBytes(f), [&](const IntTile& t, uint64_t at) {
    if (at == 0) r = RotationOf<Pairs>(had, f.shape.dim, t.room);
    float* rows = RowsOf(f, t);
    uint8_t* bytes = reinterpret_cast<uint8_t*>(rows);
    WithIntBits(f, [&]<uint32_t kBits>() { DecodeTile<RowPairs, kBits, false>(f, frame, t, bytes); });
    RotateBack<Pairs, RowPairs, kSteps, kStream>(r, rows, t.rows, dense + Pairs::kBytes * at);
  });
}

bool EncodeRotatedAny(const HadStage::Args& had, const IntFrame& f, const uint8_t* dense, uint8_t* frame,
                      std::vector<std::byte>& scratch, Destination destination) {
  WithSteps(HadStage::Width(had, f.shape.dim), [&]<uint32_t kSteps>() {
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
  WithSteps(HadStage::Width(had, f.shape.dim), [&]<uint32_t kSteps>() {
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
