// SPDX-License-Identifier: Apache-2.0
// A Lease and its renewal.
#include <algorithm>
#include <utility>

#include "store/link/lease.h"

namespace kvasir {

Lease::Lease(LinkDesk& desk, std::shared_ptr<Path> path, uint64_t id, Duration lasts)
    : desk_(desk), path_(std::move(path)), id_(id), lasts_(lasts) {}

void Lease::Begin(NodeLink::OnLease listener) {
  if (ended_) return;
  if (!path_->up()) return listener(LeaseRevoked{.lease = id_, .reason = "the connection ended"});
  ScheduleRenewal();
  listener_ = listener;
  path_->link->Listen(id_, std::move(listener));
}

void Lease::ScheduleRenewal() {
  timer_ = desk_.loop.After(std::max(NodeLink::kRenewalMin, lasts_ / 2), [self = shared_from_this()] {
    self->path_->link->Renew(self->path_->shard, self->id_, [self](bool gone) {
      if (!gone || self->ended_) return;
      self->desk_.count(LinkNews::kLeaseLost);
      const NodeLink::OnLease listener = std::exchange(self->listener_, nullptr);
      self->End();
      listener(LeaseRevoked{.lease = self->id_, .reason = "the node had ended the lease"});
    });
    self->ScheduleRenewal();
  });
}

void Lease::End() {
  if (std::exchange(ended_, true)) return;
  desk_.loop.Cancel(timer_);
  path_->link->Unlisten(id_);
  listener_ = nullptr;
  if (path_->up()) path_->link->Release(path_->shard, id_);
}

}  // namespace kvasir
