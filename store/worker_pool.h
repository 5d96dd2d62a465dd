// SPDX-License-Identifier: Apache-2.0
// WorkerPool: a few threads that check bytes for all shards of a node. Jobs run once, in order of arrival; the destructor
// runs what is queued and joins.
#pragma once

#include <pthread.h>

#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "store/health.h"
#include "transport/sync.h"

namespace kvasir {

class WorkerPool {
 public:
  explicit WorkerPool(uint32_t threads) : busy_(threads) {
    for (uint32_t i = 0; i < threads; ++i) {
      threads_.emplace_back([this, i] { Work(busy_[i]); });
      pthread_setname_np(threads_.back().native_handle(), ("kv-check-" + std::to_string(i)).c_str());
    }
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
      queued_.Begin();
      jobs_.push_back(std::move(job));
    }
    wake_.NotifyOne();
  }

  uint32_t threads() const { return static_cast<uint32_t>(threads_.size()); }
  /// Jobs that a thread took and ended; jobs that were queued and taken.
  const Pulse& busy(uint32_t thread) const { return busy_[thread]; }
  const Pulse& queued() const { return queued_; }

 private:
  void Work(Pulse& busy) {
    for (;;) {
      absl::AnyInvocable<void()> job;
      {
        MutexLock lock(mutex_);
        while (jobs_.empty() && !stopping_) wake_.Wait(mutex_);
        if (jobs_.empty()) return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      queued_.End();
      busy.Begin();
      job();
      busy.End();
    }
  }

  Mutex mutex_;
  CondVar wake_;
  std::deque<absl::AnyInvocable<void()>> jobs_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Pulse queued_;
  std::vector<Pulse> busy_;
  std::vector<std::thread> threads_;
};

}  // namespace kvasir
