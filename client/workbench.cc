// SPDX-License-Identifier: Apache-2.0
// The ends of jobs.
#include "client/workbench.h"

#include <utility>

#include "store/api/status.h"

namespace kvasir::client {

void Workbench::End(Done& done, const JobStatus& status) {
  --jobs_;
  done(status.ok ? absl::OkStatus() : ToStatus(status.error));
  if (jobs_ == 0 && idle_) std::exchange(idle_, nullptr)();
}

void Workbench::OnIdle(Task task) {
  if (jobs_ == 0) return task();
  idle_ = std::move(task);
}

}  // namespace kvasir::client
