// SPDX-License-Identifier: Apache-2.0
// Launchers of P:splitexp(ans): a block a frame for what is of the whole frame, a warp a chunk for the rest. The bodies
// are in splitans_bodies.h, which the tests run on the CPU too. A window's frames are taken by one launch a step: frame
// blockIdx.y.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/splitans_bodies.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kFrameThreads = 512;  // of a block that has a whole frame
constexpr uint32_t kWarps = 4;           // of a block that codes chunks
constexpr uint32_t kThreads = kWarps * 32;

__device__ SplitAnsRooms RoomsOf(const FrameBatch& batch, const SplitAnsFrame& f) {
  return SplitAnsRooms::At(f, blockIdx.y, reinterpret_cast<uint8_t*>(batch.rows), batch.offsets, batch.codes);
}

__global__ void ChooseKernel(const __grid_constant__ FrameBatch batch, SplitAnsFrame f) {
  __shared__ SplitAnsCounts counts;
  const SplitAnsRooms rooms = RoomsOf(batch, f);
  DeviceBlock<kFrameThreads> team;
  ChooseSplitAns(team, f, batch.dense_at(blockIdx.y), rooms.origins, rooms.sample, counts, *rooms.work);
}

__global__ void EncodeKernel(const __grid_constant__ FrameBatch batch, SplitAnsFrame f, Divider head_values,
                             Divider dim) {
  __shared__ SplitAnsPush pushes[256];
  const SplitAnsRooms rooms = RoomsOf(batch, f);
  for (uint32_t s = threadIdx.x; s < 256; s += kThreads) pushes[s] = PushOf(rooms.work->model, s);
  __syncthreads();
  const uint32_t chunk = blockIdx.x * kWarps + threadIdx.x / 32;
  if (chunk >= f.chunks) return;  // a whole warp
  const uint32_t first = chunk * kSplitAnsChunk, count = f.count(chunk);
  const uint8_t* in = batch.dense_at(blockIdx.y) + 2 * uint64_t{first};
  DeviceWarp warp;
  WriteSplitAnsFixed(warp, f, in, count, batch.frame_at(blockIdx.y) + f.fixed_at(chunk));
  const uint32_t length = EncodeSplitAnsTail(warp, f, pushes, {rooms.OriginsInUse(), head_values, dim}, first, in,
                                             count, rooms.TailEnd(chunk));
  if (threadIdx.x % 32 == 0) rooms.lengths[chunk] = length;
}

__global__ void EndKernel(const __grid_constant__ FrameBatch batch, SplitAnsFrame f, JobState* state) {
  const SplitAnsRooms rooms = RoomsOf(batch, f);
  DeviceBlock<kFrameThreads> team;
  const uint32_t bytes =
      EndSplitAns(team, f, *rooms.work, rooms.origins, rooms.lengths, rooms.offsets, batch.frame_at(blockIdx.y));
  if (threadIdx.x == 0) state->frames[batch.slot(blockIdx.y)].length = bytes;
}

__global__ void TailKernel(const __grid_constant__ FrameBatch batch, SplitAnsFrame f) {
  const SplitAnsRooms rooms = RoomsOf(batch, f);
  const uint32_t chunk = blockIdx.x * kWarps + threadIdx.x / 32;
  if (chunk >= f.chunks) return;
  DeviceWarp warp;
  PlaceSplitAnsTail(warp, f, batch.dense_at(blockIdx.y) + 2 * uint64_t{chunk} * kSplitAnsChunk, f.count(chunk),
                    rooms.work->mode == SplitAnsMode::kStored ? 0 : rooms.lengths[chunk], rooms.TailEnd(chunk),
                    batch.frame_at(blockIdx.y) + rooms.offsets[chunk]);
}

__device__ void Fault(const FrameBatch& batch, JobState* state) {
  if (threadIdx.x % 32 == 0) atomicCAS(&state->fault, 0u, batch.fault(DeviceFault::kEntries, blockIdx.y));
}

__global__ void OpenKernel(const __grid_constant__ FrameBatch batch, SplitAnsFrame f, JobState* state) {
  const SplitAnsRooms rooms = RoomsOf(batch, f);
  DeviceBlock<kFrameThreads> team;
  const bool right = OpenSplitAns(team, f, batch.frame_at(blockIdx.y), batch.length[blockIdx.y], *rooms.work,
                                  rooms.origins, rooms.lengths, rooms.offsets);
  if (!right) Fault(batch, state);
}

template <bool kHalf>
__global__ void DecodeKernel(const __grid_constant__ FrameBatch batch, SplitAnsFrame f, Divider head_values,
                             Divider dim, JobState* state) {
  __shared__ SplitAnsPop pops[kRansTotal];
  // The same answer for the whole block: another block may set a fault while this one begins.
  if (__syncthreads_or(state->fault != 0 ? 1 : 0) != 0) return;
  const SplitAnsRooms rooms = RoomsOf(batch, f);
  for (uint32_t slot = threadIdx.x; slot < kRansTotal; slot += kThreads) pops[slot] = PopOf(rooms.work->model, slot);
  __syncthreads();
  const uint32_t chunk = blockIdx.x * kWarps + threadIdx.x / 32;
  if (chunk >= f.chunks) return;
  const uint32_t first = chunk * kSplitAnsChunk, count = f.count(chunk), length = rooms.lengths[chunk];
  const uint8_t* fixed = batch.frame_at(blockIdx.y) + f.fixed_at(chunk);
  const uint8_t* tail = batch.frame_at(blockIdx.y) + rooms.offsets[chunk];
  uint8_t* out = batch.dense_at(blockIdx.y) + 2 * uint64_t{first};
  DeviceWarp warp;
  if (length == 0) {
    LoadSplitAns(warp, f, fixed, tail, count, out);
  } else if (!DecodeSplitAnsTail<kHalf>(warp, pops, {rooms.OriginsInUse(), head_values, dim},
                                        {first, count, fixed, tail, length}, out)) {
    Fault(batch, state);
  }
}

}  // namespace

void LaunchSplitAnsEncode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  const SplitAnsFrame f = LayOutSplitAns(shape);
  const Divider head_values = Divider::By(shape.tokens * shape.dim), dim = Divider::By(shape.dim);
  const dim3 frames(1, batch.count), warps((f.chunks + kWarps - 1) / kWarps, batch.count);
  ChooseKernel<<<frames, kFrameThreads, 0, s>>>(batch, f);
  EncodeKernel<<<warps, kThreads, 0, s>>>(batch, f, head_values, dim);
  EndKernel<<<frames, kFrameThreads, 0, s>>>(batch, f, state);
  TailKernel<<<warps, kThreads, 0, s>>>(batch, f);
}

void LaunchSplitAnsDecode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  const SplitAnsFrame f = LayOutSplitAns(shape);
  const Divider head_values = Divider::By(shape.tokens * shape.dim), dim = Divider::By(shape.dim);
  const dim3 frames(1, batch.count), warps((f.chunks + kWarps - 1) / kWarps, batch.count);
  OpenKernel<<<frames, kFrameThreads, 0, s>>>(batch, f, state);
  const auto decode = f.half ? DecodeKernel<true> : DecodeKernel<false>;
  decode<<<warps, kThreads, 0, s>>>(batch, f, head_values, dim, state);
}

}  // namespace kvasir::cuda
