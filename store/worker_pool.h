// SPDX-License-Identifier: Apache-2.0
// WorkerPool: a few threads that check bytes for all shards of a node. Jobs run once, in order of arrival; the destructor
// runs what is queued and joins.
#pragma once

#include <deque>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "transport/sync.h"

namespace kvasir {

class WorkerPool {
 public:
  explicit WorkerPool(uint32_t threads) {
    for (uint32_t i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
  }
  ~WorkerPool() {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
    }
    wake_.NotifyAll();
    for (std::thread& thread : threads_) thread.join();
  }
  /// Any thread. The queue is as long as the extents in flight, which the core bounds.
  void Run(absl::AnyInvocable<void()> job) {
    {
      MutexLock lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    wake_.NotifyOne();
  }

 private:
  void Work() {
    for (;;) {
      absl::AnyInvocable<void()> job;
      {
        MutexLock lock(mutex_);
        while (jobs_.empty() && !stopping_) wake_.Wait(mutex_);
        if (jobs_.empty()) return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job();
    }
  }

  Mutex mutex_;
  CondVar wake_;
  std::deque<absl::AnyInvocable<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace kvasir
