// SPDX-License-Identifier: Apache-2.0
// Launchers of gather and scatter between pages and a dense frame, in the widest units that every stride allows.
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kBlocksMax = 4096;

/// The unit with this index of the dense frame, in its page.
template <class Unit>
__device__ Unit* InPage(const PageView& v, uint64_t index) {
  const uint32_t row_units = v.row_bytes / sizeof(Unit);
  const uint64_t row = index / row_units;
  const uint32_t token = static_cast<uint32_t>(row % v.tokens);
  const uint32_t head = static_cast<uint32_t>(row / v.tokens);
  uint8_t* p = v.base + int64_t{v.pages[token / v.page_tokens]} * v.page_stride + int64_t{head} * v.head_stride +
               int64_t{token % v.page_tokens} * v.token_stride;
  return reinterpret_cast<Unit*>(p) + index % row_units;
}

template <class Unit>
__global__ void GatherKernel(PageView v, uint8_t* dense, uint64_t units) {
  for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < units; i += uint64_t{gridDim.x} * blockDim.x) {
    reinterpret_cast<Unit*>(dense)[i] = *InPage<Unit>(v, i);
  }
}

template <class Unit>
__global__ void ScatterKernel(PageView v, const uint8_t* dense, uint64_t units, const JobState* state) {
  if (state->fault != 0) return;
  for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < units; i += uint64_t{gridDim.x} * blockDim.x) {
    *InPage<Unit>(v, i) = reinterpret_cast<const Unit*>(dense)[i];
  }
}

/// The greatest power of two up to 16 that divides every stride and address.
uint32_t UnitBytes(const PageView& v, const uint8_t* dense) {
  const uint64_t all = reinterpret_cast<uintptr_t>(v.base) | reinterpret_cast<uintptr_t>(dense) | v.row_bytes |
                       static_cast<uint64_t>(v.page_stride) | static_cast<uint64_t>(v.head_stride) |
                       static_cast<uint64_t>(v.token_stride);
  for (uint32_t unit = 16; unit > 1; unit /= 2) {
    if (all % unit == 0) return unit;
  }
  return 1;
}

uint32_t Blocks(uint64_t units) {
  const uint64_t blocks = (units + kThreads - 1) / kThreads;
  return static_cast<uint32_t>(blocks < kBlocksMax ? blocks : kBlocksMax);
}

}  // namespace

void LaunchGather(const PageView& v, uint8_t* dense, CudaStream stream) {
  const uint32_t unit = UnitBytes(v, dense);
  const uint64_t units = uint64_t{v.heads} * v.tokens * v.row_bytes / unit;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  switch (unit) {
    case 16:
      return GatherKernel<uint4><<<Blocks(units), kThreads, 0, s>>>(v, dense, units);
    case 8:
      return GatherKernel<uint2><<<Blocks(units), kThreads, 0, s>>>(v, dense, units);
    case 4:
      return GatherKernel<uint32_t><<<Blocks(units), kThreads, 0, s>>>(v, dense, units);
    case 2:
      return GatherKernel<uint16_t><<<Blocks(units), kThreads, 0, s>>>(v, dense, units);
    default:
      return GatherKernel<uint8_t><<<Blocks(units), kThreads, 0, s>>>(v, dense, units);
  }
}

void LaunchScatter(const PageView& v, const uint8_t* dense, const JobState* state, CudaStream stream) {
  const uint32_t unit = UnitBytes(v, dense);
  const uint64_t units = uint64_t{v.heads} * v.tokens * v.row_bytes / unit;
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  switch (unit) {
    case 16:
      return ScatterKernel<uint4><<<Blocks(units), kThreads, 0, s>>>(v, dense, units, state);
    case 8:
      return ScatterKernel<uint2><<<Blocks(units), kThreads, 0, s>>>(v, dense, units, state);
    case 4:
      return ScatterKernel<uint32_t><<<Blocks(units), kThreads, 0, s>>>(v, dense, units, state);
    case 2:
      return ScatterKernel<uint16_t><<<Blocks(units), kThreads, 0, s>>>(v, dense, units, state);
    default:
      return ScatterKernel<uint8_t><<<Blocks(units), kThreads, 0, s>>>(v, dense, units, state);
  }
}

}  // namespace kvasir::cuda
