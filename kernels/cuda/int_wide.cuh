// SPDX-License-Identifier: Apache-2.0
// What the wide bodies of Q:int | P:bits share: eight channels of a token a thread, 16-bit elements. For nvcc only.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/divider.h"
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {

inline constexpr uint32_t kThreads = 256;  ///< of a block
inline constexpr uint32_t kWide = 8;       ///< channels of a thread

/// What the wide bodies divide by. Their frames have fewer than 2^31 elements.
struct IntDividers {
  Divider row_parts;  ///< threads of a row
  Divider group;      ///< tokens (chan) or channels (tok) of a group
  Divider tokens;     ///< of a head, chan only
};

/// Exact, as Float16ToFloat is: one instruction.
inline __device__ float HalfBits(uint32_t bits) { return __half2float(__ushort_as_half(static_cast<uint16_t>(bits))); }

template <bool kHalf>
inline __device__ float LoadValue(uint32_t bits) {
  return kHalf ? HalfBits(bits) : FloatOfBits(bits << 16);
}

/// StoreElement of two values of a 16-bit type, finite as those of Q:int are: no more than 2^25.
template <bool kHalf>
inline __device__ uint32_t StoredValues(float low, float high) {
  uint32_t bits;
  if constexpr (kHalf) {
    const __half2 pair =
        __floats2half2_rn(fminf(fmaxf(low, -65504.0f), 65504.0f), fminf(fmaxf(high, -65504.0f), 65504.0f));
    memcpy(&bits, &pair, sizeof bits);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    memcpy(&bits, &pair, sizeof bits);
  }
  return bits;
}

/// IntValue: `from` is 2^23, and the middle where symmetric. Exact up to the product, as there.
inline __device__ float CodeValue(uint32_t code, float from, float scale, float zero) {
  const float product = (FloatOfBits(0x4B000000u | code) - from) * scale;
  return product + zero;
}

/// ChooseIntParameters: the conversions that round down and up are Float16Below and Float16Above.
template <uint32_t kBits>
inline __device__ IntParameters ChosenParameters(bool symmetric, float least, float greatest) {
  IntParameters p;
  float range;
  if (symmetric) {
    range = fmaxf(greatest, -least) / static_cast<float>((1 << (kBits - 1)) - 1);
  } else {
    const __half zero = __float2half_rd(least + 0.0f);  // -0 becomes +0
    p.zero16 = __half_as_ushort(zero);
    p.zero = __half2float(zero);
    range = (greatest - p.zero) / static_cast<float>((1 << kBits) - 1);
  }
  if (!(range > 0.0f)) range = 0.0f;  // no -0
  const __half scale16 = __float2half_ru(range);
  p.scale16 = __half_as_ushort(scale16);
  const float scale = __half2float(scale16);
  p.inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
  return p;
}

/// IntCode: `round` is 2^23, and the middle where symmetric.
inline __device__ uint32_t CodeOf(const IntParameters& p, float round, float x) {
  const float v = (x - p.zero) * p.inverse;
  return BitsOfFloat(v + round) & 0xFF;
}

/// IntInput of a 16-bit element.
template <bool kHalf>
inline __device__ float InputValue(uint32_t bits) {
  const float x = LoadValue<kHalf>(bits);
  const float bounded = fminf(fmaxf(x, -kIntInputMax), kIntInputMax);
  return x == x ? bounded : 0.0f;
}

/// Of two 16-bit elements: the greater of `largest` and their magnitudes, each in its half.
inline __device__ uint32_t LargerPair(uint32_t largest, uint32_t pair) { return __vmaxu2(largest, pair & 0x7FFF7FFFu); }

/// No element of a LargerPair is NaN or beyond +-65504: IntInput changes none. 0x477F is 65280 in bfloat16, 0x7BFF
/// 65504.
template <bool kHalf>
__device__ bool Plain(uint32_t largest) {
  constexpr uint32_t kLast = kHalf ? 0x7BFF : 0x477F;
  return (largest & 0xFFFF) <= kLast && (largest >> 16) <= kLast;
}

/// The eight elements of `words` as IntInput.
template <bool kHalf>
__device__ void InputValues(const uint4& words, float* x) {
  const uint32_t pairs[] = {words.x, words.y, words.z, words.w};
  if (Plain<kHalf>(LargerPair(LargerPair(LargerPair(LargerPair(0, words.x), words.y), words.z), words.w))) {
#pragma unroll
    for (uint32_t k = 0; k < kWide; ++k) x[k] = LoadValue<kHalf>((pairs[k / 2] >> (16 * (k % 2))) & 0xFFFF);
  } else {
#pragma unroll
    for (uint32_t k = 0; k < kWide; ++k) x[k] = InputValue<kHalf>((pairs[k / 2] >> (16 * (k % 2))) & 0xFFFF);
  }
}

/// Eight codes of a packed row from channel `c` on, a byte each.
template <uint32_t kBits>
inline __device__ void LoadCodes(const uint8_t* row, uint32_t dim, uint32_t c, uint32_t (&codes)[kWide]) {
  if constexpr (kBits == 8) {
    const uint2 w = *reinterpret_cast<const uint2*>(row + c);
    for (uint32_t k = 0; k < kWide; ++k) codes[k] = ((k < 4 ? w.x : w.y) >> (8 * (k % 4))) & 0xFF;
  } else if constexpr (kBits == 4) {
    const uint32_t w = *reinterpret_cast<const uint32_t*>(row + c / 2);
    for (uint32_t k = 0; k < kWide; ++k) codes[k] = (w >> (4 * k)) & 0xF;
  } else {
    const uint32_t w = *reinterpret_cast<const uint16_t*>(row + c / 4);
    const uint32_t high = kBits == 3 ? row[dim / 4 + c / 8] : 0;
    for (uint32_t k = 0; k < kWide; ++k) codes[k] = ((w >> (2 * k)) & 3) | ((high >> k) & 1) << 2;
  }
}

template <uint32_t kBits>
inline __device__ void StoreCodes(uint8_t* row, uint32_t dim, uint32_t c, const uint32_t (&codes)[kWide]) {
  if constexpr (kBits == 8) {
    uint2 w{0, 0};
    for (uint32_t k = 0; k < kWide; ++k) (k < 4 ? w.x : w.y) |= codes[k] << (8 * (k % 4));
    *reinterpret_cast<uint2*>(row + c) = w;
  } else if constexpr (kBits == 4) {
    uint32_t w = 0;
    for (uint32_t k = 0; k < kWide; ++k) w |= codes[k] << (4 * k);
    *reinterpret_cast<uint32_t*>(row + c / 2) = w;
  } else {
    uint32_t w = 0, high = 0;
    for (uint32_t k = 0; k < kWide; ++k) {
      w |= (codes[k] & 3) << (2 * k);
      high |= (codes[k] >> 2) << k;
    }
    *reinterpret_cast<uint16_t*>(row + c / 4) = static_cast<uint16_t>(w);
    if (kBits == 3) row[dim / 4 + c / 8] = static_cast<uint8_t>(high);
  }
}

/// The eight fp16 at `p`, on 16 bytes.
inline __device__ void LoadHalves(const uint8_t* p, uint32_t (&halves)[kWide]) {
  const uint4 w = *reinterpret_cast<const uint4*>(p);
  const uint32_t words[] = {w.x, w.y, w.z, w.w};
  for (uint32_t k = 0; k < kWide; ++k) halves[k] = (words[k / 2] >> (16 * (k % 2))) & 0xFFFF;
}

inline __device__ uint4 Packed(const uint32_t (&pairs)[kWide / 2]) { return {pairs[0], pairs[1], pairs[2], pairs[3]}; }

inline bool SixteenBits(const IntFrame& f) {
  return f.shape.element == ElementType::kBfloat16 || f.shape.element == ElementType::kFloat16;
}

/// Whole threads a row, and every access of a wide body on its own width.
inline bool WideRows(const IntFrame& f, const FrameBatch& batch) {
  const uint32_t alignment = f.spec.bits == 3 ? 2 : f.spec.bits;
  return SixteenBits(f) && f.shape.dim % kWide == 0 && f.codes_at % alignment == 0 && f.row_bytes % alignment == 0 &&
         batch.dense_stride % 16 == 0 && f.shape.elements() < (uint64_t{1} << 31) &&
         (f.spec.by_channel || f.group % kWide == 0);
}

/// Calls launch.template operator()<bits, half>().
template <class Launch>
void WithBits(const IntFrame& f, const Launch& launch) {
  const bool half = f.shape.element == ElementType::kFloat16;
  switch (f.spec.bits) {
    case 8:
      return half ? launch.template operator()<8, true>() : launch.template operator()<8, false>();
    case 4:
      return half ? launch.template operator()<4, true>() : launch.template operator()<4, false>();
    case 3:
      return half ? launch.template operator()<3, true>() : launch.template operator()<3, false>();
    default:
      return half ? launch.template operator()<2, true>() : launch.template operator()<2, false>();
  }
}

inline IntDividers DividersOf(const IntFrame& f, uint32_t channels) {
  return {Divider::By(f.shape.dim / channels), Divider::By(f.group), Divider::By(f.shape.tokens)};
}

inline dim3 Grid(uint64_t items, const FrameBatch& batch) {
  return {static_cast<uint32_t>((items + kThreads - 1) / kThreads), batch.count};
}

}  // namespace kvasir::cuda
