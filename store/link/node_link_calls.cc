// SPDX-License-Identifier: Apache-2.0
// The calls of a NodeLink, and what it hears by itself.
#include <algorithm>
#include <utility>

#include "store/link/node_link.h"

namespace kvasir {

void NodeLink::Offer(const std::shared_ptr<Path>& path, OfferRequest request, Instant deadline,
                     absl::AnyInvocable<void(absl::StatusOr<OfferReply>)> done) {
  if (!path->up()) return done(absl::UnavailableError("the connection ended"));
  desk_.count(LinkNews::kOffer);
  request.session = path->session;
  request.shard = path->shard;
  const bool patient = Patient(deadline);
  Call<OfferRequest, OfferReply>(
      desk_.mailbox, desk_.loop, *api_, &StoreApi::Offer, std::move(request), deadline,
      [this, life = life_, patient, done = std::move(done)](absl::StatusOr<OfferReply> reply) mutable {
        if (life == life_) Judge(reply.status(), patient);
        done(std::move(reply));
      });
}

void NodeLink::Acquire(const std::shared_ptr<Path>& path, AcquireRequest request, Instant deadline,
                       absl::AnyInvocable<void(absl::StatusOr<AcquireReply>)> done) {
  if (!path->up()) return done(absl::UnavailableError("the connection ended"));
  desk_.count(LinkNews::kAcquire);
  request.session = path->session;
  request.shard = path->shard;
  ++acquires_under_way_;
  const bool patient = Patient(deadline);
  Call<AcquireRequest, AcquireReply>(
      desk_.mailbox, desk_.loop, *api_, &StoreApi::Acquire, std::move(request), deadline,
      [this, life = life_, patient, asked = desk_.loop.Now(), done = std::move(done)](absl::StatusOr<AcquireReply> reply) mutable {
        if (reply.ok() || absl::IsDeadlineExceeded(reply.status())) NoteLatency(asked);
        if (life == life_) Judge(reply.status(), patient);
        done(std::move(reply));
        if (life != life_) return;
        // Whoever got the answer begins to listen in the next turn of the Loop; events that come before are early, too.
        desk_.loop.Post([this, life] {
          if (life == life_ && --acquires_under_way_ == 0) early_.clear();
        });
      });
}

Duration NodeLink::latency() const {
  const auto halvings = static_cast<int>(std::min<int64_t>((desk_.loop.Now() - latency_at_) / kLatencyHalf, 62));
  return latency_ / (int64_t{1} << halvings);
}

void NodeLink::NoteLatency(Instant asked) {
  const Duration known = latency(), took = std::chrono::duration_cast<Duration>(desk_.loop.Now() - asked);
  latency_ = known == Duration::zero() ? took : known + (took - known) / (took > known ? 2 : 8);
  latency_at_ = desk_.loop.Now();
}

void NodeLink::Touch(TouchRequest request, absl::AnyInvocable<void(absl::StatusOr<TouchReply>)> done) {
  if (session_ == 0) return done(absl::UnavailableError("the session ended"));
  request.session = session_;
  Call<TouchRequest, TouchReply>(desk_.mailbox, desk_.loop, *api_, &StoreApi::Touch, std::move(request), CallDeadline(),
                                 [this, life = life_, done = std::move(done)](absl::StatusOr<TouchReply> reply) mutable {
                                   if (life != life_) return done(absl::UnavailableError("the session ended"));
                                   Judge(reply.status(), true);
                                   done(std::move(reply));
                                 });
}

void NodeLink::Object(ObjectRequest request, Instant deadline, absl::AnyInvocable<void(absl::StatusOr<ObjectReply>)> done) {
  if (session_ == 0) return done(absl::UnavailableError("the session ended"));
  request.session = session_;
  const bool patient = Patient(deadline), put = request.put;
  Call<ObjectRequest, ObjectReply>(
      desk_.mailbox, desk_.loop, *api_, &StoreApi::Object, std::move(request), deadline,
      [this, life = life_, patient, put, done = std::move(done)](absl::StatusOr<ObjectReply> reply) mutable {
        if (life == life_ && !(put && absl::IsAborted(reply.status()))) Judge(reply.status(), patient);
        done(std::move(reply));
      });
}

bool NodeLink::Patient(Instant deadline) const {
  return deadline - desk_.loop.Now() >= desk_.call_deadline * 3 / 4;
}

void NodeLink::Judge(const absl::Status& status, bool patient) {
  if (const std::optional<uint64_t> epoch = CurrentEpochOf(status)) return hooks_.epoch(id_, *epoch);
  if (absl::IsAborted(status)) return Drop(status);
  // A short deadline says little about the node; a Touch with a fair one will.
  if (!patient && absl::IsDeadlineExceeded(status)) return Renewal();
  if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) Fail(status);
}

void NodeLink::Renew(uint32_t shard, uint64_t lease, absl::AnyInvocable<void(bool)> done) {
  TouchRequest request;
  request.shard = shard;
  request.renew = {lease};
  Touch(std::move(request), [lease, done = std::move(done)](const absl::StatusOr<TouchReply>& reply) mutable {
    done(!reply.ok() || std::find(reply->gone.begin(), reply->gone.end(), lease) != reply->gone.end());
  });
}

void NodeLink::Release(uint32_t shard, uint64_t lease) {
  if (session_ == 0) return;
  shards_[shard].releases.push_back(lease);
  if (std::exchange(flush_posted_, true)) return;
  desk_.loop.Post([this] { FlushReleases(); });
}

void NodeLink::FlushReleases() {
  flush_posted_ = false;
  std::vector<TouchRequest> requests;
  for (auto& [shard, state] : shards_) {
    if (state.releases.empty()) continue;
    requests.emplace_back();
    requests.back().shard = shard;
    requests.back().release = std::exchange(state.releases, {});
  }
  for (TouchRequest& request : requests) Touch(std::move(request), [](const absl::StatusOr<TouchReply>&) {});
}

void NodeLink::ReportDamage(uint32_t shard, DamagedPart part) {
  TouchRequest request;
  request.shard = shard;
  request.damaged.push_back(std::move(part));
  Touch(std::move(request), [](const absl::StatusOr<TouchReply>&) {});
}

void NodeLink::Wish(uint32_t shard, std::vector<BlockKey> keep, Duration keep_for, std::vector<BlockKey> drop) {
  TouchRequest request;
  request.shard = shard;
  request.keep = std::move(keep);
  request.keep_for = keep_for;
  request.drop = std::move(drop);
  Touch(std::move(request), [](const absl::StatusOr<TouchReply>&) {});
}

/// Three tries fit into a ttl.
void NodeLink::ScheduleRenewal() {
  const Duration every = std::max(kRenewalMin, hello_.session_ttl / 3);
  renewal_ = desk_.loop.After(every, [this] {
    ScheduleRenewal();
    if (member_) Renewal();
  });
}

void NodeLink::Renewal() {
  if (std::exchange(renewing_, true)) return;
  Touch({}, [this, life = life_](const absl::StatusOr<TouchReply>&) {
    if (life == life_) renewing_ = false;
  });
}

void NodeLink::Listen(uint64_t lease, OnLease listener) {
  std::vector<PartsReady> early;
  for (PartsReady& event : early_) {
    if (event.lease == lease) early.push_back(std::move(event));
  }
  std::erase_if(early_, [lease](const PartsReady& event) { return event.lease == lease; });
  leases_[lease] = listener;
  for (PartsReady& event : early) listener(WatchEvent(std::move(event)));
}

void NodeLink::OnEvent(WatchEvent event) {
  if (auto* changed = std::get_if<MembershipChanged>(&event)) return hooks_.membership(std::move(changed->membership));
  const auto* ready = std::get_if<PartsReady>(&event);
  const uint64_t lease = ready != nullptr ? ready->lease : std::get<LeaseRevoked>(event).lease;
  auto found = leases_.find(lease);
  if (found == leases_.end()) {
    // The event may have overtaken the answer that names its lease.
    if (ready != nullptr && acquires_under_way_ > 0 && early_.size() < kEarlyEventsMax) early_.push_back(*ready);
    return;
  }
  OnLease listener = found->second;  // it may Unlisten
  if (ready == nullptr) leases_.erase(found);
  listener(event);
}

}  // namespace kvasir
