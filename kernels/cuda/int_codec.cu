// SPDX-License-Identifier: Apache-2.0
// Launchers of Q:int | P:bits. Wide bodies, here, take eight channels of a token a thread (decode, encode by token) or
// four channels of a group of tokens (encode by channel), 16-bit elements; what they do not take goes through the
// narrow bodies: a thread a group, a packed byte, an element (q_int.h, p_bits.h). The same bits either way.
#include "kernels/cuda/int_wide.cuh"
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kBlocksMax = 65535;
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

// ---- wide bodies: int_wide.cuh ----

/// A thread has kWide channels of a token.
template <uint32_t kBits, bool kHalf>
__global__ void TokenDecodeKernel(const __grid_constant__ FrameBatch batch, IntFrame f, IntDividers by,
                                  JobState* state) {
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  if (item >= f.shape.heads * f.shape.tokens * by.row_parts.divisor) return;
  const uint8_t* frame = batch.frame_at(blockIdx.y);
  const float from = 8388608.0f + (f.spec.symmetric ? static_cast<float>(1 << (kBits - 1)) : 0.0f);
  uint32_t part;
  const uint32_t row = by.row_parts.Of(item, part), c = part * kWide;
  uint32_t codes[kWide];
  LoadCodes<kBits>(frame + f.codes_at + row * f.row_bytes, f.shape.dim, c, codes);
  const uint32_t at = row * f.groups + by.group.Of(c);
  const uint16_t s = reinterpret_cast<const uint16_t*>(frame)[at];
  const uint16_t z = f.spec.symmetric ? uint16_t{0} : reinterpret_cast<const uint16_t*>(frame + f.zeros_at)[at];
  if (IsBadParameter(s) || IsBadParameter(z)) {
    atomicCAS(&state->fault, 0u, batch.fault(DeviceFault::kParameter, blockIdx.y));
  }
  const float scale = HalfBits(s), zero = HalfBits(z);
  uint32_t out[kWide / 2];
  for (uint32_t k = 0; k < kWide; k += 2) {
    out[k / 2] =
        StoredValues<kHalf>(CodeValue(codes[k], from, scale, zero), CodeValue(codes[k + 1], from, scale, zero));
  }
  reinterpret_cast<uint4*>(batch.dense_at(blockIdx.y))[item] = Packed(out);
}

/// A thread has kWide channels of kTokens tokens of a group.
template <uint32_t kBits, bool kHalf, uint32_t kTokens>
__global__ void ChannelDecodeKernel(const __grid_constant__ FrameBatch batch, IntFrame f, IntDividers by,
                                    JobState* state) {
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const uint32_t dim = f.shape.dim;
  if (item >= f.shape.heads * f.shape.tokens / kTokens * by.row_parts.divisor) return;
  const uint8_t* frame = batch.frame_at(blockIdx.y);
  const float from = 8388608.0f + (f.spec.symmetric ? static_cast<float>(1 << (kBits - 1)) : 0.0f);
  uint32_t part, token;
  const uint32_t row = by.row_parts.Of(item, part) * kTokens, c = part * kWide;
  const uint32_t head = by.tokens.Of(row, token);
  const uint32_t at = 2 * ((head * f.groups + by.group.Of(token)) * dim + c);
  uint32_t codes[kTokens][kWide];
  for (uint32_t t = 0; t < kTokens; ++t) {
    LoadCodes<kBits>(frame + f.codes_at + (row + t) * f.row_bytes, dim, c, codes[t]);
  }
  uint32_t s[kWide], z[kWide] = {};
  LoadHalves(frame + at, s);
  if (!f.spec.symmetric) LoadHalves(frame + f.zeros_at + at, z);
  bool bad = false;
  float scale[kWide], zero[kWide];
  for (uint32_t k = 0; k < kWide; ++k) {
    bad = bad || IsBadParameter(static_cast<uint16_t>(s[k])) || IsBadParameter(static_cast<uint16_t>(z[k]));
    scale[k] = HalfBits(s[k]);
    zero[k] = HalfBits(z[k]);
  }
  if (bad) atomicCAS(&state->fault, 0u, batch.fault(DeviceFault::kParameter, blockIdx.y));
  uint4* dense = reinterpret_cast<uint4*>(batch.dense_at(blockIdx.y));
  for (uint32_t t = 0; t < kTokens; ++t) {
    uint32_t out[kWide / 2];
    for (uint32_t k = 0; k < kWide; k += 2) {
      out[k / 2] = StoredValues<kHalf>(CodeValue(codes[t][k], from, scale[k], zero[k]),
                                       CodeValue(codes[t][k + 1], from, scale[k + 1], zero[k + 1]));
    }
    dense[(row + t) * by.row_parts.divisor + part] = Packed(out);
  }
}

/// By token: a thread has kVectors times kWide channels; the threads of a group are neighbours in a warp, a power of
/// two of them.
template <uint32_t kBits, bool kHalf, uint32_t kVectors>
__global__ void WideTokenKernel(const __grid_constant__ FrameBatch batch, IntFrame f, IntDividers by, uint32_t lanes) {
  constexpr uint32_t kValues = kVectors * kWide;
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const bool mine = item < f.shape.heads * f.shape.tokens * by.row_parts.divisor;  // the others keep the warp whole
  const uint4* in = reinterpret_cast<const uint4*>(batch.dense_at(blockIdx.y)) + (mine ? item : 0) * kVectors;
  uint4 words[kVectors];
  for (uint32_t v = 0; v < kVectors; ++v) words[v] = in[v];
  float x[kValues];
  float least = kIntInputMax, greatest = -kIntInputMax;
  for (uint32_t v = 0; v < kVectors; ++v) InputValues<kHalf>(words[v], x + v * kWide);
  for (uint32_t i = 0; i < kValues; ++i) {
    least = fminf(least, x[i]);
    greatest = fmaxf(greatest, x[i]);
  }
  for (uint32_t other = 1; other < lanes; other *= 2) {
    least = fminf(least, __shfl_xor_sync(0xFFFFFFFFu, least, other));
    greatest = fmaxf(greatest, __shfl_xor_sync(0xFFFFFFFFu, greatest, other));
  }
  if (!mine) return;
  const IntParameters p = ChosenParameters<kBits>(f.spec.symmetric, least, greatest);
  uint32_t part;
  const uint32_t row = by.row_parts.Of(item, part);
  const float round = 8388608.0f + (f.spec.symmetric ? static_cast<float>(1 << (kBits - 1)) : 0.0f);
  uint8_t* frame = batch.frame_at(blockIdx.y);
  for (uint32_t v = 0; v < kVectors; ++v) {
    uint32_t codes[kWide];
    for (uint32_t k = 0; k < kWide; ++k) codes[k] = CodeOf(p, round, x[v * kWide + k]);
    StoreCodes<kBits>(frame + f.codes_at + row * f.row_bytes, f.shape.dim, part * kValues + v * kWide, codes);
  }
  if (threadIdx.x % lanes == 0) StoreIntParameters(f, p, row * f.groups + by.group.Of(part * kValues), frame);
}

/// By channel: a thread has kColumns channels of a group. kGroup: tokens of every group, which are then kept in
/// registers; 0 = any number, read twice.
template <uint32_t kBits, bool kHalf, uint32_t kGroup>
__global__ void WideChannelKernel(const __grid_constant__ FrameBatch batch, IntFrame f, IntDividers by) {
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const uint32_t dim = f.shape.dim;
  if (item >= f.shape.heads * f.groups * by.row_parts.divisor) return;
  uint32_t part;
  const uint32_t row_of_groups = by.row_parts.Of(item, part), c = part * kColumns;
  const uint32_t head = row_of_groups / f.groups, first = row_of_groups % f.groups * f.group;
  const uint32_t left = f.shape.tokens - first < f.group ? f.shape.tokens - first : f.group;
  const uint32_t count = kGroup > 0 ? kGroup : left;
  const uint32_t row = head * f.shape.tokens + first;
  const uint8_t* in = batch.dense_at(blockIdx.y) + (uint64_t{row} * dim + c) * 2;
  const auto word = [&](uint32_t t) { return *reinterpret_cast<const uint2*>(in + uint64_t{t} * dim * 2); };
  const auto value = [](const uint2& w, uint32_t k) {
    return InputValue<kHalf>(((k < 2 ? w.x : w.y) >> (16 * (k % 2))) & 0xFFFF);
  };
  uint2 held[kGroup > 0 ? kGroup : 1];
  if constexpr (kGroup > 0) {
#pragma unroll
    for (uint32_t t = 0; t < kGroup; ++t) held[t] = word(t);
  }
  float least[kColumns], greatest[kColumns];
  for (uint32_t k = 0; k < kColumns; ++k) {
    least[k] = kIntInputMax;
    greatest[k] = -kIntInputMax;
  }
#pragma unroll(kGroup > 0 ? kGroup : 8)
  for (uint32_t t = 0; t < count; ++t) {
    const uint2 w = kGroup > 0 ? held[kGroup > 0 ? t : 0] : word(t);
    for (uint32_t k = 0; k < kColumns; ++k) {
      least[k] = fminf(least[k], value(w, k));
      greatest[k] = fmaxf(greatest[k], value(w, k));
    }
  }
  IntParameters p[kColumns];
  uint8_t* frame = batch.frame_at(blockIdx.y);
  const uint64_t at = 2 * (uint64_t{row_of_groups} * dim + c);
  for (uint32_t k = 0; k < kColumns; ++k) p[k] = ChosenParameters<kBits>(f.spec.symmetric, least[k], greatest[k]);
  *reinterpret_cast<uint2*>(frame + at) =
      uint2{p[0].scale16 | uint32_t{p[1].scale16} << 16, p[2].scale16 | uint32_t{p[3].scale16} << 16};
  if (!f.spec.symmetric) {
    *reinterpret_cast<uint2*>(frame + f.zeros_at + at) =
        uint2{p[0].zero16 | uint32_t{p[1].zero16} << 16, p[2].zero16 | uint32_t{p[3].zero16} << 16};
  }
  const float round = 8388608.0f + (f.spec.symmetric ? static_cast<float>(1 << (kBits - 1)) : 0.0f);
  uint8_t* out = frame + f.codes_at + uint64_t{row} * f.row_bytes + c * kBits / 8;
#pragma unroll(kGroup > 0 ? kGroup : 8)
  for (uint32_t t = 0; t < count; ++t) {
    const uint2 w = kGroup > 0 ? held[kGroup > 0 ? t : 0] : word(t);
    uint32_t packed = 0;
    for (uint32_t k = 0; k < kColumns; ++k) packed |= CodeOf(p[k], round, value(w, k)) << (kBits * k);
    if constexpr (kBits == 8) *reinterpret_cast<uint32_t*>(out + t * f.row_bytes) = packed;
    if constexpr (kBits == 4) *reinterpret_cast<uint16_t*>(out + t * f.row_bytes) = static_cast<uint16_t>(packed);
    if constexpr (kBits == 2) out[t * f.row_bytes] = static_cast<uint8_t>(packed);
  }
}

__global__ void LengthsKernel(const __grid_constant__ FrameBatch batch, uint32_t bytes, JobState* state) {
  if (threadIdx.x < batch.count) state->frames[batch.slot(threadIdx.x)].length = bytes;
}

void EncodeChannels(const IntFrame& f, const FrameBatch& batch, cudaStream_t s) {
  const IntDividers by = DividersOf(f, kColumns);
  const dim3 grid = Grid(uint64_t{f.shape.heads} * f.groups * by.row_parts.divisor, batch);
  const bool in_registers = f.group == 32 && f.shape.tokens % 32 == 0;
  WithBits(f, [&]<uint32_t kBits, bool kHalf>() {
    const auto kernel = in_registers ? WideChannelKernel<kBits, kHalf, 32> : WideChannelKernel<kBits, kHalf, 0>;
    kernel<<<grid, kThreads, 0, s>>>(batch, f, by);
  });
}

/// True where a wide body took the frames.
bool EncodeWide(const IntFrame& f, const FrameBatch& batch, cudaStream_t s) {
  if (!WideRows(f, batch)) return false;
  if (f.spec.by_channel) {
    if (f.spec.bits == 3) return false;
    EncodeChannels(f, batch, s);
    return true;
  }
  const uint32_t vectors = f.group % (2 * kWide) == 0 ? 2 : 1;
  const uint32_t lanes = f.group / (vectors * kWide);
  if (lanes > 32 || (lanes & (lanes - 1)) != 0 || f.shape.dim % f.group != 0) return false;
  const IntDividers by = DividersOf(f, vectors * kWide);
  const dim3 grid = Grid(uint64_t{f.shape.heads} * f.shape.tokens * by.row_parts.divisor, batch);
  WithBits(f, [&]<uint32_t kBits, bool kHalf>() {
    const auto kernel = vectors == 2 ? WideTokenKernel<kBits, kHalf, 2> : WideTokenKernel<kBits, kHalf, 1>;
    kernel<<<grid, kThreads, 0, s>>>(batch, f, by, lanes);
  });
  return true;
}

void DecodeWide(const IntFrame& f, const FrameBatch& batch, JobState* state, cudaStream_t s) {
  constexpr uint32_t kTokens = 4;
  const IntDividers by = DividersOf(f, kWide);
  const uint64_t items = uint64_t{f.shape.heads} * f.shape.tokens * by.row_parts.divisor;
  const bool several = f.spec.by_channel && f.group % kTokens == 0 && f.shape.tokens % kTokens == 0;
  WithBits(f, [&]<uint32_t kBits, bool kHalf>() {
    const auto kernel = several             ? ChannelDecodeKernel<kBits, kHalf, kTokens>
                        : f.spec.by_channel ? ChannelDecodeKernel<kBits, kHalf, 1>
                                            : TokenDecodeKernel<kBits, kHalf>;
    kernel<<<Grid(several ? items / kTokens : items, batch), kThreads, 0, s>>>(batch, f, by, state);
  });
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
  if (WideRows(f, batch)) return DecodeWide(f, batch, state, s);
  ParameterKernel<<<dim3(Blocks(f.codes_at / 2), batch.count), kThreads, 0, s>>>(batch, f, state);
  ElementKernel<<<dim3(Blocks(f.shape.elements()), batch.count), kThreads, 0, s>>>(batch, f);
}

}  // namespace kvasir::cuda
