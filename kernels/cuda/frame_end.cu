// SPDX-License-Identifier: Apache-2.0
// Launchers of what ends a pack (place, pad, checksum, directory entry) and begins an unpack (checksum). Arithmetic:
// crc32c_body.h.
//
// A frame is cut into pieces of 8 KiB, a block each; a thread takes 32 bytes of a piece. What a thread, and then a
// block, finds is moved to its place by a product with a power of x, and added; the last block to end has the sum:
//   crc of full pieces   F = sum over p of crc(p) * x^(8 * 8192 * full pieces after p)
//   crc of the frame     ~(F * x^(8 * bytes of the last piece) + crc(last piece))
// The last piece may be shorter: zeros stand before it, which change nothing as every sum begins at 0. The initial
// all-ones of CRC32C are added to the first four bytes instead.
#include "kernels/crc32c_body.h"
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kPiece = 8192;
constexpr uint32_t kThreadBytes = kPiece / kThreads;
constexpr uint32_t kBlocksMax = 128;  // of one frame
constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

struct Crc32cConstants {
  uint32_t bytes[4][256] = {};      ///< [k][b]: byte b with k bytes of zero after it
  uint32_t weights[kThreads] = {};  ///< x^(8 * bytes of a piece after those of thread t)
  uint32_t squares[32] = {};        ///< x^(8 * 2^k)
};

constexpr Crc32cConstants MakeConstants() {
  Crc32cConstants c;
  for (uint32_t b = 0; b < 256; ++b) {
    c.bytes[0][b] = Crc32cOfByte(b);
    for (uint32_t k = 1; k < 4; ++k) c.bytes[k][b] = (c.bytes[k - 1][b] >> 8) ^ Crc32cOfByte(c.bytes[k - 1][b] & 0xFF);
  }
  const uint32_t step = Crc32cPower(kThreadBytes);
  c.weights[kThreads - 1] = 0x80000000u;  // 1
  for (uint32_t t = kThreads - 1; t > 0; --t) c.weights[t - 1] = Crc32cMultiply(c.weights[t], step);
  c.squares[0] = 0x00800000u;  // x^8
  for (uint32_t k = 1; k < 32; ++k) c.squares[k] = Crc32cMultiply(c.squares[k - 1], c.squares[k - 1]);
  return c;
}

__device__ constexpr Crc32cConstants kConstants = MakeConstants();

/// What a block keeps of the piece at hand.
struct BlockShared {
  uint32_t bytes[4][256];
  uint4 piece[kPiece / sizeof(uint4)];
  uint32_t sum;
  uint32_t last;  ///< not 0: this block ends last
};

/// a * b mod P by a warp: lane k has b * x^k.
__device__ uint32_t WarpMultiply(const BlockShared& shared, uint32_t a, uint32_t b) {
  const uint32_t lane = threadIdx.x % 32;
  for (uint32_t i = lane; i >= 8; i -= 8) b = (b >> 8) ^ shared.bytes[0][b & 0xFF];
  for (uint32_t i = lane % 8; i > 0; --i) b = Crc32cTimesX(b);
  return __reduce_xor_sync(kAllLanes, (a << lane & 0x80000000u) != 0 ? b : 0);
}

/// value * x^(8 * bytes) mod P by a warp.
__device__ uint32_t WarpMove(const BlockShared& shared, uint32_t value, uint32_t bytes) {
  for (uint32_t k = 0; bytes != 0; ++k, bytes >>= 1) {
    if ((bytes & 1) != 0) value = WarpMultiply(shared, value, kConstants.squares[k]);
  }
  return value;
}

__device__ uint32_t WordCrc(const BlockShared& shared, uint32_t crc, uint32_t word) {
  crc ^= word;
  return shared.bytes[3][crc & 0xFF] ^ shared.bytes[2][(crc >> 8) & 0xFF] ^ shared.bytes[1][(crc >> 16) & 0xFF] ^
         shared.bytes[0][crc >> 24];
}

__device__ void BeginSums(BlockShared& shared) {
  for (uint32_t i = threadIdx.x; i < 4 * 256; i += kThreads)
    shared.bytes[i / 256][i % 256] = kConstants.bytes[i / 256][i % 256];
}

/// Adds piece `index` of a frame of `length` bytes to the sums of `state`. `copy` is called with each 16 bytes of a
/// full piece, and their index in the frame.
template <class Copy>
__device__ void SumPiece(BlockShared& shared, const uint8_t* frame, uint32_t length, uint32_t index,
                         JobState::Frame* state, const Copy& copy) {
  const uint32_t begin = index * kPiece, left = length - begin;
  const bool last = left <= kPiece;
  const uint32_t zeros = last ? kPiece - left : 0;
  uint8_t* piece = reinterpret_cast<uint8_t*>(shared.piece);
  __syncthreads();  // the piece before has been read
  if (threadIdx.x == 0) shared.sum = 0;
  if (zeros == 0) {
    for (uint32_t i = threadIdx.x; i < kPiece / 16; i += kThreads) {
      const uint4 bytes = reinterpret_cast<const uint4*>(frame + begin)[i];
      shared.piece[i] = bytes;
      copy(bytes, begin / 16 + i);
    }
  } else {
    for (uint32_t i = threadIdx.x; i < kPiece; i += kThreads) piece[i] = i < zeros ? 0 : frame[begin + i - zeros];
  }
  __syncthreads();
  if (index == 0 && threadIdx.x < 4 && threadIdx.x < left) piece[zeros + threadIdx.x] ^= 0xFF;
  __syncthreads();
  uint32_t crc = 0;
  for (uint32_t i = 0; i < kThreadBytes / 16; ++i) {
    const uint4 words = shared.piece[threadIdx.x * (kThreadBytes / 16) + i];
    for (const uint32_t word : {words.x, words.y, words.z, words.w}) crc = WordCrc(shared, crc, word);
  }
  crc = __reduce_xor_sync(kAllLanes, Crc32cMultiply(crc, kConstants.weights[threadIdx.x]));
  if (threadIdx.x % 32 == 0) atomicXor(&shared.sum, crc);
  __syncthreads();
  if (threadIdx.x >= 32) return;
  const uint32_t full_after = last ? 0 : (length - 1) / kPiece - index - 1;
  const uint32_t sum = WarpMove(shared, shared.sum, full_after * kPiece);
  if (threadIdx.x == 0) atomicXor(last ? &state->crc_last : &state->crc_full, sum);
}

/// True for the first warp of the block that ends last: `crc` is then that of the frame, and the sums are zero again.
__device__ bool EndSums(BlockShared& shared, uint32_t length, JobState::Frame* state, uint32_t& crc) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) shared.last = atomicAdd(&state->arrived, 1u) == gridDim.x - 1 ? 1 : 0;
  __syncthreads();
  if (shared.last == 0 || threadIdx.x >= 32) return false;
  uint32_t full = 0, rest = 0;
  if (threadIdx.x == 0) {
    full = atomicExch(&state->crc_full, 0u);
    rest = atomicExch(&state->crc_last, 0u);
    state->arrived = 0;
  }
  full = __shfl_sync(kAllLanes, full, 0);
  rest = __shfl_sync(kAllLanes, rest, 0);
  const uint32_t last_bytes = length == 0 ? 0 : (length - 1) % kPiece + 1;
  crc = WarpMove(shared, full, last_bytes) ^ rest;
  if (length < 4) crc ^= 0xFFFFFFFFu >> (8 * length);  // the all-ones that met no byte
  crc = ~crc;
  return true;
}

/// Frame blockIdx.y.
__global__ void PlaceKernel(const __grid_constant__ FrameWindow window, uint8_t* area, FrameEntry* entries,
                            JobState* state) {
  __shared__ BlockShared shared;
  JobState::Frame* frames = state->frames + window.first_slot;
  const uint32_t index = blockIdx.y, length = frames[index].length;
  uint32_t offset = state->offset;
  for (uint32_t i = 0; i < index; ++i) offset += static_cast<uint32_t>(AlignFrame(frames[i].length));
  const uint8_t* frame = window.frame[index];
  uint8_t* to = area + offset;
  const bool wide = reinterpret_cast<uintptr_t>(to) % 16 == 0;
  const uint32_t pieces = (length + kPiece - 1) / kPiece;
  BeginSums(shared);
  for (uint32_t p = blockIdx.x; p < pieces; p += gridDim.x) {
    const bool whole = wide && length - p * kPiece >= kPiece;
    SumPiece(shared, frame, length, p, &frames[index], [=](const uint4& bytes, uint32_t i) {
      if (whole) reinterpret_cast<uint4*>(to)[i] = bytes;
    });
    const uint32_t end = p + 1 == pieces ? static_cast<uint32_t>(AlignFrame(length)) : (p + 1) * kPiece;
    for (uint32_t i = p * kPiece + threadIdx.x; !whole && i < end; i += kThreads) to[i] = i < length ? frame[i] : 0;
  }
  uint32_t crc = 0;
  if (!EndSums(shared, length, &frames[index], crc) || threadIdx.x != 0) return;
  entries[window.first_index + index] = FrameEntry{offset, length, crc, 0};
  __threadfence();
  if (atomicAdd(&state->placed, 1u) != window.count - 1) return;
  state->placed = 0;  // the last frame of the window: nobody reads the offset any more
  for (uint32_t i = 0; i < window.count; ++i) {
    state->offset += static_cast<uint32_t>(AlignFrame(frames[i].length));
  }
}

/// Frame blockIdx.y.
__global__ void CheckKernel(const __grid_constant__ FrameWindow window, JobState* state) {
  __shared__ BlockShared shared;
  const uint32_t index = blockIdx.y, length = window.length[index];
  JobState::Frame* sums = &state->frames[window.first_slot + index];
  BeginSums(shared);
  for (uint32_t p = blockIdx.x; p < (length + kPiece - 1) / kPiece; p += gridDim.x) {
    SumPiece(shared, window.frame[index], length, p, sums, [](const uint4&, uint32_t) {});
  }
  uint32_t crc = 0;
  if (EndSums(shared, length, sums, crc) && threadIdx.x == 0 && crc != window.crc32c[index]) {
    atomicCAS(&state->fault, 0u,
              static_cast<uint32_t>(DeviceFault::kChecksum) + 256 * (1 + window.first_index + index));
  }
}

uint32_t Blocks(uint64_t bytes) {
  const uint64_t pieces = (bytes + kPiece - 1) / kPiece;
  return pieces == 0 ? 1 : pieces < kBlocksMax ? static_cast<uint32_t>(pieces) : kBlocksMax;
}

}  // namespace

void LaunchPlace(const FrameWindow& window, uint64_t bytes_max, uint8_t* area, FrameEntry* entries, JobState* state,
                 CudaStream stream) {
  const dim3 grid(Blocks(bytes_max), window.count);
  PlaceKernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(window, area, entries, state);
}

void LaunchCheck(const FrameWindow& window, JobState* state, CudaStream stream) {
  uint32_t longest = 0;
  for (uint32_t i = 0; i < window.count; ++i) longest = window.length[i] > longest ? window.length[i] : longest;
  const dim3 grid(Blocks(longest), window.count);
  CheckKernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(window, state);
}

}  // namespace kvasir::cuda
