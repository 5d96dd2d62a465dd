// SPDX-License-Identifier: Apache-2.0
// What a job borrows while it is on the device: scratch for one frame at a time, and pinned memory for page ids and
// results. All of it is allocated once, so that Submit allocates nothing.
#pragma once

#include <vector>

#include "kernels/cuda/cuda_call.h"
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {

inline constexpr uint32_t kCudaJobsMax = 32;              ///< on the device at once; more are refused through JobDone
inline constexpr uint32_t kCudaScratches = 2;             ///< jobs that may run at once; others wait on the device
inline constexpr uint64_t kCudaFrameBytesMax = 16 << 20;  ///< dense, and encoded, of one frame
/// Dense, of a window of more than one frame: an eighth of its job, but between these. Windows that are too small cost
/// launches, those that are too large leave nothing to overlap.
inline constexpr uint64_t kCudaWindowBytesMin = 4 << 20, kCudaWindowBytesMax = 16 << 20;
inline constexpr uint32_t kCudaPagesMax = 8192;          ///< pages of one part
inline constexpr uint64_t kCudaInputBytesMax = 2 << 20;  ///< classes, weights and merged rows of one part

/// Device memory for the windows of one job, reused in stream order: the next user waits for `free`. Of two windows one
/// is coded while the other crosses the bus, on `side`.
struct Scratch {
  DeviceMemory memory;
  WindowScratch half[2];
  cudaStream_t side = nullptr;
  cudaEvent_t free = nullptr;
  cudaEvent_t begun = nullptr;   ///< what came before the job on its stream is done
  cudaEvent_t ready[2] = {};     ///< the half has what the other stream waits for
  cudaEvent_t released[2] = {};  ///< the half may be written again
};

/// Pinned and device memory of one job; back in the pool when its completion has been read.
struct JobSlot {
  PinnedMemory pinned;
  DeviceMemory device;
  uint32_t* pages = nullptr;         ///< pinned [kCudaPagesMax]
  uint8_t* inputs = nullptr;         ///< pinned [kCudaInputBytesMax]
  FrameEntry* entries = nullptr;     ///< pinned [kFramesPerPartMax]
  JobState* result = nullptr;        ///< pinned: the state after the job
  JobState* state = nullptr;         ///< device
  uint32_t* device_pages = nullptr;  ///< device: the pages, copied before the job's kernels
  uint8_t* device_inputs = nullptr;  ///< device: the inputs, likewise
  cudaEvent_t done = nullptr;
};

Result<std::vector<Scratch>> MakeScratches();
Result<std::vector<JobSlot>> MakeJobSlots();
void DestroyEvents(Scratch& scratch);

}  // namespace kvasir::cuda
