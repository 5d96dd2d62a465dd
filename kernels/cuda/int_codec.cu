// SPDX-License-Identifier: Apache-2.0
// Launchers of Q:int | P:bits: a thread a group, a thread a packed byte, a thread a decoded element. Bodies: q_int.h,
// p_bits.h.
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kBlocksMax = 65535;

uint32_t Blocks(uint64_t items) {
  const uint64_t blocks = (items + kThreads - 1) / kThreads;
  return static_cast<uint32_t>(blocks < kBlocksMax ? blocks : kBlocksMax);
}

__device__ uint64_t FirstItem() { return blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; }
__device__ uint64_t ItemStride() { return uint64_t{gridDim.x} * blockDim.x; }

__global__ void GroupKernel(IntFrame f, const uint8_t* dense, uint8_t* frame, uint8_t* codes, JobState* state) {
  const uint32_t element = ElementBytes(f.shape.element);
  for (uint64_t index = FirstItem(); index < f.parameters; index += ItemStride()) {
    const IntGroup g = IntGroupAt(f, index);
    const uint64_t at = (g.head * f.shape.tokens + g.token) * f.shape.dim + g.channel;
    const IntParameters p = EncodeIntGroup(f.spec, f.shape.element, dense + at * element, uint64_t{g.stride} * element,
                                           g.count, codes + at, g.stride);
    StoreIntParameters(f, p, index, frame);
  }
  if (FirstItem() == 0) state->length = static_cast<uint32_t>(f.frame_bytes);
}

__global__ void PackKernel(IntFrame f, const uint8_t* codes, uint8_t* frame) {
  const uint64_t bytes = f.frame_bytes - f.codes_at;
  for (uint64_t i = FirstItem(); i < bytes; i += ItemStride()) {
    const uint64_t row = i / f.row_bytes;
    frame[f.codes_at + i] =
        PackedByte(f.spec.bits, codes + row * f.shape.dim, f.shape.dim, static_cast<uint32_t>(i % f.row_bytes));
  }
}

__global__ void ParameterKernel(IntFrame f, const uint8_t* frame, uint32_t index, JobState* state) {
  for (uint64_t i = FirstItem(); i < f.codes_at / 2; i += ItemStride()) {
    if (IsBadParameter(Load16(frame + 2 * i))) {
      atomicCAS(&state->fault, 0u, static_cast<uint32_t>(DeviceFault::kParameter) + 256 * (1 + index));
    }
  }
}

__global__ void ElementKernel(IntFrame f, const uint8_t* frame, uint8_t* dense) {
  const uint64_t elements = uint64_t{f.shape.heads} * f.shape.tokens * f.shape.dim;
  const uint32_t element = ElementBytes(f.shape.element);
  for (uint64_t i = FirstItem(); i < elements; i += ItemStride()) {
    const uint64_t row = i / f.shape.dim;
    const float value = IntElement(f, frame, static_cast<uint32_t>(row / f.shape.tokens),
                                   static_cast<uint32_t>(row % f.shape.tokens), static_cast<uint32_t>(i % f.shape.dim));
    StoreElement(f.shape.element, value, dense + i * element);
  }
}

__global__ void LengthKernel(uint32_t bytes, JobState* state) { state->length = bytes; }

}  // namespace

void LaunchRawLength(uint32_t bytes, JobState* state, CudaStream stream) {
  LengthKernel<<<1, 1, 0, static_cast<cudaStream_t>(stream)>>>(bytes, state);
}

void LaunchIntEncode(const IntFrame& f, const FrameScratch& scratch, JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  GroupKernel<<<Blocks(f.parameters), kThreads, 0, s>>>(f, scratch.dense, scratch.frame, scratch.codes, state);
  PackKernel<<<Blocks(f.frame_bytes - f.codes_at), kThreads, 0, s>>>(f, scratch.codes, scratch.frame);
}

void LaunchIntDecode(const IntFrame& f, const FrameScratch& scratch, uint32_t index, JobState* state,
                     CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  ParameterKernel<<<Blocks(f.codes_at / 2), kThreads, 0, s>>>(f, scratch.frame, index, state);
  ElementKernel<<<Blocks(f.shape.elements()), kThreads, 0, s>>>(f, scratch.frame, scratch.dense);
}

}  // namespace kvasir::cuda
