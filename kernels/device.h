// SPDX-License-Identifier: Apache-2.0
// Device: executes pack and unpack jobs, in stream order. CPU and CUDA give the same bits.
//
//   pack:   engine pages --gather--> dense frame --encode--> slot bytes, CRC32C of each frame (one pass)
//   unpack: slot bytes --CRC32C--> decode --> dense frame --scatter--> engine pages
//
// Submit never blocks, allocates on the device or synchronises. Jobs given to one Stream run in order; jobs of
// different streams may run at once. A Stream is the engine's handle (cudaStream_t as void*); on the CPU device any
// pointer value names a queue, nullptr being one too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "kernels/frame_directory.h"
#include "kernels/paged_cache.h"
#include "kernels/result.h"

namespace kvasir {

using Stream = void*;

// kernels/row_jobs.h
struct SelectJob;
struct UnpackRowsJob;
struct PlaceRowsJob;

/// How a job ended.
struct JobStatus {
  bool ok = true;
  Error error;  ///< meaningful when !ok
};
/// Called exactly once, from a thread of the device: post to your Loop, do no work here.
using JobDone = std::function<void(JobStatus)>;

/// What a pack job writes beside the slot. Lives in pinned memory of the caller until the job is done.
struct PackResult {
  std::vector<FrameEntry> directory;  ///< sized FrameCount() by the caller; filled by the job
  uint64_t area_bytes = 0;            ///< true bytes of the frame area
};

/// Gather, encode, checksum. Everything named here stays valid until JobDone.
struct PackJob {
  std::shared_ptr<const Codec> codec;
  const PagedCache* cache = nullptr;
  PageTable pages;                      ///< of the whole sequence; first_token / page_tokens indexes it
  PartGeometry part;                    ///< first_token and tokens are multiples of page_tokens
  std::span<std::byte> area;            ///< frame area in the slot, >= MaxFrameAreaBytes
  std::span<const FrameInputs> inputs;  ///< of each frame in directory order; empty = nothing was brought
  PackResult* result = nullptr;
};

/// Check, decode, scatter. Takes any layer range and head range of the part.
struct UnpackJob {
  std::shared_ptr<const Codec> codec;
  const PagedCache* cache = nullptr;
  PageTable pages;
  PartGeometry part;                      ///< the part as stored
  uint32_t first_layer = 0, layers = 0;   ///< to decode, inside part
  uint32_t first_head = 0, heads = 0;     ///< to scatter, inside part
  std::span<const FrameEntry> directory;  ///< of the whole part, checked by CheckDirectory
  std::span<const std::byte> frames;      ///< the bytes from directory offset `frames_offset` on
  uint64_t frames_offset = 0;             ///< where `frames` begins in the frame area
};

/// Marks a place in a stream. Movable; destroyed any time.
class DeviceEvent {
 public:
  virtual ~DeviceEvent() = default;
  virtual bool Done() const = 0;   ///< never blocks
  virtual void Block() const = 0;  ///< blocks the calling thread until done: for engines that run on the CPU
};

/// Thread safe. Destroying it waits for the jobs in flight.
class Device {
 public:
  virtual ~Device() = default;
  virtual const std::string& name() const = 0;  ///< "cpu (AVX3, 2 threads)", "cuda:0" and the card
  virtual MemoryKind memory() const = 0;
  virtual void Submit(PackJob job, Stream stream, JobDone done) = 0;
  virtual void Submit(UnpackJob job, Stream stream, JobDone done) = 0;
  /// Jobs about rows: kUnimplemented where the device has no body for them.
  virtual void Submit(SelectJob job, Stream stream, JobDone done) = 0;
  virtual void Submit(UnpackRowsJob job, Stream stream, JobDone done) = 0;
  virtual void Submit(PlaceRowsJob job, Stream stream, JobDone done) = 0;
  /// Done when everything submitted to `stream` so far is done.
  virtual std::shared_ptr<DeviceEvent> Record(Stream stream) = 0;
  /// Work submitted to `stream` after this waits for `event`; the CPU does not.
  virtual void Wait(Stream stream, std::shared_ptr<DeviceEvent> event) = 0;
  /// Page-locks host memory so that this device can reach it; a no-op on the CPU. Unpin before freeing.
  virtual Result<bool> Pin(std::span<std::byte> memory) = 0;
  virtual void Unpin(std::span<std::byte> memory) = 0;
};

struct CpuDeviceOptions {
  uint32_t codec_threads = 1;        ///< workers
  uint32_t queued_jobs_max = 65536;  ///< more waits are refused with kResourceExhausted through JobDone
};
std::unique_ptr<Device> MakeCpuDevice(const CpuDeviceOptions& options);

/// kUnimplemented in a build without CUDA, kUnavailable where no driver or device answers; both say so in words.
Result<std::unique_ptr<Device>> MakeCudaDevice(int ordinal);

}  // namespace kvasir
