// SPDX-License-Identifier: Apache-2.0
// Launchers of P:splitexp: a block a chunk; tails are gathered once their lengths are known. Bodies: p_splitexp.h,
// p_bits.h.
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kTailRoom = kSplitChunk / 2;  // bytes of a stored tail at most, hence of any

__device__ uint32_t CountOf(uint64_t elements, uint32_t chunk) {
  const uint64_t left = elements - uint64_t{chunk} * kSplitChunk;
  return static_cast<uint32_t>(left < kSplitChunk ? left : kSplitChunk);
}
__device__ uint8_t* FixedOf(const SplitFormat& f, uint8_t* frame, uint32_t chunks, uint32_t chunk) {
  return frame + uint64_t{chunks} * kSplitEntryBytes + uint64_t{chunk} * f.fixed_bytes(kSplitChunk);
}
__device__ SplitChunk EntryOf(const uint8_t* frame, uint32_t chunk) {
  const uint8_t* p = frame + uint64_t{chunk} * kSplitEntryBytes;
  return SplitChunk{p[0], p[1], Load16(p + 2)};
}
__device__ uint32_t TailsAt(const SplitFormat& f, uint64_t elements, uint32_t chunks) {
  return static_cast<uint32_t>(uint64_t{chunks} * kSplitEntryBytes + uint64_t{chunks - 1} * f.fixed_bytes(kSplitChunk) +
                               f.fixed_bytes(CountOf(elements, chunks - 1)));
}

/// Escapes of one chunk, ascending: few, so one thread lists them.
__device__ void ListEscapes(const SplitFormat& f, const SplitChunk& chunk, const uint8_t* in, uint32_t count,
                            uint8_t* tail) {
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t exponent = SplitExponent(f, Load16(in + 2 * i));
    if (WindowExponent(f, chunk.top, WindowCode(f, chunk.top, exponent)) == exponent) continue;
    Store16(tail, i);
    tail[2] = static_cast<uint8_t>(exponent);
    tail += kSplitEscapeBytes;
  }
}

__global__ void EncodeKernel(SplitFormat f, uint64_t elements, const uint8_t* dense, uint8_t* frame, uint8_t* tails) {
  __shared__ uint32_t histogram[256];
  __shared__ SplitChunk chunk;
  __shared__ uint8_t nibbles[kSplitChunk], pairs[kSplitChunk], highs[kSplitChunk];
  const uint32_t count = CountOf(elements, blockIdx.x);
  const uint8_t* in = dense + uint64_t{blockIdx.x} * kSplitChunk * 2;
  uint8_t* fixed = FixedOf(f, frame, gridDim.x, blockIdx.x);
  uint8_t* tail = tails + uint64_t{blockIdx.x} * kTailRoom;
  for (uint32_t i = threadIdx.x; i < 256; i += blockDim.x) histogram[i] = 0;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x)
    atomicAdd(&histogram[SplitExponent(f, Load16(in + 2 * i))], 1u);
  __syncthreads();
  if (threadIdx.x == 0) chunk = ChooseSplit(f, histogram, count);
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x) {
    const uint32_t x = Load16(in + 2 * i), exponent = SplitExponent(f, x);
    const SplitPieces p = SplitValue(f, x, chunk.mode == 1 ? exponent & f.last() : WindowCode(f, chunk.top, exponent));
    fixed[i] = p.byte;
    nibbles[i] = p.nibble;
    pairs[i] = p.pair;
    highs[i] = static_cast<uint8_t>(exponent >> f.code_bits);
  }
  __syncthreads();
  const uint32_t nibble_bytes = (count + 1) / 2, pair_bytes = f.half ? (count + 3) / 4 : 0;
  for (uint32_t i = threadIdx.x; i < nibble_bytes; i += blockDim.x) fixed[count + i] = PackedByte(4, nibbles, count, i);
  for (uint32_t i = threadIdx.x; i < pair_bytes; i += blockDim.x)
    fixed[count + nibble_bytes + i] = PackedByte(2, pairs, count, i);
  for (uint32_t i = threadIdx.x; chunk.mode == 1 && i < f.stored_tail_bytes(count); i += blockDim.x) {
    tail[i] = PackedByte(f.tail_bits(), highs, count, i);
  }
  if (threadIdx.x != 0) return;
  if (chunk.escapes > 0) ListEscapes(f, chunk, in, count, tail);
  uint8_t* entry = frame + uint64_t{blockIdx.x} * kSplitEntryBytes;
  entry[0] = chunk.top;
  entry[1] = chunk.mode;
  Store16(entry + 2, chunk.escapes);
}

/// Where each tail begins in the frame; the frame's length. One thread: a frame has tens of chunks.
__global__ void TailOffsetsKernel(SplitFormat f, uint64_t elements, uint32_t chunks, const uint8_t* frame,
                                  uint32_t* offsets, JobState* state) {
  uint32_t end = TailsAt(f, elements, chunks);
  for (uint32_t i = 0; i < chunks; ++i) {
    offsets[i] = end;
    end += f.tail_bytes(EntryOf(frame, i), CountOf(elements, i));
  }
  state->length = end;
}

__global__ void TailsKernel(SplitFormat f, uint64_t elements, uint8_t* frame, const uint8_t* tails,
                            const uint32_t* offsets) {
  const uint32_t bytes = f.tail_bytes(EntryOf(frame, blockIdx.x), CountOf(elements, blockIdx.x));
  for (uint32_t i = threadIdx.x; i < bytes; i += blockDim.x) {
    frame[offsets[blockIdx.x] + i] = tails[uint64_t{blockIdx.x} * kTailRoom + i];
  }
}

/// The checks of CheckEntries in p_splitexp.cc, and the offsets. One thread; every length is checked before it is used.
__global__ void CheckEntriesKernel(SplitFormat f, uint64_t elements, uint32_t chunks, uint32_t length,
                                   const uint8_t* frame, uint32_t* offsets, uint32_t index, JobState* state) {
  uint64_t end = TailsAt(f, elements, chunks);
  bool good = end <= length;
  for (uint32_t i = 0; good && i < chunks; ++i) {
    const SplitChunk chunk = EntryOf(frame, i);
    const uint32_t count = CountOf(elements, i);
    good = chunk.mode <= 1 && chunk.top <= f.exponent_max && chunk.escapes <= (chunk.mode == 1 ? 0 : count);
    offsets[i] = static_cast<uint32_t>(end);
    end += f.tail_bytes(chunk, count);
    good = good && end <= length;
  }
  if (!good || end != length)
    atomicCAS(&state->fault, 0u, static_cast<uint32_t>(DeviceFault::kEntries) + 256 * (1 + index));
}

__global__ void DecodeKernel(SplitFormat f, uint64_t elements, uint8_t* frame, const uint32_t* offsets, uint8_t* dense,
                             uint32_t index, JobState* state) {
  if (state->fault != 0) return;
  const uint32_t count = CountOf(elements, blockIdx.x);
  const SplitChunk chunk = EntryOf(frame, blockIdx.x);
  const uint8_t* fixed = FixedOf(f, frame, gridDim.x, blockIdx.x);
  const uint8_t* tail = frame + offsets[blockIdx.x];
  uint8_t* out = dense + uint64_t{blockIdx.x} * kSplitChunk * 2;
  for (uint32_t i = threadIdx.x; i < count; i += blockDim.x)
    Store16(out + 2 * i, SplitElement(f, chunk, fixed, tail, count, i));
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < chunk.escapes; i += blockDim.x) {
    const uint8_t* escape = tail + kSplitEscapeBytes * i;
    const uint32_t position = Load16(escape);
    const bool ascends = i == 0 || Load16(escape - kSplitEscapeBytes) < position;
    if (position >= count || !ascends || escape[2] > f.exponent_max) {
      atomicCAS(&state->fault, 0u, static_cast<uint32_t>(DeviceFault::kEntries) + 256 * (1 + index));
    } else {
      Store16(out + 2 * position, WithExponent(f, Load16(out + 2 * position), escape[2]));
    }
  }
}

}  // namespace

void LaunchSplitEncode(const FrameShape& shape, const FrameScratch& scratch, JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  const SplitFormat f = SplitFormatOf(shape.element);
  const uint32_t chunks = SplitChunks(shape.elements());
  EncodeKernel<<<chunks, kThreads, 0, s>>>(f, shape.elements(), scratch.dense, scratch.frame, scratch.codes);
  TailOffsetsKernel<<<1, 1, 0, s>>>(f, shape.elements(), chunks, scratch.frame, scratch.offsets, state);
  TailsKernel<<<chunks, kThreads, 0, s>>>(f, shape.elements(), scratch.frame, scratch.codes, scratch.offsets);
}

void LaunchSplitDecode(const FrameShape& shape, uint32_t length, const FrameScratch& scratch, uint32_t index,
                       JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  const SplitFormat f = SplitFormatOf(shape.element);
  const uint32_t chunks = SplitChunks(shape.elements());
  CheckEntriesKernel<<<1, 1, 0, s>>>(f, shape.elements(), chunks, length, scratch.frame, scratch.offsets, index, state);
  DecodeKernel<<<chunks, kThreads, 0, s>>>(f, shape.elements(), scratch.frame, scratch.offsets, scratch.dense, index,
                                           state);
}

}  // namespace kvasir::cuda
