// SPDX-License-Identifier: Apache-2.0
// Allocation of scratches and job slots.
#include "kernels/cuda/job_slots.h"

namespace kvasir::cuda {

Result<std::vector<Scratch>> MakeScratches() {
  // codes: a byte an element, or half of each 2 KiB chunk; offsets: four bytes a chunk.
  constexpr uint64_t kOffsets = kCudaFrameBytesMax / 2 / kSplitChunk * sizeof(uint32_t) + 256;
  constexpr uint64_t kRows = 3 * kChainElementsMax * sizeof(float);
  std::vector<Scratch> scratches(kCudaScratches);
  for (Scratch& scratch : scratches) {
    Result<DeviceMemory> memory = AllocateDevice(3 * kCudaFrameBytesMax + kOffsets + kRows + sizeof(ChainOutcome));
    if (!memory.ok()) return memory.error();
    scratch.memory = std::move(*memory);
    uint8_t* p = static_cast<uint8_t*>(scratch.memory.get());
    uint8_t* rest = p + 3 * kCudaFrameBytesMax;
    scratch.frame = {p,
                     p + kCudaFrameBytesMax,
                     p + 2 * kCudaFrameBytesMax,
                     reinterpret_cast<uint32_t*>(rest),
                     reinterpret_cast<float*>(rest + kOffsets),
                     reinterpret_cast<ChainOutcome*>(rest + kOffsets + kRows)};
    const cudaError_t code = cudaEventCreateWithFlags(&scratch.free, cudaEventDisableTiming);
    if (Result<bool> called = Called(code, "cudaEventCreate"); !called.ok()) return called.error();
  }
  return scratches;
}

Result<std::vector<JobSlot>> MakeJobSlots() {
  constexpr uint64_t kPages = kCudaPagesMax * sizeof(uint32_t);
  constexpr uint64_t kEntries = kFramesPerPartMax * sizeof(FrameEntry);
  std::vector<JobSlot> slots(kCudaJobsMax);
  for (JobSlot& slot : slots) {
    Result<PinnedMemory> pinned = AllocatePinned(kPages + kEntries + sizeof(JobState));
    if (!pinned.ok()) return pinned.error();
    Result<DeviceMemory> device = AllocateDevice(sizeof(JobState) + kPages);
    if (!device.ok()) return device.error();
    slot.pinned = std::move(*pinned);
    slot.device = std::move(*device);
    uint8_t* p = static_cast<uint8_t*>(slot.pinned.get());
    slot.pages = reinterpret_cast<uint32_t*>(p);
    slot.entries = reinterpret_cast<FrameEntry*>(p + kPages);
    slot.result = reinterpret_cast<JobState*>(p + kPages + kEntries);
    slot.state = static_cast<JobState*>(slot.device.get());
    slot.device_pages = reinterpret_cast<uint32_t*>(slot.state + 1);
    const cudaError_t code = cudaEventCreateWithFlags(&slot.done, cudaEventDisableTiming);
    if (Result<bool> called = Called(code, "cudaEventCreate"); !called.ok()) return called.error();
  }
  return slots;
}

}  // namespace kvasir::cuda
