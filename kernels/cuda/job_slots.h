// SPDX-License-Identifier: Apache-2.0
// What a job borrows while it is on the device: scratch for one frame at a time, and pinned memory for page ids and
// results. All of it is allocated once, so that Submit allocates nothing.
#pragma once

#include <vector>

#include "kernels/cuda/cuda_call.h"
#include "kernels/cuda/launch.h"

namespace kvasir::cuda {

inline constexpr uint32_t kCudaJobsMax = 32;              ///< on the device at once; more are refused through JobDone
inline constexpr uint32_t kCudaScratches = 4;             ///< jobs that may run at once; others wait on the device
inline constexpr uint64_t kCudaFrameBytesMax = 16 << 20;  ///< dense, and encoded, of one frame
inline constexpr uint32_t kCudaPagesMax = 8192;           ///< pages of one part

/// Device memory for the frames of one job. Reused in stream order: the next user waits for `free`.
struct Scratch {
  DeviceMemory memory;
  FrameScratch frame;
  cudaEvent_t free = nullptr;
};

/// Pinned and device memory of one job; back in the pool when its completion has been read.
struct JobSlot {
  PinnedMemory pinned;
  DeviceMemory device;
  uint32_t* pages = nullptr;         ///< pinned [kCudaPagesMax]
  FrameEntry* entries = nullptr;     ///< pinned [kFramesPerPartMax]
  JobState* result = nullptr;        ///< pinned: the state after the job
  JobState* state = nullptr;         ///< device
  uint32_t* device_pages = nullptr;  ///< device: the pages, copied before the job's kernels
  cudaEvent_t done = nullptr;
};

Result<std::vector<Scratch>> MakeScratches();
Result<std::vector<JobSlot>> MakeJobSlots();

}  // namespace kvasir::cuda
