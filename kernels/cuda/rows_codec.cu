// SPDX-License-Identifier: Apache-2.0
// Launchers of frames whose rows have classes (rows_bodies.h): a block a frame counts, then all blocks share out the
// items of every class of every head. Frame blockIdx.y of the window.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows_bodies.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kFrameThreads = 512;  // of a block that has a whole frame
constexpr uint32_t kThreads = 256;
constexpr uint32_t kBlocksMax = 512;  // of one frame

/// What a pack brought for the frames of a batch.
struct BroughtRows {
  const RowClass* classes[kWindowFrames] = {};
  const float* weights[kWindowFrames] = {};
  uint32_t first_token = 0;
};

__device__ RowsRoom RoomOf(const FrameBatch& batch, const FrameShape& shape, uint32_t i) {
  return RowsRoom::At(shape, reinterpret_cast<uint8_t*>(batch.rows) + i * RowsRoom::Bytes(shape));
}
__device__ Share ShareOfThread() {
  return {blockIdx.x * uint64_t{blockDim.x} + threadIdx.x, uint64_t{gridDim.x} * blockDim.x};
}

__global__ void MergeKernel(ElementType type, uint32_t dim, uint64_t values, const uint32_t* slots, const float* rows,
                            uint8_t* dense) {
  const Share share = ShareOfThread();
  for (uint64_t i = share.first; i < values; i += share.step) MergeRow(type, dim, slots, rows, i, dense);
}

__global__ void PlanKernel(const __grid_constant__ FrameBatch batch, RowsPlan plan, FrameShape shape,
                           const __grid_constant__ BroughtRows brought, JobState* state) {
  const RowsRoom room = RoomOf(batch, shape, blockIdx.y);
  DeviceBlock<kFrameThreads> team;
  PlanRows(team, plan, shape, brought.classes[blockIdx.y], brought.weights[blockIdx.y] != nullptr, brought.first_token,
           room);
  if (threadIdx.x == 0) state->frames[batch.slot(blockIdx.y)].length = room.head->length;
}

__global__ void EncodeKernel(const __grid_constant__ FrameBatch batch, RowsPlan plan, FrameShape shape,
                             const __grid_constant__ BroughtRows brought) {
  const RowsRoom room = RoomOf(batch, shape, blockIdx.y);
  uint8_t* frame = batch.frame_at(blockIdx.y);
  uint8_t* codes = batch.codes + blockIdx.y * shape.elements();
  WriteRowsHead(shape, room, brought.weights[blockIdx.y], ShareOfThread(), frame);
  for (uint32_t cell = 0; cell < RowsSubs(shape, room); ++cell) {
    EncodeRowsCell(RowsSubAt(plan, shape, room, cell), batch.dense_at(blockIdx.y), ShareOfThread(), frame, codes);
  }
}

__global__ void PackKernel(const __grid_constant__ FrameBatch batch, RowsPlan plan, FrameShape shape) {
  const RowsRoom room = RoomOf(batch, shape, blockIdx.y);
  for (uint32_t cell = 0; cell < RowsSubs(shape, room); ++cell) {
    PackRowsCell(RowsSubAt(plan, shape, room, cell), batch.codes + blockIdx.y * shape.elements(), ShareOfThread(),
                 batch.frame_at(blockIdx.y));
  }
}

__global__ void OpenKernel(const __grid_constant__ FrameBatch batch, RowsPlan plan, FrameShape shape, bool whole,
                           JobState* state) {
  DeviceBlock<kFrameThreads> team;
  const bool right = OpenRows(team, plan, shape, batch.frame_at(blockIdx.y), batch.length[blockIdx.y], whole,
                              RoomOf(batch, shape, blockIdx.y));
  if (!right && threadIdx.x == 0) atomicCAS(&state->fault, 0u, batch.fault(DeviceFault::kRows, blockIdx.y));
}

__global__ void DecodeKernel(const __grid_constant__ FrameBatch batch, RowsPlan plan, FrameShape shape, bool compact,
                             JobState* state) {
  if (__syncthreads_or(state->fault != 0 ? 1 : 0) != 0) return;  // the cells of a frame may then lie anywhere
  const RowsRoom room = RoomOf(batch, shape, blockIdx.y);
  bool right = true;
  for (uint32_t cell = 0; cell < RowsSubs(shape, room); ++cell) {
    const RowsSub sub = RowsSubAt(plan, shape, room, cell);
    right =
        DecodeRowsCell(sub, room, batch.frame_at(blockIdx.y), compact, ShareOfThread(), batch.dense_at(blockIdx.y)) &&
        right;
  }
  if (!right) atomicCAS(&state->fault, 0u, batch.fault(DeviceFault::kParameter, blockIdx.y));
}

dim3 Grid(const FrameShape& shape, const FrameBatch& batch) {
  const uint64_t blocks = (shape.elements() + kThreads - 1) / kThreads;
  return dim3(static_cast<uint32_t>(blocks < kBlocksMax ? blocks : kBlocksMax), batch.count);
}

}  // namespace

void LaunchMerge(const FrameShape& shape, const FrameInputs& inputs, uint8_t* dense, CudaStream stream) {
  const uint64_t values = uint64_t{inputs.merged_count} * shape.dim;
  const uint64_t blocks = (values + kThreads - 1) / kThreads;
  if (values == 0) return;
  MergeKernel<<<static_cast<uint32_t>(blocks < kBlocksMax ? blocks : kBlocksMax), kThreads, 0,
                static_cast<cudaStream_t>(stream)>>>(shape.element, shape.dim, values, inputs.merged_slots,
                                                     inputs.merged_rows, dense);
}

void LaunchRowsEncode(const RowsPlan& plan, const FrameShape& shape, const FrameInputs* inputs, const FrameBatch& batch,
                      JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  BroughtRows brought;
  for (uint32_t i = 0; i < batch.count; ++i) {
    const FrameInputs& of = inputs[i * batch.slot_step];
    brought.classes[i] = of.row_classes;
    brought.weights[i] = of.row_weights;
    brought.first_token = of.first_token;
  }
  PlanKernel<<<dim3(1, batch.count), kFrameThreads, 0, s>>>(batch, plan, shape, brought, state);
  EncodeKernel<<<Grid(shape, batch), kThreads, 0, s>>>(batch, plan, shape, brought);
  PackKernel<<<Grid(shape, batch), kThreads, 0, s>>>(batch, plan, shape);
}

void LaunchRowsDecode(const RowsPlan& plan, const FrameShape& shape, bool compact, const FrameBatch& batch,
                      JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  OpenKernel<<<dim3(1, batch.count), kFrameThreads, 0, s>>>(batch, plan, shape, !compact, state);
  DecodeKernel<<<Grid(shape, batch), kThreads, 0, s>>>(batch, plan, shape, compact, state);
}

}  // namespace kvasir::cuda
