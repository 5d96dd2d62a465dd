// SPDX-License-Identifier: Apache-2.0
// Launchers of what ends a pack (place, pad, checksum, directory entry) and begins an unpack (checksum). Body:
// crc32c_body.h.
#include "kernels/crc32c_body.h"
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kThreads = 512;
constexpr uint32_t kPlaceBlocks = 64;

/// CRC32C of `length` bytes by one block: each thread a piece, the pieces summed. Every thread gets the result.
__device__ uint32_t BlockCrc32c(const uint8_t* bytes, uint32_t length) {
  __shared__ uint32_t table[256];
  __shared__ uint32_t sum;
  for (uint32_t i = threadIdx.x; i < 256; i += blockDim.x) table[i] = Crc32cOfByte(i);
  if (threadIdx.x == 0)
    sum = Crc32cMultiply(0xFFFFFFFFu, Crc32cPower(length));  // the initial all-ones, moved to the end
  __syncthreads();
  const uint32_t piece = (length + blockDim.x - 1) / blockDim.x;
  const uint32_t begin = min(length, threadIdx.x * piece);
  const uint32_t end = min(length, begin + piece);
  uint32_t crc = 0;
  for (uint32_t i = begin; i < end; ++i) crc = (crc >> 8) ^ table[(crc ^ bytes[i]) & 0xFF];
  if (begin < end) atomicXor(&sum, Crc32cMultiply(crc, Crc32cPower(length - end)));
  __syncthreads();
  return ~sum;
}

__global__ void PlaceKernel(const uint8_t* frame, uint8_t* area, const JobState* state) {
  const uint32_t padded = static_cast<uint32_t>(AlignFrame(state->length));
  uint8_t* to = area + state->offset;
  const bool wide = reinterpret_cast<uintptr_t>(to) % 16 == 0;
  const uint32_t first = blockIdx.x * blockDim.x + threadIdx.x, stride = gridDim.x * blockDim.x;
  const uint32_t wide_bytes = wide ? state->length / 16 * 16 : 0;
  for (uint32_t i = first; i < wide_bytes / 16; i += stride) {
    reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(frame)[i];
  }
  for (uint32_t i = wide_bytes + first; i < padded; i += stride) to[i] = i < state->length ? frame[i] : 0;
}

__global__ void EntryKernel(const uint8_t* frame, FrameEntry* entries, uint32_t index, JobState* state) {
  const uint32_t length = state->length;
  const uint32_t crc = BlockCrc32c(frame, length);
  if (threadIdx.x != 0) return;
  entries[index] = FrameEntry{state->offset, length, crc, 0};
  state->offset = static_cast<uint32_t>(AlignFrame(uint64_t{state->offset} + length));
}

__global__ void CheckKernel(const uint8_t* frame, uint32_t length, uint32_t crc, uint32_t index, JobState* state) {
  const uint32_t got = BlockCrc32c(frame, length);
  if (threadIdx.x == 0 && got != crc) {
    atomicCAS(&state->fault, 0u, static_cast<uint32_t>(DeviceFault::kChecksum) + 256 * (1 + index));
  }
}

}  // namespace

void LaunchPlace(const uint8_t* frame, uint8_t* area, FrameEntry* entries, uint32_t index, JobState* state,
                 CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  PlaceKernel<<<kPlaceBlocks, kThreads, 0, s>>>(frame, area, state);
  EntryKernel<<<1, kThreads, 0, s>>>(frame, entries, index, state);
}

void LaunchCheck(const uint8_t* frame, uint32_t length, uint32_t crc, uint32_t index, JobState* state,
                 CudaStream stream) {
  CheckKernel<<<1, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(frame, length, crc, index, state);
}

}  // namespace kvasir::cuda
