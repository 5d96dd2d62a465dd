// SPDX-License-Identifier: Apache-2.0
// DeliveryGate: lets the owner of a stream go away while gRPC's threads call it back. Private to store/wire.
#pragma once

#include <thread>

#include "transport/sync.h"

namespace kvasir {

/// Any thread.
class DeliveryGate {
 public:
  /// Runs `work`, unless the gate is shut. One at a time: gRPC gives a stream's events one after the other.
  template <class Work>
  void Deliver(Work work) {
    {
      MutexLock lock(mutex_);
      if (shut_) return;
      delivering_ = true;
      deliverer_ = std::this_thread::get_id();
    }
    work();
    MutexLock lock(mutex_);
    delivering_ = false;
    quiet_.NotifyAll();
  }
  /// No work begins after this.
  void Shut() {
    MutexLock lock(mutex_);
    shut_ = true;
  }
  /// Waits for the work that is running, unless it is this thread's.
  void AwaitQuiet() {
    MutexLock lock(mutex_);
    while (delivering_ && deliverer_ != std::this_thread::get_id()) quiet_.Wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar quiet_;
  bool shut_ ABSL_GUARDED_BY(mutex_) = false;
  bool delivering_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread::id deliverer_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvasir
