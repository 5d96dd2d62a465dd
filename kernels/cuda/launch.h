// SPDX-License-Identifier: Apache-2.0
// The launchers of the CUDA device: plain C++, so that the device itself needs no nvcc. Each enqueues on `stream` and
// returns; errors are asked for once after a job (cudaGetLastError). All pointers are device or mapped pinned memory.
#pragma once

#include <cstdint>

#include "kernels/chain.h"
#include "kernels/frame_directory.h"
#include "kernels/kv_layout.h"
#include "kernels/rows_coder.h"
#include "kernels/stages/p_splitexp.h"
#include "kernels/stages/q_int.h"

namespace kvasir::cuda {

using CudaStream = void*;  ///< cudaStream_t

/// Why a job failed on the device; the first frame that failed wins.
enum class DeviceFault : uint32_t { kNone = 0, kChecksum = 1, kParameter = 2, kEntries = 3, kRows = 4 };

inline constexpr uint32_t kWindowFrames = 32;  ///< frames that are coded at once, by one launch a step

/// What kernels of one job tell each other. Lives in device memory, zeroed before the job.
struct JobState {
  uint32_t offset = 0;  ///< in the frame area: where the next window begins
  uint32_t fault = 0;   ///< DeviceFault + 256 * (1 + index of the frame); 0 = none
  uint32_t placed = 0;  ///< frames of the window that are in the area
  uint32_t unused = 0;
  struct Frame {
    uint32_t length = 0;
    uint32_t crc_full = 0, crc_last = 0;  ///< sums, see frame_end.cu; zero between windows
    uint32_t arrived = 0;                 ///< blocks that have added to them
  } frames[2 * kWindowFrames];  ///< by slot: those of a window, and of the one before, which is on its way out
};

/// Elements, and spare floats, of a frame that a chain codes here. A limit of memory: scratches keep three floats each.
inline constexpr uint64_t kChainElementsMax = 2 << 20;

/// Memory of one window of frames on its way; sized by the limits in job_slots.h.
struct WindowScratch {
  uint8_t* dense = nullptr;     ///< [heads][tokens][dim] of each frame
  uint8_t* frames = nullptr;    ///< encoded
  uint8_t* codes = nullptr;     ///< one byte a code (int, chains); tails, one room a chunk (splitexp)
  uint32_t* offsets = nullptr;  ///< of tails, and lengths (splitexp)
  float* rows = nullptr;        ///< three times kChainElementsMax (chains); models, origins, samples (splitexp(ans))
  ChainOutcome* outcome = nullptr;
};

/// Frames of one shape and coder in a window: frame i has slot `first_slot + i * slot_step` of JobState, and the index
/// `first_index + i * slot_step` in the directory. Goes to kernels by value.
struct FrameBatch {
  uint32_t count = 0;
  uint32_t first_slot = 0, slot_step = 1;
  uint32_t first_index = 0;
  uint8_t* dense = nullptr;  ///< of frame 0, on 16 bytes
  uint64_t dense_stride = 0;
  uint8_t* frames = nullptr;            ///< encoded, on 16 bytes
  uint32_t offset[kWindowFrames] = {};  ///< of frame i behind `frames`, a multiple of 16
  uint32_t length[kWindowFrames] = {};  ///< of frame i, when decoding
  uint8_t* codes = nullptr;             ///< room of the batch, shared out evenly
  uint32_t* offsets = nullptr;
  float* rows = nullptr;
  ChainOutcome* outcome = nullptr;

  KVASIR_HD uint32_t slot(uint32_t i) const { return first_slot + i * slot_step; }
  KVASIR_HD uint8_t* dense_at(uint32_t i) const { return dense + i * dense_stride; }
  KVASIR_HD uint8_t* frame_at(uint32_t i) const { return frames + offset[i]; }
  KVASIR_HD uint32_t fault(DeviceFault fault, uint32_t i) const {
    return static_cast<uint32_t>(fault) + 256 * (1 + first_index + i * slot_step);
  }
};

/// The rectangle of some frames in the pages: byte strides, the page ids of the part.
struct PageView {
  uint8_t* base[kWindowFrames] = {};  ///< of frame i: head 0 of the rectangle, page 0, token 0
  const uint32_t* pages = nullptr;
  int64_t page_stride = 0, head_stride = 0, token_stride = 0;
  uint32_t page_tokens = 0, heads = 0, tokens = 0;
  uint32_t row_bytes = 0;  ///< dim elements
  uint32_t count = 0;      ///< frames
};

/// Frame i lies at dense + i * dense_stride.
void LaunchGather(const PageView& view, uint8_t* dense, uint64_t dense_stride, CudaStream stream);
/// Does nothing where a fault is set.
void LaunchScatter(const PageView& view, const uint8_t* dense, uint64_t dense_stride, const JobState* state,
                   CudaStream stream);

/// Encoders leave the frames in batch.frames and their lengths in the state.
void LaunchRawLengths(const FrameBatch& batch, uint32_t bytes, JobState* state, CudaStream stream);
void LaunchIntEncode(const IntFrame& f, const FrameBatch& batch, JobState* state, CudaStream stream);
void LaunchSplitEncode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream stream);
void LaunchSplitAnsEncode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream stream);
/// `inputs`: null, or of frame i at inputs[i * batch.slot_step].
void LaunchChainEncode(const ChainPlan& plan, const FrameShape& shape, const FrameInputs* inputs,
                       const FrameBatch& batch, JobState* state, CudaStream stream);

/// Decoders read the frames and set a fault where their bytes cannot be one.
void LaunchIntDecode(const IntFrame& f, const FrameBatch& batch, JobState* state, CudaStream stream);
void LaunchSplitDecode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream stream);
/// REQUIRES: MayBeLength of every length.
void LaunchSplitAnsDecode(const FrameShape& shape, const FrameBatch& batch, JobState* state, CudaStream stream);
/// REQUIRES: every length >= LayOutChain().packed_at.
void LaunchChainDecode(const ChainPlan& plan, const FrameShape& shape, const FrameBatch& batch, JobState* state,
                       CudaStream stream);
/// False for chains that are not T:had | Q:int | P:bits over whole tokens, which have kernels of their own.
bool LaunchRotatedEncode(const ChainPlan& plan, const FrameShape& shape, const FrameBatch& batch, JobState* state,
                         CudaStream stream);
bool LaunchRotatedDecode(const ChainPlan& plan, const FrameShape& shape, const FrameBatch& batch, JobState* state,
                         CudaStream stream);
/// The frame is within the limits of a scratch.
bool ChainFits(const ChainPlan& plan, const FrameShape& shape);

/// Frames whose rows have classes. `inputs` of frame i at inputs[i * batch.slot_step]: classes, weights and
/// first_token are read, in memory that kernels reach. `compact`: the rows that are there, one behind the other.
void LaunchRowsEncode(const RowsPlan& plan, const FrameShape& shape, const FrameInputs* inputs, const FrameBatch& batch,
                      JobState* state, CudaStream stream);
void LaunchRowsDecode(const RowsPlan& plan, const FrameShape& shape, bool compact, const FrameBatch& batch,
                      JobState* state, CudaStream stream);
/// The rooms of a window's frames are within a scratch: rows are not too short.
bool RowsFit(const FrameShape& shape);
/// The rows of `inputs` that a merge has changed, into a dense frame.
void LaunchMerge(const FrameShape& shape, const FrameInputs& inputs, uint8_t* dense, CudaStream stream);

/// Those of the coder's kind. REQUIRES: it is neither kNone nor kRowsOfStages.
void LaunchEncode(const DeviceCoder& coder, const FrameShape& shape, const FrameInputs* inputs, const FrameBatch& batch,
                  JobState* state, CudaStream stream);
void LaunchDecode(const DeviceCoder& coder, const FrameShape& shape, const FrameBatch& batch, JobState* state,
                  CudaStream stream);
/// False when a length alone shows that the bytes are no frame of such a shape.
bool MayBeLength(const DeviceCoder& coder, const FrameShape& shape, uint32_t length);

/// The frames of a window, on 16 bytes each: frame i has slot `first_slot + i`.
struct FrameWindow {
  uint32_t count = 0;
  uint32_t first_slot = 0;
  uint32_t first_index = 0;  ///< in the directory: of frame 0
  const uint8_t* frame[kWindowFrames] = {};
  uint32_t length[kWindowFrames] = {};  ///< to check; to place, of JobState
  uint32_t crc32c[kWindowFrames] = {};  ///< to check
};
/// Copies the window to its place in `area`, pads, writes its entries and advances state->offset. No frame is longer
/// than `bytes_max`.
void LaunchPlace(const FrameWindow& window, uint64_t bytes_max, uint8_t* area, FrameEntry* entries, JobState* state,
                 CudaStream stream);
/// Sets kChecksum unless every frame sums to its crc32c.
void LaunchCheck(const FrameWindow& window, JobState* state, CudaStream stream);

}  // namespace kvasir::cuda
