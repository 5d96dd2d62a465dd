// SPDX-License-Identifier: Apache-2.0
// CudaDevice: enqueues the launchers of a job on the engine's stream; one thread waits for jobs to end and calls
// JobDone.
//
//   Submit:  take a slot -> copy page ids -> launches of each frame -> state and entries to pinned memory -> event ->
//   queue waiter:  woken by a host function in the stream -> every job whose event is done: copy entries -> slot back
//   -> JobDone
//
// Submit neither allocates on the device nor waits. Frame areas and fetched frames must be pinned (Device::Pin) or
// device memory.
#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "kernels/cuda/job_slots.h"
#include "kernels/device.h"
#include "kernels/job_check.h"
#include "kernels/portable.h"

namespace kvasir {
namespace {

/// The waiter looks by itself this often: after a device fault the driver may drop host functions.
constexpr std::chrono::milliseconds kLookAgain{50};

using namespace cuda;  // this file is the device; the launchers are its other half

cudaStream_t Native(Stream stream) { return static_cast<cudaStream_t>(stream); }

class CudaEvent final : public DeviceEvent {
 public:
  explicit CudaEvent(cudaEvent_t event) : event_(event) {}
  ~CudaEvent() override { cudaEventDestroy(event_); }
  bool Done() const override { return cudaEventQuery(event_) != cudaErrorNotReady; }
  void Block() const override { cudaEventSynchronize(event_); }
  cudaEvent_t native() const { return event_; }

 private:
  const cudaEvent_t event_;
};

/// Refuses what kernels could not reach or what passes a limit of the slots.
Result<bool> CheckForDevice(const Codec& codec, const PagedCache& cache, const PartGeometry& part, const void* bytes) {
  if (part.tokens / cache.page_tokens > kCudaPagesMax) {
    return Error{ErrorCode::kInvalidArgument,
                 "device job: more than " + std::to_string(kCudaPagesMax) + " pages in a part"};
  }
  for (uint32_t t = 0; t < cache.layout.tensors(); ++t) {
    const KvTensor tensor = static_cast<KvTensor>(t);
    const FrameShape shape = ShapeOfFrame(cache.layout, part, tensor);
    const DeviceCoder coder = codec.coder(tensor).device_coder();
    if (coder.kind == DeviceCoder::Kind::kNone) {
      return Error{ErrorCode::kUnimplemented, "codec " + codec.spec() + " has no CUDA body; use the CPU device"};
    }
    if (shape.bytes() > kCudaFrameBytesMax || codec.MaxFrameBytes(tensor, shape) > kCudaFrameBytesMax) {
      return Error{ErrorCode::kInvalidArgument,
                   "device job: a frame passes " + std::to_string(kCudaFrameBytesMax) + " bytes; use smaller parts"};
    }
    if (coder.kind == DeviceCoder::Kind::kChain && !ChainFits(*coder.chain, shape)) {
      return Error{ErrorCode::kInvalidArgument,
                   "device job: a frame passes " + std::to_string(kChainElementsMax) + " elements; use smaller parts"};
    }
  }
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, bytes) != cudaSuccess || attributes.type == cudaMemoryTypeUnregistered) {
    return Error{ErrorCode::kInvalidArgument,
                 "device job: the frame area is not pinned; call Device::Pin on its slab first"};
  }
  return true;
}

PageView ViewOf(const PagedCache& cache, const PartGeometry& part, uint32_t layer, KvTensor tensor, uint32_t first_head,
                uint32_t heads, const uint32_t* pages) {
  const PageStrides& strides = tensor == KvTensor::kKey ? cache.key_strides : cache.value_strides;
  PageView view;
  view.base = reinterpret_cast<uint8_t*>(cache.At(layer, tensor, 0, first_head, 0));
  view.pages = pages;
  view.page_stride = strides.page;
  view.head_stride = strides.head;
  view.token_stride = strides.token;
  view.page_tokens = cache.page_tokens;
  view.heads = heads;
  view.tokens = part.tokens;
  view.row_bytes = cache.layout.dim(tensor) * ElementBytes(cache.layout.element);
  return view;
}

void LaunchEncode(const DeviceCoder& coder, const FrameShape& shape, const FrameInputs& inputs,
                  const FrameScratch& scratch, JobState* state, Stream s) {
  switch (coder.kind) {
    case DeviceCoder::Kind::kInt:
      return LaunchIntEncode(LayOutIntFrame(*coder.integer, shape), scratch, state, s);
    case DeviceCoder::Kind::kChain:
      return LaunchChainEncode(*coder.chain, shape, inputs, scratch, state, s);
    case DeviceCoder::Kind::kSplitExp:
      return LaunchSplitEncode(shape, scratch, state, s);
    case DeviceCoder::Kind::kRaw:
      return LaunchRawLength(static_cast<uint32_t>(shape.bytes()), state, s);
    case DeviceCoder::Kind::kNone:
      KERNELS_CHECK(false);  // CheckForDevice
  }
}

/// False when a length alone shows that the bytes are no such frame.
bool LaunchDecode(const DeviceCoder& coder, const FrameShape& shape, uint32_t length, const FrameScratch& scratch,
                  uint32_t index, JobState* state, Stream s) {
  switch (coder.kind) {
    case DeviceCoder::Kind::kInt: {
      const IntFrame f = LayOutIntFrame(*coder.integer, shape);
      if (length != f.frame_bytes) return false;
      LaunchIntDecode(f, scratch, index, state, s);
      return true;
    }
    case DeviceCoder::Kind::kChain:
      if (length < LayOutChain(*coder.chain, shape).packed_at) return false;
      LaunchChainDecode(*coder.chain, shape, length, scratch, index, state, s);
      return true;
    case DeviceCoder::Kind::kSplitExp:
      LaunchSplitDecode(shape, length, scratch, index, state, s);
      return true;
    case DeviceCoder::Kind::kRaw:
      return length == shape.bytes();
    case DeviceCoder::Kind::kNone:
      KERNELS_CHECK(false);  // CheckForDevice
  }
  return false;
}

const char* FaultName(uint32_t fault) {
  switch (static_cast<DeviceFault>(fault % 256)) {
    case DeviceFault::kChecksum:
      return "checksum of the frame is wrong";
    case DeviceFault::kParameter:
      return "frame: a parameter that no encoder writes";
    default:
      return "splitexp frame: entries or escapes cannot be right";
  }
}

class CudaDevice final : public Device {
 public:
  CudaDevice(int ordinal, std::string name, std::vector<Scratch> scratches, std::vector<JobSlot> slots)
      : ordinal_(ordinal), name_(std::move(name)), scratches_(std::move(scratches)), slots_(std::move(slots)) {
    for (JobSlot& slot : slots_) free_.push_back(&slot);
    waiter_ = std::thread([this] { Wait(); });
  }

  ~CudaDevice() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    waiter_.join();
    cudaSetDevice(ordinal_);
    cudaDeviceSynchronize();  // the last host functions name this object
    for (JobSlot& slot : slots_) cudaEventDestroy(slot.done);
    for (Scratch& scratch : scratches_) cudaEventDestroy(scratch.free);
  }

  const std::string& name() const override { return name_; }
  MemoryKind memory() const override { return MemoryKind::kCuda; }

  void Submit(PackJob job, Stream stream, JobDone done) override {
    cudaSetDevice(ordinal_);
    const std::lock_guard<std::mutex> lock(mutex_);
    Result<bool> good = CheckJob(job);
    if (good.ok()) good = CheckForDevice(*job.codec, *job.cache, job.part, job.area.data());
    JobSlot* slot = good.ok() ? TakeSlot(good) : nullptr;
    if (good.ok()) good = Enqueue(job, *slot, stream);
    Queue({slot, std::move(done), std::move(job), {}, good.ok() ? JobStatus{} : JobStatus{false, good.error()}});
  }

  void Submit(UnpackJob job, Stream stream, JobDone done) override {
    cudaSetDevice(ordinal_);
    const std::lock_guard<std::mutex> lock(mutex_);
    Result<bool> good = CheckJob(job);
    if (good.ok()) good = CheckForDevice(*job.codec, *job.cache, job.part, job.frames.data());
    JobSlot* slot = good.ok() ? TakeSlot(good) : nullptr;
    if (good.ok()) good = Enqueue(job, *slot, stream);
    Queue({slot, std::move(done), {}, std::move(job), good.ok() ? JobStatus{} : JobStatus{false, good.error()}});
  }

  void Submit(SelectJob, Stream, JobDone done) override { Refuse("a selection of tokens", std::move(done)); }
  void Submit(UnpackRowsJob, Stream, JobDone done) override { Refuse("a view that drops tokens", std::move(done)); }
  void Submit(PlaceRowsJob, Stream, JobDone done) override { Refuse("head extents", std::move(done)); }

  std::shared_ptr<DeviceEvent> Record(Stream stream) override {
    cudaSetDevice(ordinal_);
    cudaEvent_t event = nullptr;
    KERNELS_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming) == cudaSuccess);
    KERNELS_CHECK(cudaEventRecord(event, Native(stream)) == cudaSuccess);
    return std::make_shared<CudaEvent>(event);
  }

  void Wait(Stream stream, std::shared_ptr<DeviceEvent> event) override {
    cudaSetDevice(ordinal_);
    if (auto* ours = dynamic_cast<CudaEvent*>(event.get()); ours != nullptr) {
      cudaStreamWaitEvent(Native(stream), ours->native(), 0);
      return;
    }
    // Another device's event: the stream, not the caller, waits for it on a thread of the driver.
    auto* held = new std::shared_ptr<DeviceEvent>(std::move(event));
    cudaLaunchHostFunc(
        Native(stream),
        [](void* p) {
          const std::unique_ptr<std::shared_ptr<DeviceEvent>> owned(static_cast<std::shared_ptr<DeviceEvent>*>(p));
          (*owned)->Block();
        },
        held);
  }

  Result<bool> Pin(std::span<std::byte> memory) override {
    return Called(cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterPortable | cudaHostRegisterMapped),
                  "cudaHostRegister");
  }
  void Unpin(std::span<std::byte> memory) override { cudaHostUnregister(memory.data()); }

 private:
  /// A job on the device, or one refused: its slot is then null or unused and `status` says why.
  struct InFlight {
    JobSlot* slot = nullptr;
    JobDone done;
    PackJob pack;  // which one it is: the codec is not null
    UnpackJob unpack;
    JobStatus status;
  };

  void Refuse(const std::string& what, JobDone done) {
    const Error error{ErrorCode::kUnimplemented,
                      what + " has no CUDA body; use the CPU device and pages in host memory"};
    const std::lock_guard<std::mutex> lock(mutex_);
    Queue({nullptr, std::move(done), {}, {}, JobStatus{false, error}});
  }

  JobSlot* TakeSlot(Result<bool>& good) {
    if (free_.empty()) {
      good = Error{ErrorCode::kResourceExhausted, std::to_string(kCudaJobsMax) + " jobs are on the device"};
      return nullptr;
    }
    JobSlot* slot = free_.back();
    free_.pop_back();
    return slot;
  }

  Scratch& Begin(const PagedCache& cache, PageTable pages, const PartGeometry& part, JobSlot& slot, cudaStream_t s) {
    Scratch& scratch = scratches_[next_scratch_++ % scratches_.size()];
    cudaStreamWaitEvent(s, scratch.free, 0);
    const uint32_t count = part.tokens / cache.page_tokens;
    std::memcpy(slot.pages, pages.data() + part.first_token / cache.page_tokens, count * sizeof(uint32_t));
    cudaMemsetAsync(slot.state, 0, sizeof(JobState), s);
    return scratch;
  }

  Result<bool> End(Scratch& scratch, JobSlot& slot, cudaStream_t s) {
    cudaMemcpyAsync(slot.result, slot.state, sizeof(JobState), cudaMemcpyDeviceToHost, s);
    cudaEventRecord(scratch.free, s);
    cudaEventRecord(slot.done, s);
    cudaLaunchHostFunc(s, Wake, this);
    return Called(cudaGetLastError(), "launch of a job");
  }

  Result<bool> Enqueue(const PackJob& job, JobSlot& slot, Stream stream) {
    const KvLayout& layout = job.cache->layout;
    Scratch& scratch = Begin(*job.cache, job.pages, job.part, slot, Native(stream));
    for (uint32_t layer = job.part.first_layer; layer < job.part.first_layer + job.part.layers; ++layer) {
      for (uint32_t t = 0; t < layout.tensors(); ++t) {
        const KvTensor tensor = static_cast<KvTensor>(t);
        const DeviceCoder coder = job.codec->coder(tensor).device_coder();
        const uint32_t index = FrameIndex(layout, job.part, layer, tensor);
        LaunchGather(ViewOf(*job.cache, job.part, layer, tensor, job.part.first_head, job.part.heads, slot.pages),
                     scratch.frame.dense, stream);
        LaunchEncode(coder, ShapeOfFrame(layout, job.part, tensor),
                     job.inputs.empty() ? FrameInputs{} : job.inputs[index], scratch.frame, slot.state, stream);
        const uint8_t* frame = coder.kind == DeviceCoder::Kind::kRaw ? scratch.frame.dense : scratch.frame.frame;
        LaunchPlace(frame, reinterpret_cast<uint8_t*>(job.area.data()), slot.entries, index, slot.state, stream);
      }
    }
    return End(scratch, slot, Native(stream));
  }

  Result<bool> Enqueue(const UnpackJob& job, JobSlot& slot, Stream stream) {
    const KvLayout& layout = job.cache->layout;
    Scratch& scratch = Begin(*job.cache, job.pages, job.part, slot, Native(stream));
    for (uint32_t layer = job.first_layer; layer < job.first_layer + job.layers; ++layer) {
      for (uint32_t t = 0; t < layout.tensors(); ++t) {
        const KvTensor tensor = static_cast<KvTensor>(t);
        const uint32_t index = FrameIndex(layout, job.part, layer, tensor);
        const FrameEntry& entry = job.directory[index];
        const FrameShape shape = ShapeOfFrame(layout, job.part, tensor);
        const DeviceCoder coder = job.codec->coder(tensor).device_coder();
        if (entry.length > job.codec->MaxFrameBytes(tensor, shape))
          return WrongLength(slot, scratch, layer, tensor, stream);
        uint8_t* frame = coder.kind == DeviceCoder::Kind::kRaw ? scratch.frame.dense : scratch.frame.frame;
        cudaMemcpyAsync(frame, job.frames.data() + (entry.offset - job.frames_offset), entry.length, cudaMemcpyDefault,
                        Native(stream));
        LaunchCheck(frame, entry.length, entry.crc32c, index, slot.state, stream);
        if (!LaunchDecode(coder, shape, entry.length, scratch.frame, index, slot.state, stream)) {
          return WrongLength(slot, scratch, layer, tensor, stream);
        }
        const uint64_t head_bytes = shape.bytes() / shape.heads;
        LaunchScatter(ViewOf(*job.cache, job.part, layer, tensor, job.first_head, job.heads, slot.pages),
                      scratch.frame.dense + (job.first_head - job.part.first_head) * head_bytes, slot.state, stream);
      }
    }
    return End(scratch, slot, Native(stream));
  }

  /// What was enqueued before still runs; the slot must see its end.
  Result<bool> WrongLength(JobSlot& slot, Scratch& scratch, uint32_t layer, KvTensor tensor, Stream stream) {
    if (Result<bool> ended = End(scratch, slot, Native(stream)); !ended.ok()) return ended;
    return Error{ErrorCode::kDataLoss, FrameName(layer, tensor) + ": its length cannot be right"};
  }

  /// Holds mutex_.
  void Queue(InFlight job) {
    in_flight_.push_back(std::move(job));
    changed_.notify_one();
  }

  /// Runs on a thread of the driver: no CUDA calls here.
  static void Wake(void* device) {
    auto* self = static_cast<CudaDevice*>(device);
    const std::lock_guard<std::mutex> lock(self->mutex_);
    self->changed_.notify_one();
  }

  static bool Ended(const InFlight& job) {
    return job.slot == nullptr || cudaEventQuery(job.slot->done) != cudaErrorNotReady;
  }

  /// The waiter: jobs in the order they end, those of one stream in order.
  void Wait() {
    cudaSetDevice(ordinal_);
    std::unique_lock<std::mutex> lock(mutex_);
    while (!closing_ || !in_flight_.empty()) {
      const auto ended = std::find_if(in_flight_.begin(), in_flight_.end(), Ended);
      if (ended == in_flight_.end()) {
        changed_.wait_for(lock, kLookAgain);
        continue;
      }
      InFlight job = std::move(*ended);
      in_flight_.erase(ended);
      lock.unlock();
      Finish(job);
      lock.lock();
      if (job.slot != nullptr) free_.push_back(job.slot);
      lock.unlock();
      job.done(std::move(job.status));
      job = {};
      lock.lock();
    }
  }

  void Finish(InFlight& job) {
    if (job.slot == nullptr) return;
    const Result<bool> ended = Called(cudaEventSynchronize(job.slot->done), "a job on the device");
    if (!job.status.ok) return;
    if (!ended.ok()) {
      job.status = {false, ended.error()};
      return;
    }
    const JobState& state = *job.slot->result;
    if (state.fault != 0) {
      const uint32_t index = state.fault / 256 - 1;
      const UnpackJob& u = job.unpack;
      const uint32_t tensors = u.cache->layout.tensors();
      job.status = {false,
                    {ErrorCode::kDataLoss,
                     FrameName(u.part.first_layer + index / tensors, static_cast<KvTensor>(index % tensors)) + ": " +
                         FaultName(state.fault)}};
    } else if (job.pack.codec != nullptr) {
      PackResult& result = *job.pack.result;
      std::memcpy(result.directory.data(), job.slot->entries, result.directory.size() * sizeof(FrameEntry));
      result.area_bytes = state.offset;
    }
  }

  const int ordinal_;
  const std::string name_;
  std::mutex mutex_;  // guards all below but waiter_
  std::condition_variable changed_;
  std::vector<Scratch> scratches_;
  std::vector<JobSlot> slots_;
  std::vector<JobSlot*> free_;
  uint64_t next_scratch_ = 0;
  std::deque<InFlight> in_flight_;
  bool closing_ = false;
  std::thread waiter_;
};

}  // namespace

Result<std::unique_ptr<Device>> MakeCudaDevice(int ordinal) {
  int count = 0;
  const cudaError_t code = cudaGetDeviceCount(&count);
  if (code != cudaSuccess || ordinal < 0 || ordinal >= count) {
    return Error{ErrorCode::kUnavailable,
                 "no CUDA device " + std::to_string(ordinal) + ": " +
                     (code != cudaSuccess ? cudaGetErrorString(code) : std::to_string(count) + " devices are there")};
  }
  cudaDeviceProp properties{};
  if (Result<bool> r = Called(cudaSetDevice(ordinal), "cudaSetDevice"); !r.ok()) return r.error();
  if (Result<bool> r = Called(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties"); !r.ok())
    return r.error();
  Result<std::vector<Scratch>> scratches = MakeScratches();
  if (!scratches.ok()) return scratches.error();
  Result<std::vector<JobSlot>> slots = MakeJobSlots();
  if (!slots.ok()) return slots.error();
  std::string name = "cuda:" + std::to_string(ordinal) + " " + properties.name;
  return std::unique_ptr<Device>(
      std::make_unique<CudaDevice>(ordinal, std::move(name), std::move(*scratches), std::move(*slots)));
}

}  // namespace kvasir
