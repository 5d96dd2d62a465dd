// SPDX-License-Identifier: Apache-2.0
// How answers of a node come back to the Loop that asked: through a Mailbox that may outlive it, at most once, in time.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "store/api/store_api.h"
#include "transport/loop.h"
#include "transport/sync.h"

namespace kvasir {

/// The door to a Loop that may be gone: what is posted after Close is dropped. Any thread.
class Mailbox {
 public:
  explicit Mailbox(Loop& loop) : loop_(&loop) {}
  void Post(Task task) {
    MutexLock lock(mutex_);
    if (loop_ != nullptr) loop_->Post(std::move(task));
  }
  void Close() {
    MutexLock lock(mutex_);
    loop_ = nullptr;
  }

 private:
  Mutex mutex_;
  Loop* loop_ ABSL_GUARDED_BY(mutex_);
};

/// Calls `method` of a node; `done` runs on the Loop, once: with the answer, or with DeadlineExceeded at `deadline`
/// whatever the node does. After that a late answer is dropped. The Loop only. REQUIRES: `api` lives until the answer.
template <class Request, class Reply, class Api>
void Call(const std::shared_ptr<Mailbox>& mailbox, Loop& loop, Api& api,
          void (Api::*method)(Request, Duration, Answer<Reply>), Request request, Instant deadline,
          absl::AnyInvocable<void(absl::StatusOr<Reply>)> done) {
  struct Pending {
    absl::AnyInvocable<void(absl::StatusOr<Reply>)> done;
    Loop::TimerId timer = 0;
    void Finish(absl::StatusOr<Reply> reply) {
      if (!done) return;
      auto run = std::move(done);
      done = nullptr;
      run(std::move(reply));
    }
  };
  auto pending = std::make_shared<Pending>();  // shared by the timer and the answer: the first of them wins
  pending->done = std::move(done);
  pending->timer =
      loop.At(deadline, [pending] { pending->Finish(absl::DeadlineExceededError("the node did not answer in time")); });
  const Duration left = std::max(Duration::zero(), std::chrono::duration_cast<Duration>(deadline - loop.Now()));
  (api.*method)(std::move(request), left, [mailbox, pending, &loop](absl::StatusOr<Reply> reply) {
    mailbox->Post([pending, &loop, reply = std::move(reply)]() mutable {
      loop.Cancel(pending->timer);
      pending->Finish(std::move(reply));
    });
  });
}

}  // namespace kvasir
