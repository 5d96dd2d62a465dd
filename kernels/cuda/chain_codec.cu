// SPDX-License-Identifier: Apache-2.0
// Launchers of chains: the bodies of all stages (stages/*.h), a thread an item, a row or a place of a row.
#include "kernels/chain.h"
#include "kernels/cuda/divider.h"
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kBlocksMax = 65535;

template <class Body>
__global__ void BodyKernel(uint64_t items, Body body) {
  for (uint64_t i = blockIdx.x * uint64_t{blockDim.x} + threadIdx.x; i < items; i += uint64_t{gridDim.x} * blockDim.x) {
    body(i);
  }
}

/// A thread a row of a tile in shared memory, where neighbours lie in different banks; loads and stores are of whole
/// lines.
template <RowUse kUse, class Float, class Body>
__global__ void RowsKernel(uint64_t rows, Divider count, Float* x, Body body) {
  extern __shared__ float tile[];
  const uint32_t pitch = count.divisor | 1;
  const uint64_t first = blockIdx.x * uint64_t{blockDim.x};
  const uint32_t here = static_cast<uint32_t>(rows - first < blockDim.x ? rows - first : blockDim.x);
  Float* in = x + first * count.divisor;
  if constexpr (kUse != RowUse::kWrite) {
    for (uint32_t i = threadIdx.x; i < here * count.divisor; i += blockDim.x) {
      uint32_t c;
      const uint32_t row = count.Of(i, c);
      tile[row * pitch + c] = in[i];
    }
    __syncthreads();
  }
  if (threadIdx.x < here) body(first + threadIdx.x, tile + threadIdx.x * pitch);
  if constexpr (kUse != RowUse::kRead) {
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < here * count.divisor; i += blockDim.x) {
      uint32_t c;
      const uint32_t row = count.Of(i, c);
      in[i] = tile[row * pitch + c];
    }
  }
}

template <class Body>
__global__ void CellsKernel(uint32_t cells, Divider count, Body body) {
  for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < cells; i += gridDim.x * blockDim.x) {
    uint32_t cell;
    const uint32_t row = count.Of(i, cell);
    body(uint64_t{row}, cell);
  }
}

constexpr uint32_t kTileThreads[] = {64, 32};  // rows of a tile: the first that fits
constexpr uint32_t kTileBytesMax = 200 << 10;  // of 227 KiB that a block of sm_90 may have

/// Runs bodies as kernels, in stream order.
struct CudaRun {
  cudaStream_t stream;
  template <RowUse kUse, class Float, class Body>
  void Rows(uint64_t rows, uint32_t count, Float* x, const Body& body) {
    if (rows == 0 || count == 0) return;
    for (const uint32_t threads : kTileThreads) {
      const uint32_t bytes = threads * (count | 1) * static_cast<uint32_t>(sizeof(float));
      if (bytes > kTileBytesMax) continue;
      const auto kernel = RowsKernel<kUse, Float, Body>;
      if (bytes > 48 << 10) cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kTileBytesMax);
      const uint32_t blocks = static_cast<uint32_t>((rows + threads - 1) / threads);
      kernel<<<blocks, threads, bytes, stream>>>(rows, Divider::By(count), x, body);
      return;
    }
    (*this)(rows, RowItem<Float, Body>{x, count, body});
  }
  /// Frames of a chain have at most kChainElementsMax elements, and no more places than that four times.
  template <class Body>
  void Cells(uint64_t rows, uint32_t count, const Body& body) {
    const uint64_t cells = rows * count;
    if (cells == 0) return;
    const uint64_t blocks = (cells + kThreads - 1) / kThreads;
    CellsKernel<<<static_cast<uint32_t>(blocks < kBlocksMax ? blocks : kBlocksMax), kThreads, 0, stream>>>(
        static_cast<uint32_t>(cells), Divider::By(count), body);
  }
  template <class Body>
  void operator()(uint64_t items, const Body& body) {
    if (items == 0) return;
    const uint64_t blocks = (items + kThreads - 1) / kThreads;
    BodyKernel<<<static_cast<uint32_t>(blocks < kBlocksMax ? blocks : kBlocksMax), kThreads, 0, stream>>>(items, body);
  }
};

__global__ void LengthKernel(uint32_t before, const ChainOutcome* outcome, uint32_t* length) {
  *length = before + outcome->packed_bytes;
}

__global__ void FaultKernel(const ChainOutcome* outcome, uint32_t fault, JobState* state) {
  if (outcome->fault != 0) atomicCAS(&state->fault, 0u, fault);
}

ChainRoom RoomOf(const FrameBatch& batch) {
  return {batch.rows, batch.rows + kChainElementsMax, batch.rows + 2 * kChainElementsMax, batch.codes};
}

}  // namespace

void LaunchChainEncode(const ChainPlan& plan, const FrameShape& shape, const FrameInputs* inputs,
                       const FrameBatch& batch, JobState* state, CudaStream stream) {
  if (LaunchRotatedEncode(plan, shape, batch, state, stream)) return;
  CudaRun run{static_cast<cudaStream_t>(stream)};
  const ChainLayout layout = LayOutChain(plan, shape);
  const ChainRoom room = RoomOf(batch);
  for (uint32_t i = 0; i < batch.count; ++i) {
    const FrameInputs brought = inputs == nullptr ? FrameInputs{} : inputs[i * batch.slot_step];
    cudaMemsetAsync(batch.outcome, 0, sizeof(ChainOutcome), run.stream);
    EncodeChain(run, plan, layout, {shape, room.spare, batch.outcome, brought}, batch.dense_at(i), batch.frame_at(i),
                room);
    LengthKernel<<<1, 1, 0, run.stream>>>(static_cast<uint32_t>(layout.packed_at), batch.outcome,
                                          &state->frames[batch.slot(i)].length);
  }
}

void LaunchChainDecode(const ChainPlan& plan, const FrameShape& shape, const FrameBatch& batch, JobState* state,
                       CudaStream stream) {
  if (LaunchRotatedDecode(plan, shape, batch, state, stream)) return;
  CudaRun run{static_cast<cudaStream_t>(stream)};
  const ChainLayout layout = LayOutChain(plan, shape);
  const ChainRoom room = RoomOf(batch);
  for (uint32_t i = 0; i < batch.count; ++i) {
    cudaMemsetAsync(batch.outcome, 0, sizeof(ChainOutcome), run.stream);
    DecodeChain(run, plan, layout, {shape, room.spare, batch.outcome, {}}, batch.frame_at(i), batch.length[i],
                batch.dense_at(i), room);
    FaultKernel<<<1, 1, 0, run.stream>>>(batch.outcome, batch.fault(DeviceFault::kParameter, i), state);
  }
}

}  // namespace kvasir::cuda
