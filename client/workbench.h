// SPDX-License-Identifier: Apache-2.0
// Workbench: hands jobs to the Device and brings their ends back to the Loop.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "kernels/device.h"
#include "transport/loop.h"

namespace kvasir::client {

/// On the CPU, jobs of one stream run one after the other; parts of different lanes run at once. On a device with streams
/// of its own every job goes to the caller's stream. The Loop only, and it outlives every job: OnIdle tells when.
class Workbench {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;
  Workbench(Loop& loop, Device& device, uint32_t lanes) : loop_(loop), device_(device), lanes_(lanes == 0 ? 1 : lanes) {}

  /// A mark in the engine's stream, taken when the engine asked: work on the lanes waits for it. Any thread.
  std::shared_ptr<DeviceEvent> Mark(Stream stream) { return device_.Record(stream); }
  template <class Job>
  void Submit(Job job, Stream stream, const std::shared_ptr<DeviceEvent>& after, Done done) {
    if (device_.memory() == MemoryKind::kHost) {
      stream = &lanes_[next_lane_++ % lanes_.size()];
      device_.Wait(stream, after);
    }
    ++jobs_;
    // JobDone is copyable; the callback is not.
    auto held = std::make_shared<Done>(std::move(done));
    device_.Submit(std::move(job), stream,
                   [this, held](JobStatus status) { loop_.Post([this, held, status] { End(*held, status); }); });
  }
  uint64_t jobs() const { return jobs_; }
  /// Runs once no job is under way: now, or after the last one's Done.
  void OnIdle(Task task);
  Device& device() { return device_; }

 private:
  void End(Done& done, const JobStatus& status);
  Loop& loop_;
  Device& device_;
  std::vector<char> lanes_;  // the address of an element names a queue of the CPU device
  size_t next_lane_ = 0;
  uint64_t jobs_ = 0;
  Task idle_;
};

}  // namespace kvasir::client
