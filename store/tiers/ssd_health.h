// SPDX-License-Identifier: Apache-2.0
// SsdHealth: whether the tier may still write, and what a failed disk operation means.
#pragma once

#include <atomic>
#include <string>

#include "absl/status/status.h"
#include "store/tiers/disk_io.h"
#include "transport/sync.h"

namespace kvasir {

/// Goes from well to failed once, and never back: after a failed fsync nobody knows what the device holds, and asking
/// again would answer "fine" for pages that the kernel has thrown away. Thread safe.
class SsdHealth {
 public:
  /// The first cause is kept.
  void Fail(std::string cause);
  /// Unavailable with the cause once failed.
  absl::Status Check() const;
  /// Empty while well.
  std::string cause() const;

  /// Whether the last write that needed space was refused for want of it: this passes when space comes back.
  void NoteSpace(bool refused) { out_of_space_.store(refused, std::memory_order_relaxed); }
  /// The same of the index, which has files of its own.
  void NoteIndexSpace(bool refused) { index_out_of_space_.store(refused, std::memory_order_relaxed); }
  bool out_of_space() const {
    return out_of_space_.load(std::memory_order_relaxed) || index_out_of_space_.load(std::memory_order_relaxed);
  }

 private:
  mutable Mutex mutex_;
  std::string cause_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> out_of_space_{false}, index_out_of_space_{false};
};

/// What became of an operation. OK when all of it was done; ResourceExhausted when space ran out (or less was written
/// than asked); else Unavailable, and `health` fails: a device that refuses writes is written no more.
absl::Status WriteOutcome(const DiskOp& op, SsdHealth& health);

/// DataLoss names errno or the missing bytes. A failed read says nothing of other reads.
absl::Status ReadOutcome(const DiskOp& op);

}  // namespace kvasir
