// SPDX-License-Identifier: Apache-2.0
// The ends of jobs.
#include "client/workbench.h"

#include <utility>

#include "store/api/status.h"

namespace kvasir::client {

void Workbench::End(uint64_t id, const JobStatus& status) {
  auto job = jobs_.extract(id);
  job.mapped()(status.ok ? absl::OkStatus() : ToStatus(status.error));
  if (jobs_.empty() && idle_) std::exchange(idle_, nullptr)();
}

void Workbench::OnIdle(Task task) {
  if (jobs_.empty()) return task();
  idle_ = std::move(task);
}

}  // namespace kvasir::client
