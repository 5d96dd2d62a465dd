// SPDX-License-Identifier: Apache-2.0
// Launchers of T:had | Q:int by token | P:bits in one kernel: a thread has eight channels of a token, the threads of a
// token are neighbours in a warp. Its frame is that of Q:int over the rotated values (q_int.h); the order of the sums
// is that of t_had.h: distances 1, 2 and 4 inside a thread, the others between threads.
#include "kernels/cuda/int_wide.cuh"
#include "kernels/cuda/launch.h"
#include "kernels/stages/t_had.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kAllLanes = 0xFFFFFFFFu;
constexpr uint32_t kDimMax = 32 * kWide;  // a warp

struct Rotation {
  uint32_t lanes = 0;                 ///< threads of a token
  float root = 0;                     ///< HadStage::InverseRoot
  uint32_t signs[kDimMax / 32] = {};  ///< a bit a channel: its sign is turned
};

/// HadStage::Transform.
__device__ void Transform(const Rotation& rotation, float (&x)[kWide]) {
#pragma unroll
  for (uint32_t distance = 1; distance < kWide; distance *= 2) {
#pragma unroll
    for (uint32_t i = 0; i < kWide; ++i) {
      if ((i & distance) != 0) continue;
      const float a = x[i], b = x[i + distance];
      x[i] = a + b;
      x[i + distance] = a - b;
    }
  }
#pragma unroll
  for (uint32_t distance = 1; distance < 32; distance *= 2) {
    if (distance >= rotation.lanes) break;
    const uint32_t upper = (threadIdx.x & distance) != 0 ? 0x80000000u : 0;  // there a - b, here a + b
    for (uint32_t i = 0; i < kWide; ++i) {
      const float other = __shfl_xor_sync(kAllLanes, x[i], distance);
      x[i] = other + FloatOfBits(BitsOfFloat(x[i]) ^ upper);
    }
  }
  for (uint32_t i = 0; i < kWide; ++i) x[i] *= rotation.root;
}

__device__ void TurnSigns(const Rotation& rotation, uint32_t c, float (&x)[kWide]) {
  const uint32_t bits = rotation.signs[c / 32] >> (c % 32);
  for (uint32_t i = 0; i < kWide; ++i) x[i] = FloatOfBits(BitsOfFloat(x[i]) ^ (bits << (31 - i) & 0x80000000u));
}

template <uint32_t kBits, bool kHalf>
__global__ void EncodeKernel(const __grid_constant__ FrameBatch batch, IntFrame f, IntDividers by, Rotation rotation,
                             uint32_t lanes) {
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const bool mine = item < f.shape.heads * f.shape.tokens * by.row_parts.divisor;  // the others keep the warp whole
  const uint4 w = reinterpret_cast<const uint4*>(batch.dense_at(blockIdx.y))[mine ? item : 0];
  uint32_t part;
  const uint32_t row = by.row_parts.Of(item, part), c = part * kWide;
  float x[kWide];
  InputValues<kHalf>(w, x);  // ChainInput: the same bounds
  TurnSigns(rotation, c, x);
  Transform(rotation, x);
  float least = kIntInputMax, greatest = -kIntInputMax;
  for (uint32_t i = 0; i < kWide; ++i) {
    x[i] = fminf(fmaxf(x[i], -kIntInputMax), kIntInputMax);  // IntInput: sums of bounded values are no NaN
    least = fminf(least, x[i]);
    greatest = fmaxf(greatest, x[i]);
  }
  for (uint32_t other = 1; other < lanes; other *= 2) {
    least = fminf(least, __shfl_xor_sync(kAllLanes, least, other));
    greatest = fmaxf(greatest, __shfl_xor_sync(kAllLanes, greatest, other));
  }
  if (!mine) return;
  const IntParameters p = ChosenParameters<kBits>(f.spec.symmetric, least, greatest);
  const float round = 8388608.0f + (f.spec.symmetric ? static_cast<float>(1 << (kBits - 1)) : 0.0f);
  uint32_t codes[kWide];
  for (uint32_t i = 0; i < kWide; ++i) codes[i] = CodeOf(p, round, x[i]);
  uint8_t* frame = batch.frame_at(blockIdx.y);
  StoreCodes<kBits>(frame + f.codes_at + row * f.row_bytes, f.shape.dim, c, codes);
  if (threadIdx.x % lanes == 0) StoreIntParameters(f, p, row * f.groups + by.group.Of(c), frame);
}

template <uint32_t kBits, bool kHalf>
__global__ void DecodeKernel(const __grid_constant__ FrameBatch batch, IntFrame f, IntDividers by, Rotation rotation,
                             JobState* state) {
  const uint32_t item = blockIdx.x * kThreads + threadIdx.x;
  const bool mine = item < f.shape.heads * f.shape.tokens * by.row_parts.divisor;
  const uint8_t* frame = batch.frame_at(blockIdx.y);
  const float from = 8388608.0f + (f.spec.symmetric ? static_cast<float>(1 << (kBits - 1)) : 0.0f);
  uint32_t part;
  const uint32_t row = by.row_parts.Of(mine ? item : 0, part), c = part * kWide;
  uint32_t codes[kWide];
  LoadCodes<kBits>(frame + f.codes_at + row * f.row_bytes, f.shape.dim, c, codes);
  const uint32_t at = row * f.groups + by.group.Of(c);
  const uint16_t s = reinterpret_cast<const uint16_t*>(frame)[at];
  const uint16_t z = f.spec.symmetric ? uint16_t{0} : reinterpret_cast<const uint16_t*>(frame + f.zeros_at)[at];
  // A value that is not finite comes from such parameters, and from such alone.
  if (IsBadParameter(s) || IsBadParameter(z)) {
    atomicCAS(&state->fault, 0u, batch.fault(DeviceFault::kParameter, blockIdx.y));
  }
  const float scale = HalfBits(s), zero = HalfBits(z);
  float x[kWide];
  for (uint32_t i = 0; i < kWide; ++i) x[i] = CodeValue(codes[i], from, scale, zero);
  Transform(rotation, x);
  TurnSigns(rotation, c, x);
  if (!mine) return;
  uint32_t out[kWide / 2];
  for (uint32_t i = 0; i < kWide; i += 2) out[i / 2] = StoredValues<kHalf>(x[i], x[i + 1]);
  reinterpret_cast<uint4*>(batch.dense_at(blockIdx.y))[item] = Packed(out);
}

/// The chain is one that the kernels here take; `f` and `rotation` are then filled.
bool Takes(const ChainPlan& plan, const FrameShape& shape, const FrameBatch& batch, IntFrame& f, Rotation& rotation) {
  if (plan.transform_count != 1 || plan.transforms[0].stage != AllStages::IndexOf<HadStage>() || plan.repaired ||
      plan.quantiser.stage != AllStages::IndexOf<IntStage>() || plan.packer.stage != AllStages::IndexOf<BitsStage>()) {
    return false;
  }
  HadStage::Args had;
  IntSpec spec;
  memcpy(&had, plan.transforms[0].args, sizeof had);
  memcpy(&spec, plan.quantiser.args, sizeof spec);
  f = LayOutIntFrame(spec, shape);
  const uint32_t lanes = f.group / kWide;
  if (spec.by_channel || !WideRows(f, batch) || HadStage::Width(had, shape.dim) != shape.dim || shape.dim < kWide ||
      shape.dim > kDimMax || shape.dim % f.group != 0 || (lanes & (lanes - 1)) != 0) {
    return false;
  }
  rotation.lanes = shape.dim / kWide;
  rotation.root = HadStage::InverseRoot(shape.dim);
  for (uint32_t c = 0; c < shape.dim; ++c) rotation.signs[c / 32] |= HadStage::Sign(had.seed, c) >> 31 << (c % 32);
  return true;
}

}  // namespace

bool LaunchRotatedEncode(const ChainPlan& plan, const FrameShape& shape, const FrameBatch& batch, JobState* state,
                         CudaStream stream) {
  IntFrame f;
  Rotation rotation;
  if (!Takes(plan, shape, batch, f, rotation)) return false;
  LaunchRawLengths(batch, static_cast<uint32_t>(f.frame_bytes), state, stream);
  const IntDividers by = DividersOf(f, kWide);
  const dim3 grid = Grid(uint64_t{shape.heads} * shape.tokens * by.row_parts.divisor, batch);
  WithBits(f, [&]<uint32_t kBits, bool kHalf>() {
    const auto kernel = EncodeKernel<kBits, kHalf>;
    kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(batch, f, by, rotation, f.group / kWide);
  });
  return true;
}

bool LaunchRotatedDecode(const ChainPlan& plan, const FrameShape& shape, const FrameBatch& batch, JobState* state,
                         CudaStream stream) {
  IntFrame f;
  Rotation rotation;
  if (!Takes(plan, shape, batch, f, rotation)) return false;
  for (uint32_t i = 0; i < batch.count; ++i) {
    if (batch.length[i] != f.frame_bytes) return false;  // the stages say what is wrong
  }
  const IntDividers by = DividersOf(f, kWide);
  const dim3 grid = Grid(uint64_t{shape.heads} * shape.tokens * by.row_parts.divisor, batch);
  WithBits(f, [&]<uint32_t kBits, bool kHalf>() {
    const auto kernel = DecodeKernel<kBits, kHalf>;
    kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(batch, f, by, rotation, state);
  });
  return true;
}

}  // namespace kvasir::cuda
