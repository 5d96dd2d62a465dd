// SPDX-License-Identifier: Apache-2.0
// CudaDevice: enqueues the launchers of a job on the engine's stream; one thread waits for jobs to end and calls
// JobDone.
//
//   Submit:  take a slot -> launches (job_enqueue.h) -> state and entries to pinned memory -> event -> queue
//   waiter:  woken by a host function behind the job -> every job whose event is done: copy entries -> slot
//   back ->
//            JobDone
//
// Selections, rows of views that drop tokens, and rows of classes that go through chains of stages are for the thread
// of HostJobs: the host must know something on the way.
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

#include "kernels/cuda/device_check.h"
#include "kernels/cuda/host_jobs.h"
#include "kernels/cuda/job_enqueue.h"
#include "kernels/cuda/rows_job.h"
#include "kernels/cuda/select_job.h"
#include "kernels/device.h"
#include "kernels/job_check.h"
#include "kernels/portable.h"

namespace kvasir {
namespace {

/// The waiter looks by itself this often: after a device fault the driver may drop host functions.
constexpr std::chrono::milliseconds kLookAgain{50};

using namespace cuda;  // this file is the device; the launchers are its other half

/// Wakes the waiter. Nobody holds its mutex across a CUDA call: Submit may wait inside one for room in a stream, and
/// that room comes only when the driver's thread, which rings here, goes on.
class Bell {
 public:
  void Ring() {
    const std::lock_guard<std::mutex> lock(mutex_);
    rung_ = true;
    changed_.notify_one();
  }
  /// Until it was rung since the last call, or kLookAgain.
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, kLookAgain, [this] { return rung_; });
    rung_ = false;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool rung_ = false;
};

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

const char* FaultName(uint32_t fault) {
  switch (static_cast<DeviceFault>(fault % 256)) {
    case DeviceFault::kChecksum:
      return "checksum of the frame is wrong";
    case DeviceFault::kParameter:
      return "frame: a parameter that no encoder writes";
    case DeviceFault::kRows:
      return "frame of row classes: map, weights or lengths cannot be right, or tokens are missing from it";
    default:
      return "splitexp frame: entries, model or tails cannot be right";
  }
}

class CudaDevice final : public Device {
 public:
  CudaDevice(int ordinal, std::string name, std::vector<Scratch> scratches, std::vector<JobSlot> slots)
      : ordinal_(ordinal),
        name_(std::move(name)),
        host_jobs_(std::make_unique<HostJobs>(ordinal)),
        scratches_(std::move(scratches)),
        slots_(std::move(slots)) {
    for (JobSlot& slot : slots_) free_.push_back(&slot);
    waiter_ = std::thread([this] { Wait(); });
  }

  ~CudaDevice() override {
    host_jobs_.reset();  // streams wait for its jobs
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      closing_ = true;
    }
    bell_.Ring();
    waiter_.join();
    cudaSetDevice(ordinal_);
    cudaDeviceSynchronize();  // the last host functions name this object
    for (JobSlot& slot : slots_) cudaEventDestroy(slot.done);
    for (Scratch& scratch : scratches_) DestroyEvents(scratch);
  }

  const std::string& name() const override { return name_; }
  MemoryKind memory() const override { return MemoryKind::kCuda; }

  void Submit(PackJob job, Stream stream, JobDone done) override {
    cudaSetDevice(ordinal_);
    Result<bool> good = CheckJob(job);
    if (good.ok()) good = CheckForDevice(job);
    if (good.ok() && NeedsRowsJob(*job.codec, job.cache->layout)) {
      return SubmitToHost(good, stream, std::move(done),
                          [job = std::move(job)](cudaStream_t side) { return PackRowsOnDevice(job, side); });
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    JobSlot* slot = good.ok() ? TakeSlot(good) : nullptr;
    if (good.ok()) good = Enqueue(job, *slot, stream, EnqueuePack);
    Queue({slot, std::move(done), std::move(job), {}, good.ok() ? JobStatus{} : JobStatus{false, good.error()}});
  }

  void Submit(UnpackJob job, Stream stream, JobDone done) override {
    cudaSetDevice(ordinal_);
    Result<bool> good = CheckJob(job);
    if (good.ok()) good = CheckForDevice(job);
    if (good.ok() && NeedsRowsJob(*job.codec, job.cache->layout)) {
      return SubmitToHost(good, stream, std::move(done),
                          [job = std::move(job)](cudaStream_t side) { return UnpackRowsOnDevice(job, side); });
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    JobSlot* slot = good.ok() ? TakeSlot(good) : nullptr;
    if (good.ok()) good = Enqueue(job, *slot, stream, EnqueueUnpack);
    Queue({slot, std::move(done), {}, std::move(job), good.ok() ? JobStatus{} : JobStatus{false, good.error()}});
  }

  void Submit(SelectJob job, Stream stream, JobDone done) override {
    const Result<bool> good = CheckJob(job, MemoryKind::kCuda);
    SubmitToHost(good, stream, std::move(done),
                 [job = std::move(job)](cudaStream_t side) { return SelectOnDevice(job, side); });
  }
  void Submit(UnpackRowsJob job, Stream stream, JobDone done) override {
    Result<bool> good = CheckJob(job);
    if (good.ok()) good = CheckForDevice(job);
    SubmitToHost(good, stream, std::move(done), [job = std::move(job)](cudaStream_t) {
      CpuScratch scratch;
      return RunOnCpu(job, scratch);
    });
  }
  void Submit(PlaceRowsJob job, Stream stream, JobDone done) override {
    SubmitToHost(true, stream, std::move(done),
                 [job = std::move(job)](cudaStream_t side) { return PlaceOnDevice(job, side); });
  }

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

  void SubmitToHost(Result<bool> good, Stream stream, JobDone done, HostJobs::Work work) {
    cudaSetDevice(ordinal_);
    if (good.ok()) good = host_jobs_->Submit(Native(stream), std::move(work), done);
    if (good.ok()) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    Queue({nullptr, std::move(done), {}, {}, JobStatus{false, good.error()}});
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

  template <class Job, class Launches>
  Result<bool> Enqueue(const Job& job, JobSlot& slot, Stream stream, const Launches& launches) {
    const cudaStream_t s = Native(stream);
    Scratch& scratch = scratches_[next_scratch_++ % scratches_.size()];
    const Result<bool> enqueued = launches(job, slot, scratch, s);
    cudaEventRecord(slot.done, s);  // what was enqueued before an error still runs; the slot must see its end
    cudaStreamWaitEvent(scratch.side, slot.done, 0);  // the engine's stream need not wait for a thread of the host
    cudaLaunchHostFunc(scratch.side, Wake, this);
    return enqueued;
  }

  /// Holds mutex_.
  void Queue(InFlight job) {
    in_flight_.push_back(std::move(job));
    bell_.Ring();
  }

  /// Runs on a thread of the driver: no CUDA calls here, and no mutex that is held across one.
  static void Wake(void* device) { static_cast<CudaDevice*>(device)->bell_.Ring(); }

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
        lock.unlock();
        bell_.Wait();
        lock.lock();
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
  std::unique_ptr<HostJobs> host_jobs_;
  Bell bell_;
  std::mutex mutex_;  // guards all below but waiter_
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
