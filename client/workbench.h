// SPDX-License-Identifier: Apache-2.0
// Workbench: hands jobs to the Device and brings their ends back to the Loop.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "store/link/mailbox.h"
#include "kernels/device.h"
#include "transport/loop.h"

namespace kvasir::client {

/// On the CPU, jobs of one stream run one after the other; parts of different lanes run at once. On a device with streams
/// of its own every job goes to the caller's stream. The Loop only, and it outlives every job: OnIdle tells when.
/// Invariant: callbacks, and what they hold, stay on the Loop: a device's thread only ever sees a number.
class Workbench {
 public:
  using Done = absl::AnyInvocable<void(absl::Status)>;
  Workbench(std::shared_ptr<Mailbox> mailbox, Device& device, uint32_t lanes)
      : mailbox_(std::move(mailbox)), device_(device), lanes_(lanes == 0 ? 1 : lanes) {}

  /// A mark in the engine's stream, taken when the engine asked: work on the lanes waits for it. Any thread.
  std::shared_ptr<DeviceEvent> Mark(Stream stream) { return device_.Record(stream); }
  template <class Job>
  void Submit(Job job, Stream stream, const std::shared_ptr<DeviceEvent>& after, Done done) {
    if (device_.memory() == MemoryKind::kHost) {
      stream = &lanes_[next_lane_++ % lanes_.size()];
      device_.Wait(stream, after);
    }
    const uint64_t id = next_job_++;
    jobs_.emplace(id, std::move(done));
    device_.Submit(std::move(job), stream, [this, id, mailbox = mailbox_](JobStatus status) {
      mailbox->Post([this, id, status = std::move(status)] { End(id, status); });
    });
  }
  /// Runs once no job is under way: now, or after the last one's Done.
  void OnIdle(Task task);

 private:
  void End(uint64_t id, const JobStatus& status);
  const std::shared_ptr<Mailbox> mailbox_;  // shared: a device's thread may be inside it when the Loop has run the end
  Device& device_;
  std::vector<char> lanes_;                 // the address of an element names a queue of the CPU device
  size_t next_lane_ = 0;
  uint64_t next_job_ = 1;
  absl::flat_hash_map<uint64_t, Done> jobs_;
  Task idle_;
};

}  // namespace kvasir::client
