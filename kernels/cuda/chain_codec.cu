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

bool ChainFits(const ChainPlan& plan, const FrameShape& shape) {
  return shape.elements() <= kChainElementsMax && LayOutChain(plan, shape).spare_floats <= kChainElementsMax;
}

}  // namespace kvasir::cuda
