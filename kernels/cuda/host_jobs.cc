// SPDX-License-Identifier: Apache-2.0
// The thread of HostJobs.
#include "kernels/cuda/host_jobs.h"

#include <algorithm>
#include <chrono>

#include "kernels/portable.h"

namespace kvasir::cuda {
namespace {

constexpr std::chrono::milliseconds kLookAgain{1};  ///< while no stream has come to its job

}  // namespace

/// Says that a job has ended.
class HostJobs::Ended {
 public:
  void Say() {
    const std::lock_guard<std::mutex> lock(mutex_);
    said_ = true;
    changed_.notify_all();
  }
  void Block() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return said_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool said_ = false;
};

HostJobs::HostJobs(int ordinal) : ordinal_(ordinal), thread_([this] { Run(); }) {}

HostJobs::~HostJobs() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    closing_ = true;
    changed_.notify_one();
  }
  thread_.join();
}

Result<bool> HostJobs::Submit(cudaStream_t stream, Work work, JobDone done) {
  cudaEvent_t before = nullptr;
  const cudaError_t made = cudaEventCreateWithFlags(&before, cudaEventDisableTiming);
  if (Result<bool> called = Called(made, "cudaEventCreate"); !called.ok()) return called;
  // Not under the mutex: a stream that is full has room again only when the thread goes on.
  cudaEventRecord(before, stream);
  auto ended = std::make_shared<Ended>();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (jobs_.size() >= kHostJobsMax) {
      cudaEventDestroy(before);
      return Error{ErrorCode::kResourceExhausted, std::to_string(kHostJobsMax) + " jobs about rows are waiting"};
    }
    jobs_.push_back({before, std::move(work), std::move(done), ended});
    changed_.notify_one();
  }
  cudaLaunchHostFunc(
      stream,
      [](void* p) {
        const std::unique_ptr<std::shared_ptr<Ended>> owned(static_cast<std::shared_ptr<Ended>*>(p));
        (*owned)->Block();
      },
      new std::shared_ptr<Ended>(std::move(ended)));
  return true;
}

void HostJobs::Run() {
  cudaSetDevice(ordinal_);
  cudaStream_t side = nullptr;
  KERNELS_CHECK(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking) == cudaSuccess);
  std::unique_lock<std::mutex> lock(mutex_);
  while (!closing_ || !jobs_.empty()) {
    // The first whose stream has come to it: one may wait, through an event, for another that was submitted later.
    const auto next = std::find_if(jobs_.begin(), jobs_.end(),
                                   [](const Job& job) { return cudaEventQuery(job.before) != cudaErrorNotReady; });
    if (next == jobs_.end()) {
      if (jobs_.empty()) changed_.wait(lock, [this] { return closing_ || !jobs_.empty(); });
      if (!jobs_.empty()) changed_.wait_for(lock, kLookAgain);
      continue;
    }
    Job job = std::move(*next);
    jobs_.erase(next);
    lock.unlock();
    const Result<bool> before = Called(cudaEventSynchronize(job.before), "what was before the job");
    cudaEventDestroy(job.before);
    JobStatus status = before.ok() ? job.work(side) : JobStatus{false, before.error()};
    job.ended->Say();
    job.done(std::move(status));
    job = {};
    lock.lock();
  }
  lock.unlock();
  cudaStreamDestroy(side);
}

}  // namespace kvasir::cuda
