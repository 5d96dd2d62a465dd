// SPDX-License-Identifier: Apache-2.0
// Launchers of gather and scatter between pages and dense frames, in the widest units that every stride allows. One
// launch takes all frames of a window; a thread has four units on their way at once.
#include "kernels/cuda/divider.h"
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kUnitsAtOnce = 4;
constexpr uint32_t kBlocksMax = 4096;

struct Dividers {
  Divider row_units, tokens, page_tokens;
};

/// The unit with this index of a dense frame, in its page.
template <class Unit>
__device__ Unit* InPage(const PageView& v, const Dividers& by, uint32_t frame, uint32_t index) {
  uint32_t in_row, token, in_page;
  const uint32_t row = by.row_units.Of(index, in_row);
  const uint32_t head = by.tokens.Of(row, token);
  const uint32_t page = v.pages[by.page_tokens.Of(token, in_page)];
  uint8_t* p =
      v.base[frame] + int64_t{page} * v.page_stride + int64_t{head} * v.head_stride + int64_t{in_page} * v.token_stride;
  return reinterpret_cast<Unit*>(p) + in_row;
}

/// Frame blockIdx.y.
template <class Unit, bool kGather>
__global__ void CopyKernel(const __grid_constant__ PageView v, const Dividers by, uint8_t* dense, uint64_t dense_stride,
                           uint32_t units, const JobState* state) {
  if (!kGather && state->fault != 0) return;
  Unit* flat = reinterpret_cast<Unit*>(dense + blockIdx.y * dense_stride);
  const uint32_t stride = gridDim.x * kThreads;
  for (uint32_t first = blockIdx.x * kThreads + threadIdx.x; first < units; first += kUnitsAtOnce * stride) {
    Unit held[kUnitsAtOnce];
    Unit* in_page[kUnitsAtOnce];
#pragma unroll
    for (uint32_t k = 0; k < kUnitsAtOnce; ++k) {
      const uint32_t i = first + k * stride;
      if (i >= units) continue;
      in_page[k] = InPage<Unit>(v, by, blockIdx.y, i);
      held[k] = kGather ? *in_page[k] : flat[i];
    }
#pragma unroll
    for (uint32_t k = 0; k < kUnitsAtOnce; ++k) {
      const uint32_t i = first + k * stride;
      if (i < units) *(kGather ? &flat[i] : in_page[k]) = held[k];
    }
  }
}

/// The greatest power of two up to 16 that divides every stride and address.
uint32_t UnitBytes(const PageView& v, const uint8_t* dense, uint64_t dense_stride) {
  uint64_t all = reinterpret_cast<uintptr_t>(dense) | dense_stride | v.row_bytes |
                 static_cast<uint64_t>(v.page_stride) | static_cast<uint64_t>(v.head_stride) |
                 static_cast<uint64_t>(v.token_stride);
  for (uint32_t i = 0; i < v.count; ++i) all |= reinterpret_cast<uintptr_t>(v.base[i]);
  for (uint32_t unit = 16; unit > 1; unit /= 2) {
    if (all % unit == 0) return unit;
  }
  return 1;
}

template <class Unit, bool kGather>
void Launch(const PageView& v, uint8_t* dense, uint64_t dense_stride, const JobState* state, CudaStream stream) {
  const uint32_t units = static_cast<uint32_t>(uint64_t{v.heads} * v.tokens * v.row_bytes / sizeof(Unit));
  const Dividers by{Divider::By(v.row_bytes / sizeof(Unit)), Divider::By(v.tokens), Divider::By(v.page_tokens)};
  const uint32_t blocks = (units + kThreads * kUnitsAtOnce - 1) / (kThreads * kUnitsAtOnce);
  const dim3 grid(blocks < kBlocksMax ? blocks : kBlocksMax, v.count);
  CopyKernel<Unit, kGather>
      <<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(v, by, dense, dense_stride, units, state);
}

template <bool kGather>
void LaunchWidest(const PageView& v, uint8_t* dense, uint64_t dense_stride, const JobState* state, CudaStream stream) {
  switch (UnitBytes(v, dense, dense_stride)) {
    case 16:
      return Launch<uint4, kGather>(v, dense, dense_stride, state, stream);
    case 8:
      return Launch<uint2, kGather>(v, dense, dense_stride, state, stream);
    case 4:
      return Launch<uint32_t, kGather>(v, dense, dense_stride, state, stream);
    case 2:
      return Launch<uint16_t, kGather>(v, dense, dense_stride, state, stream);
    default:
      return Launch<uint8_t, kGather>(v, dense, dense_stride, state, stream);
  }
}

}  // namespace

void LaunchGather(const PageView& v, uint8_t* dense, uint64_t dense_stride, CudaStream stream) {
  LaunchWidest<true>(v, dense, dense_stride, nullptr, stream);
}

void LaunchScatter(const PageView& v, const uint8_t* dense, uint64_t dense_stride, const JobState* state,
                   CudaStream stream) {
  LaunchWidest<false>(v, const_cast<uint8_t*>(dense), dense_stride, state, stream);  // only read there
}

}  // namespace kvasir::cuda
