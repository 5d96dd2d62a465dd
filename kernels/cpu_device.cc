// SPDX-License-Identifier: Apache-2.0
// CpuDevice: worker threads that keep the order within each stream.
//
// A stream is a queue of tasks. It is READY (in ready_, one worker will take it), RUNNING (a worker runs its front
// task), WAITING (its front task waits for an event), or absent (nothing to do). A worker takes one task, runs it, and
// puts the stream back, so that streams share the workers fairly. An event fires when its marker task runs; it then
// wakes the streams that wait for it. A marker always stands in its stream before anyone can wait for it, so waits
// cannot form a ring.
//
// A job that works head by head asks the other workers for help (Workers::ForEach): they take heads as they come,
// between jobs of other streams, and whoever comes too late finds none left. The asking worker never waits for one to
// come.
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "kernels/cpu_jobs.h"
#include "kernels/portable.h"
#include "kernels/simd/bodies.h"

namespace kvasir {
namespace {

/// Outlives the device that recorded it.
class CpuEvent final : public DeviceEvent {
 public:
  bool Done() const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return done_;
  }
  void Block() const override {
    std::unique_lock<std::mutex> lock(mutex_);
    fired_.wait(lock, [this] { return done_; });
  }
  void Fire() {
    std::vector<std::function<void()>> wake;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      done_ = true;
      wake.swap(wake_);
    }
    fired_.notify_all();
    for (const auto& w : wake) w();
  }
  /// Calls `wake` when the event fires; answers false, and never calls it, when it has fired.
  bool WakeWhenDone(std::function<void()> wake) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (done_) return false;
    wake_.push_back(std::move(wake));
    return true;
  }

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable fired_;
  bool done_ = false;
  std::vector<std::function<void()>> wake_;
};

/// One entry of a stream: run(), or wait for an event.
struct Task {
  std::function<void(CpuScratch&)> run;
  std::shared_ptr<DeviceEvent> wait_for;
};

/// Items of one task that several threads take in turn. Held by all who help: late ones find nothing left.
class SharedItems {
 public:
  SharedItems(uint64_t count, const std::function<void(uint64_t)>& body) : count_(count), body_(body) {}
  /// Runs items until none is left to take.
  void Help() {
    uint64_t ran = 0;
    for (uint64_t i = next_++; i < count_; i = next_++, ++ran) body_(i);
    const std::lock_guard<std::mutex> lock(mutex_);
    ran_ += ran;
    if (ran_ == count_) ended_.notify_all();
  }
  /// After Help: until those that others took have ended. The caller's `body` is not touched afterwards.
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    ended_.wait(lock, [this] { return ran_ == count_; });
  }

 private:
  const uint64_t count_;
  const std::function<void(uint64_t)>& body_;
  std::atomic<uint64_t> next_{0};
  std::mutex mutex_;
  std::condition_variable ended_;
  uint64_t ran_ = 0;  // guarded by mutex_
};

class CpuDevice final : public Device, private Workers {
 public:
  explicit CpuDevice(const CpuDeviceOptions& options)
      : options_(options),
        name_("cpu (" + simd::TargetName() + ", " + std::to_string(options.codec_threads) + " threads)") {
    KERNELS_CHECK(options.codec_threads > 0);
    for (uint32_t i = 0; i < options.codec_threads; ++i) workers_.emplace_back([this] { Work(); });
  }

  ~CpuDevice() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      closing_ = true;
    }
    changed_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  const std::string& name() const override { return name_; }
  MemoryKind memory() const override { return MemoryKind::kHost; }

  void Submit(PackJob job, Stream stream, JobDone done) override { SubmitJob(std::move(job), stream, std::move(done)); }
  void Submit(UnpackJob job, Stream stream, JobDone done) override {
    SubmitJob(std::move(job), stream, std::move(done));
  }
  void Submit(SelectJob job, Stream stream, JobDone done) override {
    SubmitJob(std::move(job), stream, std::move(done));
  }
  void Submit(UnpackRowsJob job, Stream stream, JobDone done) override {
    SubmitJob(std::move(job), stream, std::move(done));
  }
  void Submit(PlaceRowsJob job, Stream stream, JobDone done) override {
    SubmitJob(std::move(job), stream, std::move(done));
  }

  std::shared_ptr<DeviceEvent> Record(Stream stream) override {
    auto event = std::make_shared<CpuEvent>();
    Push(stream, {[event](CpuScratch&) { event->Fire(); }, nullptr});
    return event;
  }

  void Wait(Stream stream, std::shared_ptr<DeviceEvent> event) override { Push(stream, {nullptr, std::move(event)}); }

  Result<bool> Pin(std::span<std::byte>) override { return true; }
  void Unpin(std::span<std::byte>) override {}

 private:
  template <class Job>
  void SubmitJob(Job job, Stream stream, JobDone done) {
    bool full;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      full = queued_jobs_ >= options_.queued_jobs_max;
      if (!full) ++queued_jobs_;
    }
    if (full) {
      Push(stream, {[this, done = std::move(done)](CpuScratch&) {
                      done({false,
                            {ErrorCode::kResourceExhausted,
                             "queued_jobs_max (" + std::to_string(options_.queued_jobs_max) + ") jobs are waiting"}});
                    },
                    nullptr});
      return;
    }
    Push(stream, {[this, job = std::move(job), done = std::move(done)](CpuScratch& scratch) {
                    const JobStatus status = Run(job, scratch);
                    {
                      const std::lock_guard<std::mutex> lock(mutex_);
                      --queued_jobs_;
                    }
                    done(status);
                  },
                  nullptr});
  }

  template <class Job>
  JobStatus Run(const Job& job, CpuScratch& scratch) {
    return RunOnCpu(job, scratch);
  }
  JobStatus Run(const SelectJob& job, CpuScratch&) { return RunOnCpu(job, this); }

  /// From a worker, for the job it runs. Help is asked for in streams of its own, which no one else can name.
  void ForEach(uint64_t count, const std::function<void(uint64_t)>& body) override {
    struct Call {
      SharedItems items;
      std::vector<char> streams;  // the address of an element names one
    };
    const uint64_t helpers = std::min<uint64_t>(options_.codec_threads, count) - (count > 0 ? 1 : 0);
    const auto call = std::shared_ptr<Call>(new Call{{count, body}, std::vector<char>(helpers)});
    for (char& stream : call->streams) Push(&stream, {[call](CpuScratch&) { call->items.Help(); }, nullptr});
    call->items.Help();
    call->items.Wait();
  }

  void Push(Stream stream, Task task) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      std::deque<Task>& tasks = streams_[stream];
      tasks.push_back(std::move(task));
      if (tasks.size() > 1) return;  // READY, RUNNING or WAITING already
      ready_.push_back(stream);
    }
    changed_.notify_one();
  }

  void Work() {
    CpuScratch scratch;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return !ready_.empty() || (closing_ && streams_.empty()); });
      if (ready_.empty()) return;
      const Stream stream = ready_.front();
      ready_.pop_front();
      // The front stays in its queue while it runs: that is what marks the stream as busy.
      Task task = std::move(streams_[stream].front());
      lock.unlock();
      const bool finished = RunTask(stream, task, scratch);
      task = {};  // callbacks may own much; drop it before the lock
      lock.lock();
      if (finished) Finish(stream);
    }
  }

  /// False when the stream now waits for an event, which will call Resume.
  bool RunTask(Stream stream, Task& task, CpuScratch& scratch) {
    if (task.run != nullptr) {
      task.run(scratch);
      return true;
    }
    if (auto* event = dynamic_cast<CpuEvent*>(task.wait_for.get()); event != nullptr) {
      return !event->WakeWhenDone([this, stream] { Resume(stream); });
    }
    task.wait_for->Block();  // another device's event: only it knows how to wait
    return true;
  }

  void Resume(Stream stream) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Finish(stream);
  }

  /// Takes the finished front away. Holds mutex_.
  void Finish(Stream stream) {
    const auto it = streams_.find(stream);
    it->second.pop_front();
    if (it->second.empty()) {
      streams_.erase(it);
      if (closing_ && streams_.empty()) changed_.notify_all();
      return;
    }
    ready_.push_back(stream);
    changed_.notify_one();
  }

  const CpuDeviceOptions options_;
  const std::string name_;
  std::mutex mutex_;  // guards all below but workers_
  std::condition_variable changed_;
  std::unordered_map<Stream, std::deque<Task>> streams_;  // only those with something to do
  std::deque<Stream> ready_;
  uint32_t queued_jobs_ = 0;
  bool closing_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace

std::unique_ptr<Device> MakeCpuDevice(const CpuDeviceOptions& options) { return std::make_unique<CpuDevice>(options); }

}  // namespace kvasir
