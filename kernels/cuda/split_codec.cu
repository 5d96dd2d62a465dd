// SPDX-License-Identifier: Apache-2.0
// Launchers of P:splitexp: a warp a chunk, four times eight values a thread; tails are gathered once their lengths are
// known. A chunk that is not whole or is stored goes through the narrow bodies of p_splitexp.h and p_bits.h. The same
// bits either way. A window's frames are taken by one launch a step: frame blockIdx.y.
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kWarps = 4;  // of a block
constexpr uint32_t kThreads = kWarps * 32;
constexpr uint32_t kWide = 8;                            // values that a thread loads at once
constexpr uint32_t kTimes = kSplitChunk / (32 * kWide);  // that it does so
constexpr uint32_t kValues = kTimes * kWide;  // of a thread; value j * 8 + k is number Position() of the chunk
constexpr uint32_t kScanThreads = 1024;
constexpr uint32_t kTailRoom = kSplitChunk / 2;  // bytes of a stored tail at most, hence of any
constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

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

/// The format as a constant: what depends on it folds away.
template <bool kHalf>
__device__ constexpr SplitFormat Format() {
  return kHalf ? SplitFormat{true, 3, 31} : SplitFormat{};
}

__device__ uint32_t Lane() { return threadIdx.x % 32; }
__device__ uint32_t Position(uint32_t value) { return (value / kWide * 32 + Lane()) * kWide + value % kWide; }

/// What a warp that encodes keeps of its chunk.
struct EncodeShared {
  uint32_t best;  ///< fewest escapes, and below them 255 - top: the least is the choice
  uint32_t histogram[256];
  uint8_t nibbles[kSplitChunk], pairs[kSplitChunk], highs[kSplitChunk];
};

__device__ __forceinline__ bool Escapes(const SplitFormat& f, uint32_t top, uint32_t exponent) {
  return WindowExponent(f, top, WindowCode(f, top, exponent)) != exponent;
}

/// ChooseSplit where too many values escape from the greatest exponent.
__device__ SplitChunk ChooseByHistogram(EncodeShared& shared, const SplitFormat& f, uint32_t count, uint32_t greatest,
                                        const uint32_t (&x)[kValues]) {
  for (uint32_t i = Lane(); i < 256; i += 32) shared.histogram[i] = 0;
  if (Lane() == 0) shared.best = 0xFFFFFFFFu;
  __syncwarp();
  for (uint32_t i = 0; i < kValues; ++i) {
    if (Position(i) < count) atomicAdd(&shared.histogram[SplitExponent(f, x[i])], 1u);
  }
  __syncwarp();
  for (uint32_t t = Lane(); t <= greatest; t += 32) {
    uint32_t kept = t >= f.last() ? shared.histogram[0] : 0;
    for (uint32_t d = 0; d < f.last() && d <= t; ++d) kept += shared.histogram[t - d];
    atomicMin(&shared.best, (count - kept) << 8 | (255 - t));
  }
  __syncwarp();
  return {static_cast<uint8_t>(255 - (shared.best & 0xFF)), 0, static_cast<uint16_t>(shared.best >> 8)};
}

__device__ __forceinline__ SplitChunk Choose(EncodeShared& shared, const SplitFormat& f, uint32_t count,
                                             const uint32_t (&x)[kValues]) {
  uint32_t greatest = 0, escapes = 0;
#pragma unroll
  for (uint32_t i = 0; i < kValues; ++i) greatest = max(greatest, SplitExponent(f, x[i]));
  greatest = __reduce_max_sync(kAllLanes, greatest);
#pragma unroll
  for (uint32_t i = 0; i < kValues; ++i) {
    if (Position(i) < count && Escapes(f, greatest, SplitExponent(f, x[i]))) ++escapes;
  }
  escapes = __reduce_add_sync(kAllLanes, escapes);
  SplitChunk best{static_cast<uint8_t>(greatest), 0, static_cast<uint16_t>(escapes)};
  if (escapes > kSplitFewEscapes) best = ChooseByHistogram(shared, f, count, greatest, x);
  if (kSplitEscapeBytes * best.escapes >= f.stored_tail_bytes(count)) return {0, 1, 0};
  return best;
}

/// Fixed part and stored tail, a byte at a time.
__device__ void EncodeNarrow(EncodeShared& shared, const SplitFormat& f, const SplitChunk& chunk, const uint8_t* in,
                             uint32_t count, uint8_t* fixed, uint8_t* tail) {
  for (uint32_t i = Lane(); i < count; i += 32) {
    const uint32_t x = Load16(in + 2 * i), exponent = SplitExponent(f, x);
    const SplitPieces p = SplitValue(f, x, chunk.mode == 1 ? exponent & f.last() : WindowCode(f, chunk.top, exponent));
    fixed[i] = p.byte;
    shared.nibbles[i] = p.nibble;
    shared.pairs[i] = p.pair;
    shared.highs[i] = static_cast<uint8_t>(exponent >> f.code_bits);
  }
  __syncwarp();
  const uint32_t nibble_bytes = (count + 1) / 2, pair_bytes = f.half ? (count + 3) / 4 : 0;
  for (uint32_t i = Lane(); i < nibble_bytes; i += 32) fixed[count + i] = PackedByte(4, shared.nibbles, count, i);
  for (uint32_t i = Lane(); i < pair_bytes; i += 32)
    fixed[count + nibble_bytes + i] = PackedByte(2, shared.pairs, count, i);
  for (uint32_t i = Lane(); chunk.mode == 1 && i < f.stored_tail_bytes(count); i += 32) {
    tail[i] = PackedByte(f.tail_bits(), shared.highs, count, i);
  }
}

/// Fixed part of a whole chunk that is not stored.
__device__ __forceinline__ void EncodeWide(const SplitFormat& f, const SplitChunk& chunk, const uint32_t (&x)[kValues],
                                           uint8_t* fixed) {
#pragma unroll
  for (uint32_t j = 0; j < kTimes; ++j) {
    uint32_t bytes[2] = {}, nibbles = 0, pairs = 0;
    for (uint32_t k = 0; k < kWide; ++k) {
      const uint32_t value = x[j * kWide + k];
      const SplitPieces p = SplitValue(f, value, WindowCode(f, chunk.top, SplitExponent(f, value)));
      bytes[k / 4] |= uint32_t{p.byte} << (8 * (k % 4));
      nibbles |= uint32_t{p.nibble} << (4 * k);
      pairs |= uint32_t{p.pair} << (2 * k);
    }
    const uint32_t at = j * 32 + Lane();
    reinterpret_cast<uint32_t*>(fixed)[2 * at] = bytes[0];  // a fixed part begins on four bytes
    reinterpret_cast<uint32_t*>(fixed)[2 * at + 1] = bytes[1];
    reinterpret_cast<uint32_t*>(fixed + kSplitChunk)[at] = nibbles;
    if (f.half) reinterpret_cast<uint16_t*>(fixed + kSplitChunk * 3 / 2)[at] = static_cast<uint16_t>(pairs);
  }
}

/// Ascending: for each time, each thread behind those before it.
__device__ __forceinline__ void ListEscapes(const SplitFormat& f, const SplitChunk& chunk, const uint32_t (&x)[kValues],
                                            uint32_t count, uint8_t* tail) {
#pragma unroll
  for (uint32_t j = 0; j < kTimes; ++j) {
    uint32_t mine = 0;
    for (uint32_t k = j * kWide; k < (j + 1) * kWide; ++k) {
      if (Position(k) < count && Escapes(f, chunk.top, SplitExponent(f, x[k]))) ++mine;
    }
    uint32_t sum = mine;
    for (uint32_t d = 1; d < 32; d *= 2) {
      const uint32_t below = __shfl_up_sync(kAllLanes, sum, d);
      if (Lane() >= d) sum += below;
    }
    uint8_t* to = tail + kSplitEscapeBytes * (sum - mine);
    for (uint32_t k = j * kWide; k < (j + 1) * kWide; ++k) {
      const uint32_t exponent = SplitExponent(f, x[k]);
      if (Position(k) >= count || !Escapes(f, chunk.top, exponent)) continue;
      Store16(to, Position(k));
      to[2] = static_cast<uint8_t>(exponent);
      to += kSplitEscapeBytes;
    }
    tail += kSplitEscapeBytes * __shfl_sync(kAllLanes, sum, 31);
  }
}

template <bool kHalf>
__global__ void __launch_bounds__(kThreads, 6)
    EncodeKernel(const __grid_constant__ FrameBatch batch, uint64_t elements, uint32_t chunks) {
  constexpr SplitFormat f = Format<kHalf>();
  __shared__ EncodeShared of_warps[kWarps];
  EncodeShared& shared = of_warps[threadIdx.x / 32];
  const uint32_t index = blockIdx.x * kWarps + threadIdx.x / 32;
  if (index >= chunks) return;  // a whole warp
  const uint32_t count = CountOf(elements, index);
  const uint8_t* in = batch.dense_at(blockIdx.y) + uint64_t{index} * kSplitChunk * 2;
  uint8_t* frame = batch.frame_at(blockIdx.y);
  uint8_t* fixed = FixedOf(f, frame, chunks, index);
  uint8_t* tail = batch.codes + (uint64_t{blockIdx.y} * chunks + index) * kTailRoom;
  uint32_t x[kValues] = {};  // zeros beyond the end: not counted, and never the greatest alone
  if (count == kSplitChunk) {
    uint4 words[kTimes];
#pragma unroll
    for (uint32_t j = 0; j < kTimes; ++j) words[j] = reinterpret_cast<const uint4*>(in)[j * 32 + Lane()];
#pragma unroll
    for (uint32_t j = 0; j < kTimes; ++j) {
      const uint32_t w[] = {words[j].x, words[j].y, words[j].z, words[j].w};
      for (uint32_t k = 0; k < kWide; ++k) x[j * kWide + k] = (w[k / 2] >> (16 * (k % 2))) & 0xFFFF;
    }
  } else {
#pragma unroll
    for (uint32_t i = 0; i < kValues; ++i) {
      if (Position(i) < count) x[i] = Load16(in + 2 * Position(i));
    }
  }
  const SplitChunk chunk = Choose(shared, f, count, x);
  if (chunk.mode == 0 && count == kSplitChunk) {
    EncodeWide(f, chunk, x, fixed);
  } else {
    EncodeNarrow(shared, f, chunk, in, count, fixed, tail);
  }
  if (chunk.escapes > 0) ListEscapes(f, chunk, x, count, tail);
  if (Lane() == 0) {
    reinterpret_cast<uint32_t*>(frame)[index] = chunk.top | uint32_t{chunk.mode} << 8 | uint32_t{chunk.escapes} << 16;
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
  const uint32_t chunk = blockIdx.x * kWarps + threadIdx.x / 32;
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

/// A whole chunk that is not stored.
__device__ __forceinline__ void DecodeWide(const SplitFormat& f, const SplitChunk& chunk, const uint8_t* fixed,
                                           uint8_t* out) {
  uint32_t bytes[kTimes][2], nibbles[kTimes], pairs[kTimes] = {};
#pragma unroll
  for (uint32_t j = 0; j < kTimes; ++j) {  // all loads before the first use
    const uint32_t at = j * 32 + Lane();
    bytes[j][0] = reinterpret_cast<const uint32_t*>(fixed)[2 * at];
    bytes[j][1] = reinterpret_cast<const uint32_t*>(fixed)[2 * at + 1];
    nibbles[j] = reinterpret_cast<const uint32_t*>(fixed + kSplitChunk)[at];
    if (f.half) pairs[j] = reinterpret_cast<const uint16_t*>(fixed + kSplitChunk * 3 / 2)[at];
  }
#pragma unroll
  for (uint32_t j = 0; j < kTimes; ++j) {
    uint32_t x[kWide];
    for (uint32_t k = 0; k < kWide; ++k) {
      SplitPieces p;
      p.byte = static_cast<uint8_t>(bytes[j][k / 4] >> (8 * (k % 4)));
      p.nibble = (nibbles[j] >> (4 * k)) & 0xF;
      p.pair = (pairs[j] >> (2 * k)) & 3;
      x[k] = JoinValue(f, p, WindowExponent(f, chunk.top, SplitCode(f, p)));
    }
    reinterpret_cast<uint4*>(out)[j * 32 + Lane()] =
        uint4{x[0] | x[1] << 16, x[2] | x[3] << 16, x[4] | x[5] << 16, x[6] | x[7] << 16};
  }
}

template <bool kHalf>
__global__ void DecodeKernel(const __grid_constant__ FrameBatch batch, uint64_t elements, uint32_t chunks,
                             JobState* state) {
  constexpr SplitFormat f = Format<kHalf>();
  const uint32_t index = blockIdx.x * kWarps + threadIdx.x / 32;
  if (index >= chunks || __any_sync(kAllLanes, state->fault != 0)) return;  // a whole warp
  uint8_t* frame = batch.frame_at(blockIdx.y);
  const uint32_t count = CountOf(elements, index);
  const SplitChunk chunk = EntryOf(frame, index);
  const uint8_t* fixed = FixedOf(f, frame, chunks, index);
  const uint8_t* tail = frame + (batch.offsets + blockIdx.y * chunks)[index];
  uint8_t* out = batch.dense_at(blockIdx.y) + uint64_t{index} * kSplitChunk * 2;
  if (chunk.mode == 0 && count == kSplitChunk) {
    DecodeWide(f, chunk, fixed, out);
  } else {
    for (uint32_t i = Lane(); i < count; i += 32) Store16(out + 2 * i, SplitElement(f, chunk, fixed, tail, count, i));
  }
  if (chunk.escapes == 0) return;
  __syncwarp();
  for (uint32_t i = Lane(); i < chunk.escapes; i += 32) {
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
  const uint32_t chunks = SplitChunks(shape.elements());
  const dim3 warps((chunks + kWarps - 1) / kWarps, batch.count), frames(1, batch.count);
  const auto encode = f.half ? EncodeKernel<true> : EncodeKernel<false>;
  encode<<<warps, kThreads, 0, s>>>(batch, shape.elements(), chunks);
  TailOffsetsKernel<<<frames, kScanThreads, 0, s>>>(batch, f, shape.elements(), chunks, state);
  TailsKernel<<<warps, kThreads, 0, s>>>(batch, f, shape.elements(), chunks);
}

void LaunchSplitDecode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream stream) {
  const cudaStream_t s = static_cast<cudaStream_t>(stream);
  const SplitFormat f = SplitFormatOf(shape.element);
  const uint32_t chunks = SplitChunks(shape.elements());
  const dim3 warps((chunks + kWarps - 1) / kWarps, batch.count), frames(1, batch.count);
  CheckEntriesKernel<<<frames, kScanThreads, 0, s>>>(batch, f, shape.elements(), chunks, state);
  const auto decode = f.half ? DecodeKernel<true> : DecodeKernel<false>;
  decode<<<warps, kThreads, 0, s>>>(batch, shape.elements(), chunks, state);
}

}  // namespace kvasir::cuda
