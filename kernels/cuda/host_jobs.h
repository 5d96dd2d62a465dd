// SPDX-License-Identifier: Apache-2.0
// HostJobs: jobs of the CUDA device whose results the host reads before anything can follow: a thread that runs them
// one after the other, each when its stream has come to it. The stream goes on when the job has ended, so that the
// order of a stream holds for them too; nobody but this thread and one of the driver waits.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "kernels/cuda/cuda_call.h"
#include "kernels/device.h"

namespace kvasir::cuda {

inline constexpr uint32_t kHostJobsMax = 1024;  ///< waiting; more are refused

/// Thread safe. Destroying it waits for its jobs.
class HostJobs {
 public:
  /// `side` is a stream of this thread: work enqueues there, and waits for it.
  using Work = std::function<JobStatus(cudaStream_t side)>;

  explicit HostJobs(int ordinal);
  ~HostJobs();
  HostJobs(const HostJobs&) = delete;

  /// Does not wait. kResourceExhausted above kHostJobsMax: `done` is then not called.
  Result<bool> Submit(cudaStream_t stream, Work work, JobDone done);

 private:
  class Ended;
  struct Job {
    cudaEvent_t before;
    Work work;
    JobDone done;
    std::shared_ptr<Ended> ended;
  };
  void Run();

  const int ordinal_;
  std::mutex mutex_;  // guards jobs_ and closing_
  std::condition_variable changed_;
  std::deque<Job> jobs_;
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace kvasir::cuda
