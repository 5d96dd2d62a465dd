// SPDX-License-Identifier: Apache-2.0
// Launchers of Q:int | P:bits. Wide bodies, here, take eight channels of a token a thread (decode, encode by token) or
// four channels of a group of tokens (encode by channel), 16-bit elements; what they do not take goes through the
// narrow bodies: a thread a group, a packed byte, an element (q_int.h, p_bits.h). The same bits either way.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/divider.h"
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kBlocksMax = 65535;
constexpr uint32_t kWide = 8;     // channels of a thread
constexpr uint32_t kColumns = 4;  // of a thread that encodes by channel

uint32_t Blocks(uint64_t items) {
  const uint64_t blocks = (items + kThreads - 1) / kThreads;
  return static_cast<uint32_t>(blocks < kBlocksMax ? blocks : kBlocksMax);
}

__device__ uint64_t FirstItem() { return blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; }
__device__ uint64_t ItemStride() { return uint64_t{gridDim.x} * blockDim.x; }

// ---- narrow bodies: frame blockIdx.y ----

__global__ void GroupKernel(const __grid_constant__ FrameBatch batch, IntFrame f) {
  const uint32_t element = ElementBytes(f.shape.element);
  const uint8_t* dense = batch.dense_at(blockIdx.y);
  uint8_t* codes = batch.codes + blockIdx.y * f.shape.elements();
  for (uint64_t index = FirstItem(); index < f.parameters; index += ItemStride()) {
    const IntGroup g = IntGroupAt(f, index);
    const uint64_t at = (g.head * f.shape.tokens + g.token) * f.shape.dim + g.channel;
    const IntParameters p = EncodeIntGroup(f.spec, f.shape.element, dense + at * element, uint64_t{g.stride} * element,
                                           g.count, codes + at, g.stride);
    StoreIntParameters(f, p, index, batch.frame_at(blockIdx.y));
  }
}

__global__ void PackKernel(const __grid_constant__ FrameBatch batch, IntFrame f) {
  const uint64_t bytes = f.frame_bytes - f.codes_at;
  const uint8_t* codes = batch.codes + blockIdx.y * f.shape.elements();
  for (uint64_t i = FirstItem(); i < bytes; i += ItemStride()) {
    const uint64_t row = i / f.row_bytes;
    batch.frame_at(blockIdx.y)[f.codes_at + i] =
        PackedByte(f.spec.bits, codes + row * f.shape.dim, f.shape.dim, static_cast<uint32_t>(i % f.row_bytes));
  }
}

__global__ void ParameterKernel(const __grid_constant__ FrameBatch batch, IntFrame f, JobState* state) {
  for (uint64_t i = FirstItem(); i < f.codes_at / 2; i += ItemStride()) {
    if (IsBadParameter(Load16(batch.frame_at(blockIdx.y) + 2 * i))) {
      atomicCAS(&state->fault, 0u, batch.fault(DeviceFault::kParameter, blockIdx.y));
    }
  }
}

__global__ void ElementKernel(const __grid_constant__ FrameBatch batch, IntFrame f) {
  const uint32_t element = ElementBytes(f.shape.element);
  for (uint64_t i = FirstItem(); i < f.shape.elements(); i += ItemStride()) {
    const uint64_t row = i / f.shape.dim;
    const float value = IntElement(f, batch.frame_at(blockIdx.y), static_cast<uint32_t>(row / f.shape.tokens),
                                   static_cast<uint32_t>(row % f.shape.tokens), static_cast<uint32_t>(i % f.shape.dim));
    StoreElement(f.shape.element, value, batch.dense_at(blockIdx.y) + i * element);
  }
}

// ---- wide bodies ----

/// What the wide bodies divide by. Their frames have fewer than 2^31 elements.
struct IntDividers {
  Divider row_parts;  ///< threads of a row
  Divider group;      ///< tokens (chan) or channels (tok) of a group
  Divider tokens;     ///< of a head, chan only
};

/// Exact, as Float16ToFloat is: one instruction.
__device__ float HalfBits(uint32_t bits) { return __half2float(__ushort_as_half(static_cast<uint16_t>(bits))); }

template <bool kHalf>
__device__ float LoadValue(uint32_t bits) {
  return kHalf ? HalfBits(bits) : FloatOfBits(bits << 16);
}

/// StoreElement of two values of a 16-bit type, finite as those of Q:int are: no more than 2^25.
template <bool kHalf>
__device__ uint32_t StoredValues(float low, float high) {
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
__device__ float CodeValue(uint32_t code, float from, float scale, float zero) {
  const float product = (FloatOfBits(0x4B000000u | code) - from) * scale;
  return product + zero;
}

/// ChooseIntParameters: the conversions that round down and up are Float16Below and Float16Above.
template <uint32_t kBits>
__device__ IntParameters ChosenParameters(bool symmetric, float least, float greatest) {
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
__device__ uint32_t CodeOf(const IntParameters& p, float round, float x) {
  const float v = (x - p.zero) * p.inverse;
  return BitsOfFloat(v + round) & 0xFF;
}

/// IntInput of a 16-bit element.
template <bool kHalf>
__device__ float InputValue(uint32_t bits) {
  const float x = LoadValue<kHalf>(bits);
  const float bounded = fminf(fmaxf(x, -kIntInputMax), kIntInputMax);
  return x == x ? bounded : 0.0f;
}

/// Eight codes of a packed row from channel `c` on, a byte each.
template <uint32_t kBits>
__device__ void LoadCodes(const uint8_t* row, uint32_t dim, uint32_t c, uint32_t (&codes)[kWide]) {
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
__device__ void StoreCodes(uint8_t* row, uint32_t dim, uint32_t c, const uint32_t (&codes)[kWide]) {
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
__device__ void LoadHalves(const uint8_t* p, uint32_t (&halves)[kWide]) {
  const uint4 w = *reinterpret_cast<const uint4*>(p);
  const uint32_t words[] = {w.x, w.y, w.z, w.w};
  for (uint32_t k = 0; k < kWide; ++k) halves[k] = (words[k / 2] >> (16 * (k % 2))) & 0xFFFF;
}

template <uint32_t kBits, bool kHalf, bool kByChannel>
__global__ void WideDecodeKernel(const __grid_constant__ FrameBatch batch, IntFrame f, IntDividers by,
                                 JobState* state) {
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const uint32_t dim = f.shape.dim, rows = f.shape.heads * f.shape.tokens;
  if (item >= rows * by.row_parts.divisor) return;
  const uint8_t* frame = batch.frame_at(blockIdx.y);
  const float from = 8388608.0f + (f.spec.symmetric ? static_cast<float>(1 << (kBits - 1)) : 0.0f);
  uint32_t part;
  const uint32_t row = by.row_parts.Of(item, part), c = part * kWide;
  uint32_t codes[kWide];
  LoadCodes<kBits>(frame + f.codes_at + row * f.row_bytes, dim, c, codes);
  const uint8_t *scales = frame, *zeros = frame + f.zeros_at;
  bool bad = false;
  float out[kWide];
  if constexpr (kByChannel) {
    uint32_t token;
    const uint32_t head = by.tokens.Of(row, token);
    const uint32_t at = 2 * ((head * f.groups + by.group.Of(token)) * dim + c);
    uint32_t s[kWide], z[kWide] = {};
    LoadHalves(scales + at, s);
    if (!f.spec.symmetric) LoadHalves(zeros + at, z);
    for (uint32_t k = 0; k < kWide; ++k) {
      bad = bad || IsBadParameter(static_cast<uint16_t>(s[k])) || IsBadParameter(static_cast<uint16_t>(z[k]));
      out[k] = CodeValue(codes[k], from, HalfBits(s[k]), HalfBits(z[k]));
    }
  } else {
    const uint32_t at = row * f.groups + by.group.Of(c);
    const uint16_t s = reinterpret_cast<const uint16_t*>(scales)[at];
    const uint16_t z = f.spec.symmetric ? uint16_t{0} : reinterpret_cast<const uint16_t*>(zeros)[at];
    bad = IsBadParameter(s) || IsBadParameter(z);
    const float scale = HalfBits(s), zero = HalfBits(z);
    for (uint32_t k = 0; k < kWide; ++k) out[k] = CodeValue(codes[k], from, scale, zero);
  }
  if (bad) atomicCAS(&state->fault, 0u, batch.fault(DeviceFault::kParameter, blockIdx.y));
  reinterpret_cast<uint4*>(batch.dense_at(blockIdx.y))[item] =
      uint4{StoredValues<kHalf>(out[0], out[1]), StoredValues<kHalf>(out[2], out[3]),
            StoredValues<kHalf>(out[4], out[5]), StoredValues<kHalf>(out[6], out[7])};
}

/// By token: the threads of a group are neighbours in a warp, a power of two of them.
template <uint32_t kBits, bool kHalf>
__global__ void WideTokenKernel(const __grid_constant__ FrameBatch batch, IntFrame f, IntDividers by, uint32_t lanes) {
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const uint32_t items = f.shape.heads * f.shape.tokens * by.row_parts.divisor;
  const bool mine = item < items;  // the others keep the warp whole
  const uint4 w = reinterpret_cast<const uint4*>(batch.dense_at(blockIdx.y))[mine ? item : 0];
  const uint32_t words[] = {w.x, w.y, w.z, w.w};
  float x[kWide];
  float least = kIntInputMax, greatest = -kIntInputMax;
  for (uint32_t k = 0; k < kWide; ++k) {
    x[k] = InputValue<kHalf>((words[k / 2] >> (16 * (k % 2))) & 0xFFFF);
    least = fminf(least, x[k]);
    greatest = fmaxf(greatest, x[k]);
  }
  for (uint32_t other = 1; other < lanes; other *= 2) {
    least = fminf(least, __shfl_xor_sync(0xFFFFFFFFu, least, other));
    greatest = fmaxf(greatest, __shfl_xor_sync(0xFFFFFFFFu, greatest, other));
  }
  if (!mine) return;
  const IntParameters p = ChosenParameters<kBits>(f.spec.symmetric, least, greatest);
  uint32_t part;
  const uint32_t row = by.row_parts.Of(item, part), c = part * kWide;
  uint32_t codes[kWide];
  const float round = 8388608.0f + (f.spec.symmetric ? static_cast<float>(1 << (kBits - 1)) : 0.0f);
  for (uint32_t k = 0; k < kWide; ++k) codes[k] = CodeOf(p, round, x[k]);
  uint8_t* frame = batch.frame_at(blockIdx.y);
  StoreCodes<kBits>(frame + f.codes_at + row * f.row_bytes, f.shape.dim, c, codes);
  if (threadIdx.x % lanes == 0) StoreIntParameters(f, p, row * f.groups + by.group.Of(c), frame);
}

/// By channel: a thread has kColumns channels of a group.
template <uint32_t kBits, bool kHalf>
__global__ void WideChannelKernel(const __grid_constant__ FrameBatch batch, IntFrame f, IntDividers by) {
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const uint32_t dim = f.shape.dim;
  if (item >= f.shape.heads * f.groups * by.row_parts.divisor) return;
  uint32_t part;
  const uint32_t row_of_groups = by.row_parts.Of(item, part), c = part * kColumns;
  const uint32_t head = row_of_groups / f.groups, first = row_of_groups % f.groups * f.group;
  const uint32_t count = f.shape.tokens - first < f.group ? f.shape.tokens - first : f.group;
  const uint32_t row = head * f.shape.tokens + first;
  const uint8_t* in = batch.dense_at(blockIdx.y) + (uint64_t{row} * dim + c) * 2;
  float least[kColumns], greatest[kColumns];
  for (uint32_t k = 0; k < kColumns; ++k) {
    least[k] = kIntInputMax;
    greatest[k] = -kIntInputMax;
  }
  const auto load = [&](uint32_t t, float(&x)[kColumns]) {
    const uint2 w = *reinterpret_cast<const uint2*>(in + uint64_t{t} * dim * 2);
    for (uint32_t k = 0; k < kColumns; ++k) {
      x[k] = InputValue<kHalf>(((k < 2 ? w.x : w.y) >> (16 * (k % 2))) & 0xFFFF);
    }
  };
#pragma unroll 8
  for (uint32_t t = 0; t < count; ++t) {
    float x[kColumns];
    load(t, x);
    for (uint32_t k = 0; k < kColumns; ++k) {
      least[k] = fminf(least[k], x[k]);
      greatest[k] = fmaxf(greatest[k], x[k]);
    }
  }
  IntParameters p[kColumns];
  uint8_t* frame = batch.frame_at(blockIdx.y);
  for (uint32_t k = 0; k < kColumns; ++k) {
    p[k] = ChosenParameters<kBits>(f.spec.symmetric, least[k], greatest[k]);
    StoreIntParameters(f, p[k], uint64_t{row_of_groups} * dim + c + k, frame);
  }
  const float round = 8388608.0f + (f.spec.symmetric ? static_cast<float>(1 << (kBits - 1)) : 0.0f);
  uint8_t* out = frame + f.codes_at + uint64_t{row} * f.row_bytes + c * kBits / 8;
#pragma unroll 8
  for (uint32_t t = 0; t < count; ++t) {
    float x[kColumns];
    load(t, x);
    uint32_t packed = 0;
    for (uint32_t k = 0; k < kColumns; ++k) packed |= CodeOf(p[k], round, x[k]) << (kBits * k);
    if constexpr (kBits == 8) *reinterpret_cast<uint32_t*>(out + t * f.row_bytes) = packed;
    if constexpr (kBits == 4) *reinterpret_cast<uint16_t*>(out + t * f.row_bytes) = static_cast<uint16_t>(packed);
    if constexpr (kBits == 2) out[t * f.row_bytes] = static_cast<uint8_t>(packed);
  }
}

__global__ void LengthsKernel(const __grid_constant__ FrameBatch batch, uint32_t bytes, JobState* state) {
  if (threadIdx.x < batch.count) state->frames[batch.slot(threadIdx.x)].length = bytes;
}

bool SixteenBits(const IntFrame& f) {
  return f.shape.element == ElementType::kBfloat16 || f.shape.element == ElementType::kFloat16;
}

/// Whole threads a row, and every access of a wide body on its own width.
bool WideRows(const IntFrame& f, const FrameBatch& batch) {
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

IntDividers DividersOf(const IntFrame& f, uint32_t channels) {
  return {Divider::By(f.shape.dim / channels), Divider::By(f.group), Divider::By(f.shape.tokens)};
}

/// True where a wide body took the frames.
bool EncodeWide(const IntFrame& f, const FrameBatch& batch, cudaStream_t s) {
  if (!WideRows(f, batch)) return false;
  if (f.spec.by_channel) {
    if (f.spec.bits == 3) return false;
    const IntDividers by = DividersOf(f, kColumns);
    const dim3 grid((f.shape.heads * f.groups * by.row_parts.divisor + kThreads - 1) / kThreads, batch.count);
    WithBits(f, [&]<uint32_t kBits, bool kHalf>() {
      WideChannelKernel<kBits, kHalf><<<grid, kThreads, 0, s>>>(batch, f, by);
    });
    return true;
  }
  const uint32_t lanes = f.group / kWide;
  if (lanes > 32 || (lanes & (lanes - 1)) != 0 || f.shape.dim % f.group != 0) return false;
  const IntDividers by = DividersOf(f, kWide);
  const dim3 grid((f.shape.heads * f.shape.tokens * by.row_parts.divisor + kThreads - 1) / kThreads, batch.count);
  WithBits(f, [&]<uint32_t kBits, bool kHalf>() {
    WideTokenKernel<kBits, kHalf><<<grid, kThreads, 0, s>>>(batch, f, by, lanes);
  });
  return true;
}

}  // namespace

void LaunchRawLengths(const FrameBatch& batch, uint32_t bytes, JobState* state, CudaStream stream) {
  LengthsKernel<<<1, kWindowFrames, 0, static_cast<cudaStream_t>(stream)>>>(batch, bytes, state);
}

void LaunchIntEncode(const IntFrame& f, const FrameBatch& batch, JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  LaunchRawLengths(batch, static_cast<uint32_t>(f.frame_bytes), state, stream);
  if (EncodeWide(f, batch, s)) return;
  GroupKernel<<<dim3(Blocks(f.parameters), batch.count), kThreads, 0, s>>>(batch, f);
  PackKernel<<<dim3(Blocks(f.frame_bytes - f.codes_at), batch.count), kThreads, 0, s>>>(batch, f);
}

void LaunchIntDecode(const IntFrame& f, const FrameBatch& batch, JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  if (WideRows(f, batch)) {
    const IntDividers by = DividersOf(f, kWide);
    const dim3 grid((f.shape.heads * f.shape.tokens * by.row_parts.divisor + kThreads - 1) / kThreads, batch.count);
    WithBits(f, [&]<uint32_t kBits, bool kHalf>() {
      if (f.spec.by_channel) {
        WideDecodeKernel<kBits, kHalf, true><<<grid, kThreads, 0, s>>>(batch, f, by, state);
      } else {
        WideDecodeKernel<kBits, kHalf, false><<<grid, kThreads, 0, s>>>(batch, f, by, state);
      }
    });
    return;
  }
  ParameterKernel<<<dim3(Blocks(f.codes_at / 2), batch.count), kThreads, 0, s>>>(batch, f, state);
  ElementKernel<<<dim3(Blocks(f.shape.elements()), batch.count), kThreads, 0, s>>>(batch, f);
}

}  // namespace kvasir::cuda
