// SPDX-License-Identifier: Apache-2.0
// Allocation of scratches and job slots.
#include "kernels/cuda/job_slots.h"

#include "kernels/cuda/splitans_bodies.h"

namespace kvasir::cuda {

namespace {

Result<bool> MakeEvent(cudaEvent_t& event) {
  return Called(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
}

}  // namespace

Result<std::vector<Scratch>> MakeScratches() {
  // A window's frames lie on 256 bytes each. codes: a byte an element, or half of each 2 KiB chunk; offsets: four bytes
  // a chunk.
  constexpr uint64_t kFrames = kCudaFrameBytesMax + kWindowFrames * 256;
  constexpr uint64_t kOffsets = (kCudaFrameBytesMax / 2 / kSplitChunk + kWindowFrames) * sizeof(uint32_t);
  constexpr uint64_t kRows = 3 * kChainElementsMax * sizeof(float);
  // What splitexp(ans) needs of a window: two bytes an element, a room a chunk, two numbers a chunk.
  constexpr uint64_t kAnsElements = kCudaFrameBytesMax / 2, kAnsChunks = kAnsElements / kSplitAnsChunk + kWindowFrames;
  static_assert(kCudaWindowBytesMax <= kCudaFrameBytesMax);
  static_assert(SplitAnsFrameRoom(kAnsElements) + kWindowFrames * (kSplitAnsWorkRoom + 256) <= kRows);
  static_assert(kAnsChunks * kSplitAnsChunkRoom <= kFrames);
  static_assert(2 * kAnsChunks * sizeof(uint32_t) <= kOffsets);
  static_assert(7 * kCudaFrameBytesMax / 5 + kWindowFrames * 512 <= kRows);  // row classes: RowsFit
  std::vector<Scratch> scratches(kCudaScratches);
  for (Scratch& scratch : scratches) {
    Result<DeviceMemory> memory = AllocateDevice(5 * kFrames + kOffsets + kRows + sizeof(ChainOutcome));
    if (!memory.ok()) return memory.error();
    scratch.memory = std::move(*memory);
    uint8_t* p = static_cast<uint8_t*>(scratch.memory.get());
    uint8_t* rest = p + 5 * kFrames;
    for (uint64_t h = 0; h < 2; ++h) {
      scratch.half[h] = {p + 2 * h * kFrames,
                         p + (2 * h + 1) * kFrames,
                         p + 4 * kFrames,
                         reinterpret_cast<uint32_t*>(rest),
                         reinterpret_cast<float*>(rest + kOffsets),
                         reinterpret_cast<ChainOutcome*>(rest + kOffsets + kRows)};
      if (Result<bool> made = MakeEvent(scratch.ready[h]); !made.ok()) return made.error();
      if (Result<bool> made = MakeEvent(scratch.released[h]); !made.ok()) return made.error();
    }
    if (Result<bool> made = MakeEvent(scratch.free); !made.ok()) return made.error();
    if (Result<bool> made = MakeEvent(scratch.begun); !made.ok()) return made.error();
    const cudaError_t code = cudaStreamCreateWithFlags(&scratch.side, cudaStreamNonBlocking);
    if (Result<bool> called = Called(code, "cudaStreamCreate"); !called.ok()) return called.error();
  }
  return scratches;
}

void DestroyEvents(Scratch& scratch) {
  cudaStreamDestroy(scratch.side);
  for (cudaEvent_t event :
       {scratch.free, scratch.begun, scratch.ready[0], scratch.ready[1], scratch.released[0], scratch.released[1]}) {
    cudaEventDestroy(event);
  }
}

Result<std::vector<JobSlot>> MakeJobSlots() {
  constexpr uint64_t kPages = kCudaPagesMax * sizeof(uint32_t);
  constexpr uint64_t kEntries = kFramesPerPartMax * sizeof(FrameEntry);
  std::vector<JobSlot> slots(kCudaJobsMax);
  for (JobSlot& slot : slots) {
    Result<PinnedMemory> pinned = AllocatePinned(kPages + kEntries + sizeof(JobState) + kCudaInputBytesMax);
    if (!pinned.ok()) return pinned.error();
    Result<DeviceMemory> device = AllocateDevice(sizeof(JobState) + kPages + kCudaInputBytesMax);
    if (!device.ok()) return device.error();
    slot.pinned = std::move(*pinned);
    slot.device = std::move(*device);
    uint8_t* p = static_cast<uint8_t*>(slot.pinned.get());
    slot.inputs = p;
    slot.pages = reinterpret_cast<uint32_t*>(p + kCudaInputBytesMax);
    slot.entries = reinterpret_cast<FrameEntry*>(p + kCudaInputBytesMax + kPages);
    slot.result = reinterpret_cast<JobState*>(p + kCudaInputBytesMax + kPages + kEntries);
    slot.device_inputs = static_cast<uint8_t*>(slot.device.get());
    slot.state = reinterpret_cast<JobState*>(slot.device_inputs + kCudaInputBytesMax);
    slot.device_pages = reinterpret_cast<uint32_t*>(slot.state + 1);
    if (Result<bool> made = MakeEvent(slot.done); !made.ok()) return made.error();
  }
  return slots;
}

}  // namespace kvasir::cuda
