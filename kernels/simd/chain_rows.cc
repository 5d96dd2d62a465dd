// SPDX-License-Identifier: Apache-2.0
// Steps that chains share, in SIMD, where rows are multiples of 32: elements to floats and back, T:had, Q:int and
// P:bits over rows in memory. Chains of other stages then spend their time in those. Same bits as the stages' bodies.
#include "kernels/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/simd/chain_rows.cc"
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

bool LoadAny(ElementType, const uint8_t*, uint64_t, float*) { return false; }
bool StoreAny(ElementType, const float*, uint64_t, uint8_t*) { return false; }
bool RotateAny(const HadStage::Args&, uint32_t, bool, uint32_t, float*) { return false; }
bool QuantiseIntAny(const IntFrame&, const float*, uint8_t*, uint8_t*) { return false; }
bool DequantiseIntAny(const IntFrame&, uint32_t, const uint8_t*, const uint8_t*, float*) { return false; }
bool PackAny(uint32_t, const uint8_t*, uint32_t, uint64_t, uint8_t*) { return false; }
bool UnpackAny(uint32_t, const uint8_t*, uint32_t, uint64_t, uint8_t*) { return false; }

#else

using Halves = hn::Rebind<uint16_t, LanesU32>;  // as many 16-bit elements as there are floats

template <class Pairs>
void Load16Bits(const uint8_t* in, uint64_t count, float* x) {
  const VecF32 zero = F32(0.0f);
  for (uint64_t i = 0; i < count; i += kFloatLanes) {
    const VecU32 low = hn::PromoteTo(LanesU32(), hn::LoadU(Halves(), reinterpret_cast<const uint16_t*>(in + 2 * i)));
    hn::StoreU(Bounded<Pairs>(Pairs::Even(low), zero), LanesF32(), x + i);
  }
}

bool LoadAny(ElementType type, const uint8_t* dense, uint64_t count, float* x) {
  if (type == ElementType::kBfloat16) {
    Load16Bits<Bf16Pairs>(dense, count, x);
  } else if (type == ElementType::kFloat16) {
    Load16Bits<Fp16Pairs>(dense, count, x);
  } else {
    for (uint64_t i = 0; i < count; i += kFloatLanes) {
      const VecF32 v = hn::LoadU(LanesF32(), reinterpret_cast<const float*>(dense) + i);
      hn::StoreU(Bounded<Fp32Pairs>(v, F32(0.0f)), LanesF32(), x + i);
    }
  }
  return true;
}

/// The greatest magnitude of `count` floats as an integer: 0x7F800000 or more where one is not finite.
HWY_INLINE uint32_t GreatestMagnitude(const float* x, uint64_t count) {
  Vec32 greatest = hn::Zero(Lanes32());
  for (uint64_t i = 0; i < count; i += kFloatLanes) {
    const VecU32 magnitude = hn::And(BitsOf(hn::LoadU(LanesF32(), x + i)), U32(0x7FFFFFFF));
    greatest = hn::Max(greatest, hn::BitCast(Lanes32(), magnitude));
  }
  return static_cast<uint32_t>(hn::GetLane(hn::MaxOfLanes(Lanes32(), greatest)));
}

bool StoreAny(ElementType type, const float* x, uint64_t count, uint8_t* dense) {
  if (GreatestMagnitude(x, count) >= 0x7F800000u) return false;
  if (type == ElementType::kFloat32) {
    std::memcpy(dense, x, 4 * count);
    return true;
  }
  const VecF32 largest = F32(3.38953139e38f);  // of bfloat16
  for (uint64_t i = 0; i < count; i += kFloatLanes) {
    const VecF32 v = hn::LoadU(LanesF32(), x + i);
    const VecU32 half = type == ElementType::kFloat16
                            ? HalfOfFloat(Fp16Pairs::Clamp(v))
                            : hn::ShiftRight<16>(Bf16Pairs::Round(hn::Max(hn::Min(v, largest), hn::Neg(largest))));
    hn::StoreU(hn::TruncateTo(Halves(), half), Halves(), reinterpret_cast<uint16_t*>(dense + 2 * i));
  }
  return true;
}

bool RotateAny(const HadStage::Args& had, uint32_t dim, bool back, uint32_t rows, float* x) {
  std::vector<float> turn(dim);
  const Rotation r = RotationOf<Fp32Pairs>(had, dim, reinterpret_cast<uint8_t*>(turn.data()));
  uint8_t* elements = reinterpret_cast<uint8_t*>(x);  // in place: a step is read before it is written
  WithSteps(r.width, [&]<uint32_t kSteps>() {
    if (back) {
      RotateBack<Fp32Pairs, Fp32Pairs, kSteps, false>(r, x, rows, elements);
    } else {
      static_cast<void>(Rotate<Fp32Pairs, Fp32Pairs, kSteps, false>(r, elements, rows, x));  // they are bounded already
    }
  });
  return true;
}

/// A tile of values by the bodies of IntStage.
void QuantiseTile(const IntFrame& f, const IntTile& t, const float* x, uint8_t* section, uint8_t* codes) {
  for (uint32_t i = 0; i < t.parameters; ++i) {
    const IntGroup g = IntGroupAt(f, FirstParameter(f, t) + i);
    const uint64_t at = uint64_t{g.token - t.token} * f.shape.dim + g.channel;
    const IntParameters p = EncodeIntValues(
        f.spec, g.count, [=](uint32_t k) { return x[at + uint64_t{k} * g.stride]; }, codes + at, g.stride);
    StoreIntParameters(f, p, FirstParameter(f, t) + i, section);
  }
}

bool QuantiseIntAny(const IntFrame& f, const float* x, uint8_t* section, uint8_t* codes) {
  std::vector<std::byte> scratch;
  const VecF32 magic = F32(8388608.0f + (f.spec.symmetric ? static_cast<float>(1 << (f.spec.bits - 1)) : 0.0f));
  ForEachTile(f, scratch, 8 * PaddedParameters(f), [&](const IntTile& t, uint64_t at) {
    float* least = reinterpret_cast<float*>(t.room);
    const FloatTile tile = {x + at, least, least + PaddedParameters(f)};
    if (GreatestMagnitude(x + at, uint64_t{t.rows} * f.shape.dim) > BitsOfFloat(kIntInputMax)) {
      return QuantiseTile(f, t, x + at, section, codes + at);
    }
    f.spec.by_channel ? FloatChannelRanges(f, t, tile) : FloatTokenRanges(f, t, tile);
    ChooseFloatParameters(f, t, tile, false);
    WriteParameters(f, t, section);
    EncodeRows<Fp32Pairs, 8>(f, magic, reinterpret_cast<const uint8_t*>(x + at), t, codes + at, f.shape.dim);
  });
  return true;
}

template <uint32_t kMissing>
void DequantiseTiles(const IntFrame& f, const uint8_t* section, const uint8_t* codes, float* x) {
  std::vector<std::byte> scratch;
  ForEachTile(f, scratch, 0, [&](const IntTile& t, uint64_t at) {
    LoadParameters(f, section, t);
    DecodeRows<Fp32Pairs, 8, false, kMissing>(f, codes + at, f.shape.dim, t, reinterpret_cast<uint8_t*>(x + at));
  });
}

bool DequantiseIntAny(const IntFrame& f, uint32_t missing_bits, const uint8_t* section, const uint8_t* codes,
                      float* x) {
  switch (missing_bits) {
    case 0: DequantiseTiles<0>(f, section, codes, x); return true;
    case 1: DequantiseTiles<1>(f, section, codes, x); return true;
    case 2: DequantiseTiles<2>(f, section, codes, x); return true;
    case 4: DequantiseTiles<4>(f, section, codes, x); return true;
    default: return false;
  }
}

bool PackAny(uint32_t bits, const uint8_t* codes, uint32_t dim, uint64_t rows, uint8_t* out) {
  const uint64_t row_bytes = PackedRowBytes(bits, dim);
  if (bits == 8) {
    std::memcpy(out, codes, rows * dim);
    return true;
  }
  for (uint64_t row = 0; row < rows; ++row, codes += dim, out += row_bytes) {
    if (bits == 4) PackRowSimd<4>(codes, dim, out);
    if (bits == 3) PackRowSimd<3>(codes, dim, out);
    if (bits == 2) PackRowSimd<2>(codes, dim, out);
  }
  return true;
}

bool UnpackAny(uint32_t bits, const uint8_t* in, uint32_t dim, uint64_t rows, uint8_t* codes) {
  const uint64_t row_bytes = PackedRowBytes(bits, dim);
  if (bits == 8) {
    std::memcpy(codes, in, rows * dim);
    return true;
  }
  for (uint64_t row = 0; row < rows; ++row, in += row_bytes, codes += dim) {
    if (bits == 4) UnpackRowSimd<4>(in, dim, codes);
    if (bits == 3) UnpackRowSimd<3>(in, dim, codes);
    if (bits == 2) UnpackRowSimd<2>(in, dim, codes);
  }
  return true;
}

#endif  // HWY_SCALAR
}  // namespace HWY_NAMESPACE
}  // namespace kvasir::simd
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvasir::simd {
namespace {

bool HasFloats(ElementType type, uint64_t count) { return ElementBytes(type) >= 2 && count % kLanesMax == 0; }
bool HasPacked(uint32_t bits, uint32_t dim) { return (bits == 8 || (bits >= 2 && bits <= 4)) && dim % kLanesMax == 0; }
bool HasIntRows(const IntFrame& f) {
  return f.shape.dim % kLanesMax == 0 && (f.spec.by_channel || f.group % kLanesMax == 0);
}

}  // namespace

HWY_EXPORT(LoadAny);
HWY_EXPORT(StoreAny);
HWY_EXPORT(RotateAny);
HWY_EXPORT(QuantiseIntAny);
HWY_EXPORT(DequantiseIntAny);
HWY_EXPORT(PackAny);
HWY_EXPORT(UnpackAny);

bool LoadRows(ElementType type, const uint8_t* dense, uint64_t count, float* x) {
  return HasFloats(type, count) && HWY_DYNAMIC_DISPATCH(LoadAny)(type, dense, count, x);
}
bool StoreRows(ElementType type, const float* x, uint64_t count, uint8_t* dense) {
  return HasFloats(type, count) && HWY_DYNAMIC_DISPATCH(StoreAny)(type, x, count, dense);
}
bool RotateFloats(const HadStage::Args& had, uint32_t dim, bool back, uint32_t rows, float* x) {
  return dim % kLanesMax == 0 && HWY_DYNAMIC_DISPATCH(RotateAny)(had, dim, back, rows, x);
}
bool QuantiseInt(const IntFrame& f, const float* x, uint8_t* section, uint8_t* codes) {
  return HasIntRows(f) && HWY_DYNAMIC_DISPATCH(QuantiseIntAny)(f, x, section, codes);
}
bool DequantiseInt(const IntFrame& f, uint32_t missing_bits, const uint8_t* section, const uint8_t* codes, float* x) {
  return HasIntRows(f) && !HasBadParameter({section, f.codes_at}) &&
         HWY_DYNAMIC_DISPATCH(DequantiseIntAny)(f, missing_bits, section, codes, x);
}
bool PackRows(uint32_t bits, const uint8_t* codes, uint32_t dim, uint64_t rows, uint8_t* out) {
  return HasPacked(bits, dim) && HWY_DYNAMIC_DISPATCH(PackAny)(bits, codes, dim, rows, out);
}
bool UnpackRows(uint32_t bits, const uint8_t* in, uint32_t dim, uint64_t rows, uint8_t* codes) {
  return HasPacked(bits, dim) && HWY_DYNAMIC_DISPATCH(UnpackAny)(bits, in, dim, rows, codes);
}

// The planes are cut and joined by loops that any compiler makes vectors of.

bool PackPlanes(uint32_t upper, uint32_t lower, const uint8_t* codes, uint32_t dim, uint64_t rows, uint8_t* out,
                uint32_t& bytes) {
  if (!HasPacked(upper, dim) || !HasPacked(lower, dim)) return false;
  const uint64_t count = rows * dim, upper_bytes = rows * PackedRowBytes(upper, dim);
  const uint8_t mask = static_cast<uint8_t>((1u << lower) - 1);
  std::vector<uint8_t> cut(count);
  for (uint64_t i = 0; i < count; ++i) cut[i] = static_cast<uint8_t>(codes[i] >> lower);
  if (!PackRows(upper, cut.data(), dim, rows, out)) return false;
  for (uint64_t i = 0; i < count; ++i) cut[i] = codes[i] & mask;
  bytes = static_cast<uint32_t>(upper_bytes + rows * PackedRowBytes(lower, dim));
  return PackRows(lower, cut.data(), dim, rows, out + upper_bytes);
}

bool UnpackPlanes(uint32_t upper, uint32_t lower, const uint8_t* in, uint64_t bytes, uint32_t dim, uint64_t rows,
                  uint8_t* codes) {
  if (!HasPacked(upper, dim) || !HasPacked(lower, dim)) return false;
  const uint64_t count = rows * dim, upper_bytes = rows * PackedRowBytes(upper, dim);
  const bool whole = bytes == upper_bytes + rows * PackedRowBytes(lower, dim);
  if (!whole && bytes != upper_bytes) return false;
  std::vector<uint8_t> rest(count);
  if (!UnpackRows(upper, in, dim, rows, codes)) return false;
  if (whole && !UnpackRows(lower, in + upper_bytes, dim, rows, rest.data())) return false;
  for (uint64_t i = 0; i < count; ++i) codes[i] = static_cast<uint8_t>(codes[i] << lower | rest[i]);
  return true;
}

}  // namespace kvasir::simd
#endif
