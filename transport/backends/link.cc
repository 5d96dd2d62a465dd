// SPDX-License-Identifier: Apache-2.0
// The laws of a pull: exactly one end, a deadline of our own, no callback from inside a call of the user.
#include "transport/backends/link.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/check.h"

namespace kvasir {

void LinkHome::CloseAll() {
  while (!links.empty()) {
    const std::shared_ptr<Link> link = links.begin()->second;
    link->Close(absl::AbortedError("transport closed"));
  }
}

void Link::Open(Instant deadline, ConnectDone done) {
  home_->links.emplace(this, shared_from_this());
  on_open_ = std::move(done);
  if (deadline == Instant()) deadline = loop().Now() + kHelloWaitMax;
  open_timer_ = loop().At(deadline, [weak = weak_from_this()] {
    const std::shared_ptr<Link> self = weak.lock();
    if (self != nullptr) self->Close(absl::DeadlineExceededError("connect"));
  });
}

void Link::Opened() {
  KVASIR_CHECK(!open_ && !closed_, "a link opens once");
  open_ = true;
  loop().Cancel(open_timer_);
}

void Link::Pull(std::span<const Piece> pieces, Instant deadline, PullDone done) {
  absl::Status refusal = Refusal(pieces);
  if (!refusal.ok() || pieces.empty()) {
    ended_.push_back({std::move(done), std::move(refusal)});
    DeliverLater();
    return;
  }
  auto owned = std::make_unique<PullState>();
  PullState& pull = *owned;
  pull.id = next_pull_++;
  pull.pieces.assign(pieces.begin(), pieces.end());
  pull.done = std::move(done);
  pulls_.emplace(pull.id, std::move(owned));
  if (deadline != Instant::max()) {
    pull.timer = loop().At(deadline, [weak = weak_from_this(), id = pull.id] {
      if (const std::shared_ptr<Link> self = weak.lock()) self->OnDeadline(id);
    });
  }
  Start(pull);
}

/// Why a pull cannot even begin.
absl::Status Link::Refusal(std::span<const Piece> pieces) const {
  if (closed_) return closed_why_;
  if (pulls_.size() >= home_->options.queued_pulls_max) {
    return absl::ResourceExhaustedError(absl::StrCat("queued_pulls_max = ", home_->options.queued_pulls_max));
  }
  for (const Piece& piece : pieces) {
    if (piece.local.size() != piece.remote.length) {
      return absl::InvalidArgumentError(
          absl::StrCat("a piece of ", piece.remote.length, " bytes into ", piece.local.size()));
    }
    if (piece.remote.incarnation != peer_incarnation_) {
      return absl::PermissionDeniedError("the grant is of another incarnation than this peer");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::span<const std::byte>> Link::Map(const RemoteSpan&) {
  return absl::UnimplementedError(absl::StrCat(home_->capabilities.name, " cannot map remote memory"));
}

void Link::OnDeadline(uint64_t id) {
  auto found = pulls_.find(id);
  if (found == pulls_.end()) return;
  PullState& pull = *found->second;
  pull.timer = 0;
  const bool quiet = Withdraw(pull);
  End(pull, absl::DeadlineExceededError("pull"));
  if (!quiet) Close(absl::UnavailableError("connection shut at the deadline of a pull: nothing may land after it"));
  Deliver();
}

void Link::Close(absl::Status why) {
  if (closed_) return;
  const std::shared_ptr<Link> self = shared_from_this();
  closed_ = true;
  closed_why_ = std::move(why);
  loop().Cancel(open_timer_);
  Shut(closed_why_);
  while (!pulls_.empty()) {
    PullState& pull = *pulls_.begin()->second;
    Withdraw(pull);
    End(pull, closed_why_);
  }
  home_->links.erase(this);
  DeliverLater();
}

void Link::SetOnClosed(absl::AnyInvocable<void(absl::Status)> callback) {
  on_closed_ = std::move(callback);
  if (closed_) DeliverLater();
}

void Link::End(PullState& pull, absl::Status status) {
  if (pull.timer != 0) loop().Cancel(pull.timer);
  ended_.push_back({std::move(pull.done), std::move(status)});
  pulls_.erase(pull.id);
}

void Link::Deliver() {
  const std::shared_ptr<Link> self = shared_from_this();
  if (on_open_ && (open_ || closed_)) {
    ConnectDone on_open = std::exchange(on_open_, nullptr);
    if (closed_) {
      on_open(closed_why_);
    } else {
      on_open(std::make_unique<LinkConnection>(self));
    }
  }
  while (!ended_.empty()) {
    std::vector<Ended> batch = std::move(spare_ended_);  // keeps its room; callbacks may end further pulls
    batch.swap(ended_);
    for (Ended& ended : batch) std::move(ended.done)(PullResult{std::move(ended.status), false});
    batch.clear();
    spare_ended_ = std::move(batch);
  }
  if (closed_ && on_closed_) std::exchange(on_closed_, nullptr)(closed_why_);
}

void Link::DeliverLater() {
  loop().Post([self = shared_from_this()] { self->Deliver(); });
}

LinkConnection::~LinkConnection() {
  link_->DropOnClosed();
  link_->Close(absl::AbortedError("connection destroyed"));
}

void LinkConnection::Close() { link_->Close(absl::AbortedError("connection closed")); }

}  // namespace kvasir
