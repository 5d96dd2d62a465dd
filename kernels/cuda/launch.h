// SPDX-License-Identifier: Apache-2.0
// The launchers of the CUDA device: plain C++, so that the device itself needs no nvcc. Each enqueues on `stream` and
// returns; errors are asked for once after a job (cudaGetLastError). All pointers are device or mapped pinned memory.
#pragma once

#include <cstdint>

#include "kernels/chain.h"
#include "kernels/frame_directory.h"
#include "kernels/kv_layout.h"
#include "kernels/stages/p_splitexp.h"
#include "kernels/stages/q_int.h"

namespace kvasir::cuda {

using CudaStream = void*;  ///< cudaStream_t

/// Why a job failed on the device; the first frame that failed wins.
enum class DeviceFault : uint32_t { kNone = 0, kChecksum = 1, kParameter = 2, kEntries = 3 };

/// What kernels of one job tell each other. Lives in device memory, zeroed before the job.
struct JobState {
  uint32_t offset = 0;                  ///< in the frame area: where the next frame begins
  uint32_t length = 0;                  ///< of the frame at hand
  uint32_t fault = 0;                   ///< DeviceFault + 256 * (1 + index of the frame); 0 = none
  uint32_t crc_full = 0, crc_last = 0;  ///< sums of the frame at hand, see frame_end.cu; zero between frames
  uint32_t arrived = 0;                 ///< blocks that have added to them
  uint32_t unused[2] = {};
};

/// Elements, and spare floats, of a frame that a chain codes here. A limit of memory: scratches keep three floats each.
inline constexpr uint64_t kChainElementsMax = 2 << 20;

/// Memory of one frame on its way; sized by the limits in cuda_device.cc.
struct FrameScratch {
  uint8_t* dense = nullptr;     ///< [heads][tokens][dim]
  uint8_t* frame = nullptr;     ///< encoded
  uint8_t* codes = nullptr;     ///< one byte a code (int); tails, one room a chunk (splitexp)
  uint32_t* offsets = nullptr;  ///< [chunks]: tail offsets (splitexp)
  float* rows = nullptr;        ///< three times kChainElementsMax (chains)
  ChainOutcome* outcome = nullptr;
};

/// One frame's rectangle in the pages: byte strides, the page ids of the part.
struct PageView {
  uint8_t* base = nullptr;  ///< head 0 of the rectangle, page 0, token 0
  const uint32_t* pages = nullptr;
  int64_t page_stride = 0, head_stride = 0, token_stride = 0;
  uint32_t page_tokens = 0, heads = 0, tokens = 0;
  uint32_t row_bytes = 0;  ///< dim elements
};

void LaunchGather(const PageView& view, uint8_t* dense, CudaStream stream);
/// Does nothing where a fault is set.
void LaunchScatter(const PageView& view, const uint8_t* dense, const JobState* state, CudaStream stream);

/// Encoders leave the frame in scratch.frame and its length in state->length.
void LaunchRawLength(uint32_t bytes, JobState* state, CudaStream stream);
void LaunchIntEncode(const IntFrame& f, const FrameScratch& scratch, JobState* state, CudaStream stream);
void LaunchSplitEncode(const FrameShape& shape, const FrameScratch& scratch, JobState* state, CudaStream stream);
void LaunchChainEncode(const ChainPlan& plan, const FrameShape& shape, const FrameInputs& inputs,
                       const FrameScratch& scratch, JobState* state, CudaStream stream);

/// Decoders read scratch.frame of `length` bytes and set a fault where the bytes cannot be a frame.
void LaunchIntDecode(const IntFrame& f, const FrameScratch& scratch, uint32_t index, JobState* state,
                     CudaStream stream);
void LaunchSplitDecode(const FrameShape& shape, uint32_t length, const FrameScratch& scratch, uint32_t index,
                       JobState* state, CudaStream stream);
/// REQUIRES: length >= LayOutChain().packed_at.
void LaunchChainDecode(const ChainPlan& plan, const FrameShape& shape, uint32_t length, const FrameScratch& scratch,
                       uint32_t index, JobState* state, CudaStream stream);
/// The frame is within the limits of a scratch.
bool ChainFits(const ChainPlan& plan, const FrameShape& shape);

/// Those of the coder's kind. REQUIRES: it is not kNone.
void LaunchEncode(const DeviceCoder& coder, const FrameShape& shape, const FrameInputs& inputs,
                  const FrameScratch& scratch, JobState* state, CudaStream stream);
/// False when a length alone shows that the bytes are no such frame: nothing is then launched.
bool LaunchDecode(const DeviceCoder& coder, const FrameShape& shape, uint32_t length, const FrameScratch& scratch,
                  uint32_t index, JobState* state, CudaStream stream);

/// Copies the frame at hand to its place in `area`, pads, writes entries[index] and advances state->offset. The frame
/// begins on 16 bytes and has at most `bytes_max`.
void LaunchPlace(const uint8_t* frame, uint64_t bytes_max, uint8_t* area, FrameEntry* entries, uint32_t index,
                 JobState* state, CudaStream stream);
/// Sets kChecksum unless the frame, which begins on 16 bytes, sums to `crc`.
void LaunchCheck(const uint8_t* frame, uint32_t length, uint32_t crc, uint32_t index, JobState* state,
                 CudaStream stream);

}  // namespace kvasir::cuda
