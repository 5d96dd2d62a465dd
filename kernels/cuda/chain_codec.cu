// SPDX-License-Identifier: Apache-2.0
// Launchers of chains: the bodies of all stages (stages/*.h), a thread an item.
#include "kernels/chain.h"
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

/// Runs bodies as kernels, in stream order.
struct CudaRun {
  cudaStream_t stream;
  template <class Body>
  void operator()(uint64_t items, const Body& body) {
    if (items == 0) return;
    const uint64_t blocks = (items + kThreads - 1) / kThreads;
    BodyKernel<<<static_cast<uint32_t>(blocks < kBlocksMax ? blocks : kBlocksMax), kThreads, 0, stream>>>(items, body);
  }
};

__global__ void LengthKernel(uint32_t before, const ChainOutcome* outcome, JobState* state) {
  state->length = before + outcome->packed_bytes;
}

__global__ void FaultKernel(const ChainOutcome* outcome, uint32_t index, JobState* state) {
  if (outcome->fault != 0) {
    atomicCAS(&state->fault, 0u, static_cast<uint32_t>(DeviceFault::kParameter) + 256 * (1 + index));
  }
}

ChainRoom RoomOf(const FrameScratch& scratch) {
  return {scratch.rows, scratch.rows + kChainElementsMax, scratch.rows + 2 * kChainElementsMax, scratch.codes};
}

}  // namespace

void LaunchChainEncode(const ChainPlan& plan, const FrameShape& shape, const FrameInputs& inputs,
                       const FrameScratch& scratch, JobState* state, CudaStream stream) {
  CudaRun run{static_cast<cudaStream_t>(stream)};
  const ChainLayout layout = LayOutChain(plan, shape);
  const ChainRoom room = RoomOf(scratch);
  cudaMemsetAsync(scratch.outcome, 0, sizeof(ChainOutcome), run.stream);
  EncodeChain(run, plan, layout, {shape, room.spare, scratch.outcome, inputs}, scratch.dense, scratch.frame, room);
  LengthKernel<<<1, 1, 0, run.stream>>>(static_cast<uint32_t>(layout.packed_at), scratch.outcome, state);
}

void LaunchChainDecode(const ChainPlan& plan, const FrameShape& shape, uint32_t length, const FrameScratch& scratch,
                       uint32_t index, JobState* state, CudaStream stream) {
  CudaRun run{static_cast<cudaStream_t>(stream)};
  const ChainLayout layout = LayOutChain(plan, shape);
  const ChainRoom room = RoomOf(scratch);
  cudaMemsetAsync(scratch.outcome, 0, sizeof(ChainOutcome), run.stream);
  DecodeChain(run, plan, layout, {shape, room.spare, scratch.outcome, {}}, scratch.frame, length, scratch.dense, room);
  FaultKernel<<<1, 1, 0, run.stream>>>(scratch.outcome, index, state);
}

bool ChainFits(const ChainPlan& plan, const FrameShape& shape) {
  return shape.elements() <= kChainElementsMax && LayOutChain(plan, shape).spare_floats <= kChainElementsMax;
}

}  // namespace kvasir::cuda
