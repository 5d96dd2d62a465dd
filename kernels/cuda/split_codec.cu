// SPDX-License-Identifier: Apache-2.0
// Launchers of P:splitexp: a block a chunk, eight values a thread; tails are gathered once their lengths are known. A
// chunk that is not whole or is stored goes through the narrow bodies of p_splitexp.h and p_bits.h. The same bits
// either way. A window's frames are taken by one launch a step: frame blockIdx.y.
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kThreads = 128;
constexpr uint32_t kWide = kSplitChunk / kThreads;  // values of a thread
constexpr uint32_t kScanThreads = 1024;
constexpr uint32_t kTailRoom = kSplitChunk / 2;  // bytes of a stored tail at most, hence of any
constexpr uint32_t kAllLanes = 0xFFFFFFFFu;
static_assert(kWide == 8);

__device__ uint32_t CountOf(uint64_t elements, uint32_t chunk) {
  const uint64_t left = elements - uint64_t{chunk} * kSplitChunk;
  return static_cast<uint32_t>(left < kSplitChunk ? left : kSplitChunk);
}
__device__ uint8_t* FixedOf(const SplitFormat& f, uint8_t* frame, uint32_t chunks, uint32_t chunk) {
  return frame + uint64_t{chunks} * kSplitEntryBytes + uint64_t{chunk} * f.fixed_bytes(kSplitChunk);
}
__device__ SplitChunk EntryOf(const uint8_t* frame, uint32_t chunk) {
  const uint32_t entry = reinterpret_cast<const uint32_t*>(frame)[chunk];
  return SplitChunk{static_cast<uint8_t>(entry), static_cast<uint8_t>(entry >> 8), static_cast<uint16_t>(entry >> 16)};
}
__device__ uint32_t TailsAt(const SplitFormat& f, uint64_t elements, uint32_t chunks) {
  return static_cast<uint32_t>(uint64_t{chunks} * kSplitEntryBytes + uint64_t{chunks - 1} * f.fixed_bytes(kSplitChunk) +
                               f.fixed_bytes(CountOf(elements, chunks - 1)));
}

/// The sum of `value` over the threads before, and over all, by every thread of a block of kCount threads.
template <uint32_t kCount>
__device__ uint32_t SumBefore(uint32_t value, uint32_t& all) {
  __shared__ uint32_t of_warp[kCount / 32];
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  uint32_t sum = value;
  for (uint32_t d = 1; d < 32; d *= 2) {
    const uint32_t below = __shfl_up_sync(kAllLanes, sum, d);
    if (lane >= d) sum += below;
  }
  __syncthreads();  // the sums of the call before have been read
  if (lane == 31) of_warp[warp] = sum;
  __syncthreads();
  uint32_t before = sum - value;
  all = 0;
  for (uint32_t w = 0; w < kCount / 32; ++w) {
    if (w < warp) before += of_warp[w];
    all += of_warp[w];
  }
  return before;
}

/// What a block that encodes keeps of its chunk.
struct EncodeShared {
  uint32_t greatest;  ///< exponent
  uint32_t escapes;   ///< with that as the top
  uint32_t best;      ///< fewest escapes, and below them 255 - top: the least is the choice
  uint32_t histogram[256];
  uint8_t nibbles[kSplitChunk], pairs[kSplitChunk], highs[kSplitChunk];
};

__device__ bool Escapes(const SplitFormat& f, uint32_t top, uint32_t exponent) {
  return WindowExponent(f, top, WindowCode(f, top, exponent)) != exponent;
}

/// ChooseSplit by a block: first the greatest exponent as the top; the histogram only where too many escape.
template <class Exponent>
__device__ SplitChunk Choose(EncodeShared& shared, const SplitFormat& f, uint32_t count, const Exponent& exponent_of) {
  if (threadIdx.x == 0) shared.greatest = shared.escapes = 0;
  if (threadIdx.x == 0) shared.best = 0xFFFFFFFFu;
  for (uint32_t i = threadIdx.x; i < 256; i += kThreads) shared.histogram[i] = 0;
  __syncthreads();
  uint32_t greatest = 0, escapes = 0;
  for (uint32_t k = 0; k < kWide; ++k) greatest = max(greatest, exponent_of(k));
  greatest = __reduce_max_sync(kAllLanes, greatest);
  if (threadIdx.x % 32 == 0) atomicMax(&shared.greatest, greatest);
  __syncthreads();
  greatest = shared.greatest;
  for (uint32_t k = 0; k < kWide; ++k) {
    if (threadIdx.x * kWide + k < count && Escapes(f, greatest, exponent_of(k))) ++escapes;
  }
  escapes = __reduce_add_sync(kAllLanes, escapes);
  if (threadIdx.x % 32 == 0) atomicAdd(&shared.escapes, escapes);
  __syncthreads();
  uint32_t top = greatest, fewest = shared.escapes;
  if (fewest > kSplitFewEscapes) {
    for (uint32_t k = 0; k < kWide; ++k) {
      if (threadIdx.x * kWide + k < count) atomicAdd(&shared.histogram[exponent_of(k)], 1u);
    }
    __syncthreads();
    for (uint32_t t = threadIdx.x; t <= greatest; t += kThreads) {
      uint32_t kept = t >= f.last() ? shared.histogram[0] : 0;
      for (uint32_t d = 0; d < f.last() && d <= t; ++d) kept += shared.histogram[t - d];
      atomicMin(&shared.best, (count - kept) << 8 | (255 - t));
    }
    __syncthreads();
    top = 255 - (shared.best & 0xFF);
    fewest = shared.best >> 8;
  }
  if (kSplitEscapeBytes * fewest >= f.stored_tail_bytes(count)) return {0, 1, 0};
  return {static_cast<uint8_t>(top), 0, static_cast<uint16_t>(fewest)};
}

/// Fixed part and stored tail, a byte at a time.
__device__ void EncodeNarrow(EncodeShared& shared, const SplitFormat& f, const SplitChunk& chunk, const uint8_t* in,
                             uint32_t count, uint8_t* fixed, uint8_t* tail) {
  for (uint32_t i = threadIdx.x; i < count; i += kThreads) {
    const uint32_t x = Load16(in + 2 * i), exponent = SplitExponent(f, x);
    const SplitPieces p = SplitValue(f, x, chunk.mode == 1 ? exponent & f.last() : WindowCode(f, chunk.top, exponent));
    fixed[i] = p.byte;
    shared.nibbles[i] = p.nibble;
    shared.pairs[i] = p.pair;
    shared.highs[i] = static_cast<uint8_t>(exponent >> f.code_bits);
  }
  __syncthreads();
  const uint32_t nibble_bytes = (count + 1) / 2, pair_bytes = f.half ? (count + 3) / 4 : 0;
  for (uint32_t i = threadIdx.x; i < nibble_bytes; i += kThreads)
    fixed[count + i] = PackedByte(4, shared.nibbles, count, i);
  for (uint32_t i = threadIdx.x; i < pair_bytes; i += kThreads)
    fixed[count + nibble_bytes + i] = PackedByte(2, shared.pairs, count, i);
  for (uint32_t i = threadIdx.x; chunk.mode == 1 && i < f.stored_tail_bytes(count); i += kThreads) {
    tail[i] = PackedByte(f.tail_bits(), shared.highs, count, i);
  }
}

/// Fixed part of a whole chunk that is not stored: eight values of a thread.
__device__ void EncodeWide(const SplitFormat& f, const SplitChunk& chunk, const uint32_t (&x)[kWide], uint8_t* fixed) {
  uint32_t bytes[2] = {}, nibbles = 0, pairs = 0;
  for (uint32_t k = 0; k < kWide; ++k) {
    const SplitPieces p = SplitValue(f, x[k], WindowCode(f, chunk.top, SplitExponent(f, x[k])));
    bytes[k / 4] |= uint32_t{p.byte} << (8 * (k % 4));
    nibbles |= uint32_t{p.nibble} << (4 * k);
    pairs |= uint32_t{p.pair} << (2 * k);
  }
  reinterpret_cast<uint32_t*>(fixed)[2 * threadIdx.x] = bytes[0];  // a fixed part begins on four bytes
  reinterpret_cast<uint32_t*>(fixed)[2 * threadIdx.x + 1] = bytes[1];
  reinterpret_cast<uint32_t*>(fixed + kSplitChunk)[threadIdx.x] = nibbles;
  if (f.half) reinterpret_cast<uint16_t*>(fixed + kSplitChunk * 3 / 2)[threadIdx.x] = static_cast<uint16_t>(pairs);
}

/// Ascending, each thread behind those before it.
__device__ void ListEscapes(const SplitFormat& f, const SplitChunk& chunk, const uint32_t (&x)[kWide], uint32_t count,
                            uint8_t* tail) {
  uint32_t mine = 0, all;
  for (uint32_t k = 0; k < kWide; ++k) {
    if (threadIdx.x * kWide + k < count && Escapes(f, chunk.top, SplitExponent(f, x[k]))) ++mine;
  }
  uint8_t* to = tail + kSplitEscapeBytes * SumBefore<kThreads>(mine, all);
  for (uint32_t k = 0; mine > 0 && k < kWide; ++k) {
    const uint32_t i = threadIdx.x * kWide + k, exponent = SplitExponent(f, x[k]);
    if (i >= count || !Escapes(f, chunk.top, exponent)) continue;
    Store16(to, i);
    to[2] = static_cast<uint8_t>(exponent);
    to += kSplitEscapeBytes;
  }
}

__global__ void EncodeKernel(const __grid_constant__ FrameBatch batch, SplitFormat f, uint64_t elements) {
  __shared__ EncodeShared shared;
  const uint32_t count = CountOf(elements, blockIdx.x);
  const uint8_t* in = batch.dense_at(blockIdx.y) + uint64_t{blockIdx.x} * kSplitChunk * 2;
  uint8_t* frame = batch.frame_at(blockIdx.y);
  uint8_t* fixed = FixedOf(f, frame, gridDim.x, blockIdx.x);
  uint8_t* tail = batch.codes + (uint64_t{blockIdx.y} * gridDim.x + blockIdx.x) * kTailRoom;
  uint32_t x[kWide] = {};  // zeros beyond the end: not counted, and never the greatest alone
  if (count == kSplitChunk) {
    const uint4 w = reinterpret_cast<const uint4*>(in)[threadIdx.x];
    const uint32_t words[] = {w.x, w.y, w.z, w.w};
    for (uint32_t k = 0; k < kWide; ++k) x[k] = (words[k / 2] >> (16 * (k % 2))) & 0xFFFF;
  } else {
    for (uint32_t k = 0; k < kWide; ++k) {
      if (threadIdx.x * kWide + k < count) x[k] = Load16(in + 2 * (threadIdx.x * kWide + k));
    }
  }
  const SplitChunk chunk = Choose(shared, f, count, [&](uint32_t k) { return SplitExponent(f, x[k]); });
  if (chunk.mode == 0 && count == kSplitChunk) {
    EncodeWide(f, chunk, x, fixed);
  } else {
    EncodeNarrow(shared, f, chunk, in, count, fixed, tail);
  }
  if (chunk.escapes > 0) ListEscapes(f, chunk, x, count, tail);
  if (threadIdx.x == 0) {
    reinterpret_cast<uint32_t*>(frame)[blockIdx.x] =
        chunk.top | uint32_t{chunk.mode} << 8 | uint32_t{chunk.escapes} << 16;
  }
}

/// Where each tail begins in the frame, and the frame's length.
__global__ void TailOffsetsKernel(const __grid_constant__ FrameBatch batch, SplitFormat f, uint64_t elements,
                                  uint32_t chunks, JobState* state) {
  const uint8_t* frame = batch.frame_at(blockIdx.y);
  uint32_t* offsets = batch.offsets + blockIdx.y * chunks;
  uint32_t end = TailsAt(f, elements, chunks);
  for (uint32_t first = 0; first < chunks; first += kScanThreads) {
    const uint32_t i = first + threadIdx.x;
    const uint32_t bytes = i < chunks ? f.tail_bytes(EntryOf(frame, i), CountOf(elements, i)) : 0;
    uint32_t all;
    const uint32_t before = SumBefore<kScanThreads>(bytes, all);
    if (i < chunks) offsets[i] = end + before;
    end += all;
  }
  if (threadIdx.x == 0) state->frames[batch.slot(blockIdx.y)].length = end;
}

/// A warp a chunk.
__global__ void TailsKernel(const __grid_constant__ FrameBatch batch, SplitFormat f, uint64_t elements,
                            uint32_t chunks) {
  const uint32_t chunk = blockIdx.x * (kThreads / 32) + threadIdx.x / 32;
  if (chunk >= chunks) return;
  uint8_t* frame = batch.frame_at(blockIdx.y);
  const uint32_t bytes = f.tail_bytes(EntryOf(frame, chunk), CountOf(elements, chunk));
  const uint8_t* tail = batch.codes + (uint64_t{blockIdx.y} * chunks + chunk) * kTailRoom;
  uint8_t* to = frame + (batch.offsets + blockIdx.y * chunks)[chunk];
  for (uint32_t i = threadIdx.x % 32; i < bytes; i += 32) to[i] = tail[i];
}

/// The checks of CheckEntries in p_splitexp.cc, and the offsets. A sum cannot pass 2^32: a tail has at most 3 * 65535
/// bytes, and a window at most 2^14 chunks.
__global__ void CheckEntriesKernel(const __grid_constant__ FrameBatch batch, SplitFormat f, uint64_t elements,
                                   uint32_t chunks, JobState* state) {
  const uint8_t* frame = batch.frame_at(blockIdx.y);
  const uint32_t length = batch.length[blockIdx.y];
  uint32_t* offsets = batch.offsets + blockIdx.y * chunks;
  uint32_t end = TailsAt(f, elements, chunks);
  bool good = end <= length;  // the entries are there
  const bool there = good;
  for (uint32_t first = 0; there && first < chunks; first += kScanThreads) {
    const uint32_t i = first + threadIdx.x;
    uint32_t bytes = 0;
    if (i < chunks) {
      const SplitChunk chunk = EntryOf(frame, i);
      const uint32_t count = CountOf(elements, i);
      good = good && chunk.mode <= 1 && chunk.top <= f.exponent_max && chunk.escapes <= (chunk.mode == 1 ? 0 : count);
      bytes = f.tail_bytes(chunk, count);
    }
    uint32_t all;
    const uint32_t before = SumBefore<kScanThreads>(bytes, all);
    if (i < chunks) offsets[i] = end + before;
    end += all;
  }
  if (!good || end != length) atomicCAS(&state->fault, 0u, batch.fault(DeviceFault::kEntries, blockIdx.y));
}

/// Eight values of a thread, of a whole chunk that is not stored.
__device__ void DecodeWide(const SplitFormat& f, const SplitChunk& chunk, const uint8_t* fixed, uint8_t* out) {
  const uint32_t bytes[] = {reinterpret_cast<const uint32_t*>(fixed)[2 * threadIdx.x],
                            reinterpret_cast<const uint32_t*>(fixed)[2 * threadIdx.x + 1]};
  const uint32_t nibbles = reinterpret_cast<const uint32_t*>(fixed + kSplitChunk)[threadIdx.x];
  const uint32_t pairs =
      f.half ? uint32_t{reinterpret_cast<const uint16_t*>(fixed + kSplitChunk * 3 / 2)[threadIdx.x]} : 0;
  uint32_t x[kWide];
  for (uint32_t k = 0; k < kWide; ++k) {
    SplitPieces p;
    p.byte = static_cast<uint8_t>(bytes[k / 4] >> (8 * (k % 4)));
    p.nibble = (nibbles >> (4 * k)) & 0xF;
    p.pair = (pairs >> (2 * k)) & 3;
    x[k] = JoinValue(f, p, WindowExponent(f, chunk.top, SplitCode(f, p)));
  }
  reinterpret_cast<uint4*>(out)[threadIdx.x] =
      uint4{x[0] | x[1] << 16, x[2] | x[3] << 16, x[4] | x[5] << 16, x[6] | x[7] << 16};
}

__global__ void DecodeKernel(const __grid_constant__ FrameBatch batch, SplitFormat f, uint64_t elements,
                             JobState* state) {
  if (state->fault != 0) return;
  uint8_t* frame = batch.frame_at(blockIdx.y);
  const uint32_t count = CountOf(elements, blockIdx.x);
  const SplitChunk chunk = EntryOf(frame, blockIdx.x);
  const uint8_t* fixed = FixedOf(f, frame, gridDim.x, blockIdx.x);
  const uint8_t* tail = frame + (batch.offsets + blockIdx.y * gridDim.x)[blockIdx.x];
  uint8_t* out = batch.dense_at(blockIdx.y) + uint64_t{blockIdx.x} * kSplitChunk * 2;
  if (chunk.mode == 0 && count == kSplitChunk) {
    DecodeWide(f, chunk, fixed, out);
  } else {
    for (uint32_t i = threadIdx.x; i < count; i += kThreads)
      Store16(out + 2 * i, SplitElement(f, chunk, fixed, tail, count, i));
  }
  if (chunk.escapes == 0) return;
  __syncthreads();
  for (uint32_t i = threadIdx.x; i < chunk.escapes; i += kThreads) {
    const uint8_t* escape = tail + kSplitEscapeBytes * i;
    const uint32_t position = Load16(escape);
    const bool ascends = i == 0 || Load16(escape - kSplitEscapeBytes) < position;
    if (position >= count || !ascends || escape[2] > f.exponent_max) {
      atomicCAS(&state->fault, 0u, batch.fault(DeviceFault::kEntries, blockIdx.y));
    } else {
      Store16(out + 2 * position, WithExponent(f, Load16(out + 2 * position), escape[2]));
    }
  }
}

}  // namespace

void LaunchSplitEncode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  const SplitFormat f = SplitFormatOf(shape.element);
  const uint32_t chunks = SplitChunks(shape.elements()), chunks_a_block = kThreads / 32;
  EncodeKernel<<<dim3(chunks, batch.count), kThreads, 0, s>>>(batch, f, shape.elements());
  TailOffsetsKernel<<<dim3(1, batch.count), kScanThreads, 0, s>>>(batch, f, shape.elements(), chunks, state);
  TailsKernel<<<dim3((chunks + chunks_a_block - 1) / chunks_a_block, batch.count), kThreads, 0, s>>>(
      batch, f, shape.elements(), chunks);
}

void LaunchSplitDecode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  const SplitFormat f = SplitFormatOf(shape.element);
  const uint32_t chunks = SplitChunks(shape.elements());
  CheckEntriesKernel<<<dim3(1, batch.count), kScanThreads, 0, s>>>(batch, f, shape.elements(), chunks, state);
  DecodeKernel<<<dim3(chunks, batch.count), kThreads, 0, s>>>(batch, f, shape.elements(), state);
}

}  // namespace kvasir::cuda
