// SPDX-License-Identifier: Apache-2.0
// MembershipCore: this node's own key: whose it is, how it is taken, held, changed and given back.
#include <algorithm>
#include <utility>

#include "store/membership/membership_core.h"

namespace kvasir {
namespace {

namespace action = membership_action;

/// `membership` with `self` in it, in place of what is there under its id.
Membership With(Membership membership, Member self) {
  auto& members = membership.members;
  const auto at = std::lower_bound(members.begin(), members.end(), self,
                                   [](const Member& a, const Member& b) { return a.id < b.id; });
  if (at != members.end() && at->id == self.id) {
    self.epoch = at->epoch;
    *at = std::move(self);
  } else {
    members.insert(at, std::move(self));
  }
  return membership;
}

std::string Seconds(Duration duration) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(duration).count()) + "s";
}

}  // namespace

void MembershipCore::AdvanceClaim() {
  if (view_.revision() < shown_from_) {
    if (now_ < shown_until_) return WakeAt(shown_until_);
    return WatchFailed(absl::DeadlineExceededError("the watch does not show what was written"));
  }
  const MemberView::Key* own = view_.Find(options_.self.id);
  if (held_ != 0 && lease_ != 0 && own != nullptr && own->entry.modified == held_) return Hold();
  held_ = 0;
  switch (Judge(own)) {
    case Holder::kNobody:
    case Holder::kThis:
    case Holder::kEarlierLife:
      return Claim(own);
    case Holder::kLaterLife:
    case Holder::kStranger:
      return Conflict(*own);
  }
}

MembershipCore::Holder MembershipCore::Judge(const MemberView::Key* own) const {
  if (own == nullptr) return Holder::kNobody;
  if (!own->record.has_value()) return ever_held_ ? Holder::kThis : Holder::kStranger;
  const MemberRecord& record = *own->record;
  if (record.incarnation == options_.incarnation) return Holder::kThis;
  const bool same = record.member.control == options_.self.control ||
                    (!record.identity.empty() && record.identity == options_.identity);
  if (!same) return Holder::kStranger;
  // Who has held the key and finds another life of the same node there is the older one of the two.
  return ever_held_ ? Holder::kLaterLife : Holder::kEarlierLife;
}

/// The key is ours and everybody sees it.
void MembershipCore::Hold() {
  trouble_.clear();
  if (!std::exchange(registered_, true)) Do(action::Registered{});
  std::erase_if(announces_, [this](const Asked& asked) {
    if (asked.state != written_) return false;
    Do(action::Announced{asked.id, absl::OkStatus()});
    return true;
  });
  if (written_ != wanted_) Write(held_);
}

void MembershipCore::Claim(const MemberView::Key* own) {
  holder_since_.reset();
  if (!ready_) {
    Member self = options_.self;
    self.state = MemberState::kJoining;
    BecomeReady(With(view_.Current(), std::move(self)), false);
  }
  if (!registering_) return;
  if (own != nullptr && own->record.has_value() && own->record->incarnation == options_.incarnation && lease_ != 0 &&
      own->entry.lease == lease_) {
    held_ = own->entry.modified;  // a write whose answer was lost
    written_ = own->record->member.state;
    return Hold();
  }
  if (lease_ == 0) return Do(action::Grant{Ask(Call::kGrant), options_.ttl});
  if (ever_held_ && wanted_ == MemberState::kServing) {
    // Others have taken over meanwhile what it should hold: it begins like one that joins.
    wanted_ = MemberState::kJoining;
    EndAnnounces(absl::AbortedError("the node was out of the membership meanwhile and joins again"));
  }
  Write(own == nullptr ? 0 : own->entry.modified);
}

void MembershipCore::Write(uint64_t replaces) {
  MemberRecord record{.member = options_.self, .incarnation = options_.incarnation, .identity = options_.identity};
  const bool joins = held_ == 0 && wanted_ == MemberState::kServing;
  record.member.state = writing_ = joins ? MemberState::kJoining : wanted_;
  const std::string key = MembersPrefix(options_.cluster) + options_.self.id;
  KeyValue::TxnRequest request;
  if (replaces == 0) request.when = {{key, KeyValue::Condition::Of::kCreation, 0}};
  if (replaces != 0) request.when = {{key, KeyValue::Condition::Of::kLastChange, replaces}};
  request.puts = {{key, FormatMemberRecord(record), lease_}};
  Do(action::Txn{Ask(Call::kWrite), std::move(request)});
}

void MembershipCore::Wrote(const absl::StatusOr<KeyValue::TxnReply>& reply) {
  if (reply.status().code() == absl::StatusCode::kNotFound) {  // etcd's word for a lease that has ended
    lease_ = 0;
    held_ = 0;
    return;
  }
  if (!reply.ok() && held_ != 0) {  // etcd is full, say: this node stays what it is
    wanted_ = written_;
    EndAnnounces(reply.status());
  }
  if (!reply.ok()) return Rejected(reply.status());
  if (!reply->done) {  // the key has changed
    held_ = 0;
    return ReadAnew();
  }
  held_ = shown_from_ = reply->revision;
  shown_until_ = now_ + kWatchSign;
  written_ = writing_;
  ever_held_ = true;
}

/// Another holds our id. A start waits as long as a dead one's lease may last; a node that serves goes on without.
void MembershipCore::Conflict(const MemberView::Key& own) {
  const Duration patience = options_.ttl + kHolderMargin;
  const std::string holder =
      own.record.has_value() ? "the node at " + own.record->member.control : "a value that is no member's";
  const bool later = Judge(&own) == Holder::kLaterLife;
  const std::string what = "id '" + options_.self.id + "' is held by " +
                           (later ? "a later start of this node, at " + own.record->member.control : holder);
  trouble_ = what;
  const bool first = !holder_since_.has_value();
  if (first) holder_since_ = now_;
  if (!Starting()) {
    if (first || now_ >= say_at_) {
      say_at_ = now_ + kNotRegisteredSayEvery;
      Say(Severity::kError,
          what + ": this node serves, but is not registered. Stop one of the two, or give this one another --id");
    }
    return WakeAt(say_at_);
  }
  if (first) {
    Say(Severity::kWarning,
        what + "; if that one is gone its lease ends within " + Seconds(patience) + ", until then this node waits");
  }
  if (now_ < *holder_since_ + patience) return WakeAt(*holder_since_ + patience);
  Refuse(absl::AlreadyExistsError(
      what + ", which is still there after " + Seconds(patience) + ". Give this node another --id, or stop that one" +
      (own.entry.lease == 0 ? "; nobody's lease keeps it, it may be deleted: etcdctl del " + own.entry.key : "")));
}

// ---- lease ----------------------------------------------------------------------------------------------------------
void MembershipCore::On(membership_event::Granted granted) {
  if (!Answered(granted.ticket, granted.reply.status())) return;
  if (!granted.reply.ok()) return Rejected(granted.reply.status());
  lease_ = granted.reply->lease;
  renew_at_ = now_ + renew_every_;
}

void MembershipCore::RenewIfDue() {
  if (lease_ == 0 || renew_ticket_ != 0) return;
  if (now_ < renew_at_) return WakeAt(renew_at_);
  renew_ticket_ = ++tickets_;
  renew_at_ = now_ + renew_every_;
  Do(action::Renew{renew_ticket_, lease_});
}

void MembershipCore::On(membership_event::Renewed renewed) {
  if (renewed.ticket != renew_ticket_ || renew_ticket_ == 0) return;
  renew_ticket_ = 0;
  if (!Heard(renewed.status)) {
    renew_at_ = now_;  // as soon as the pause is over
  } else if (renewed.status.code() == absl::StatusCode::kNotFound) {
    Say(Severity::kWarning,
        "the lease of this node has ended (etcd was away, or this process stood still): it registers again");
    lease_ = 0;
    held_ = 0;
  } else if (!renewed.status.ok()) {
    Rejected(renewed.status);
  }
}

// ---- start ----------------------------------------------------------------------------------------------------------
void MembershipCore::BecomeReady(Membership membership, bool cached) {
  ready_ = true;
  cached_ = cached;
  epoch_ = std::max(epoch_, membership.epoch);
  say_at_ = now_;
  Do(action::Ready{std::move(membership), cached});
}

/// Nobody is kept waiting for an etcd that does not answer: a cached view will do, and so will a fresh one.
void MembershipCore::StartWithoutEtcd() {
  if (ready_ && registering_ && Starting() && EtcdIsGone()) {
    Say(Severity::kWarning, "etcd " + Endpoints() + ": does not answer any more: " + cause_ +
                                "; this node serves, and registers when it answers");
    registered_ = true;
    return Do(action::Registered{});
  }
  if (ready_ || !options_.cached.has_value()) return;
  const Instant patience = answered_at_ + kCachedAfter;
  const bool silent = failures_ >= static_cast<int>(options_.endpoints.size()) || (!answered_ && now_ >= patience);
  if (!silent && !answered_) WakeAt(patience);
  if (!silent && (trouble_.empty() || holder_since_.has_value())) return;
  Say(Severity::kWarning, "etcd " + Endpoints() + ": " + (silent ? "does not answer: " + cause_ : trouble_) +
                              "; this node starts with the cached view, " +
                              std::to_string(options_.cached->members.size()) + " members of epoch " +
                              std::to_string(options_.cached->epoch));
  const Member* before = options_.cached->Find(options_.self.id);
  Member self = options_.self;
  // Nobody can be told of a join now: whoever sees it as serving may go on doing so.
  const bool serving = before != nullptr && before->state == MemberState::kServing;
  self.state = serving ? MemberState::kServing : MemberState::kJoining;
  BecomeReady(With(*options_.cached, std::move(self)), true);
}

/// etcd has answered with a refusal: asking at once would not help.
void MembershipCore::Rejected(const absl::Status& why) {
  retry_at_ = now_ + pause_.Next();
  if (held_ == 0) CannotRegister(why);
}

/// What etcd holds does not go with this node. Whoever relies on it already is not left alone.
void MembershipCore::Refuse(absl::Status why) {
  if (!Starting()) return CannotRegister(why);
  ended_ = true;
  Do(action::Refused{std::move(why)});
}

/// etcd answers, but this node is not in it.
void MembershipCore::CannotRegister(const absl::Status& why) {
  const std::string cause(why.message());
  if (!Starting() && (trouble_ != cause || now_ >= say_at_)) {
    say_at_ = now_ + kNotRegisteredSayEvery;
    Say(Severity::kError, "this node serves, but is not registered: " + cause);
  }
  trouble_ = cause;
}

// ---- announce and leave ---------------------------------------------------------------------------------------------
void MembershipCore::On(membership_event::Announce announce) {
  const absl::Status replaced =
      absl::AbortedError(std::string("replaced by a later change to ") + Name(announce.state));
  std::erase_if(announces_, [&](const Asked& asked) {
    if (asked.state != announce.state) Do(action::Announced{asked.id, replaced});
    return asked.state != announce.state;
  });
  if (leaving_) return Do(action::Announced{announce.id, absl::UnavailableError("this node leaves the membership")});
  wanted_ = announce.state;
  announces_.push_back({announce.id, announce.state, now_ + kAnnounceMax});
}

void MembershipCore::EndAnnounces(const absl::Status& status) {
  for (const Asked& asked : std::exchange(announces_, {})) Do(action::Announced{asked.id, status});
}

/// Whoever asks is not kept waiting for an etcd that is gone, or too slow; what was asked for is written all the same.
void MembershipCore::ExpireAnnounces() {
  if (EtcdIsGone()) EndAnnounces(absl::UnavailableError("etcd does not answer; it is written as soon as it does"));
  std::erase_if(announces_, [this](const Asked& asked) {
    if (now_ < asked.until) return WakeAt(asked.until), false;
    Do(action::Announced{asked.id,
                         absl::DeadlineExceededError("etcd has not confirmed it within " + Seconds(kAnnounceMax) +
                                                     "; it is written as soon as it answers")});
    return true;
  });
}

void MembershipCore::On(membership_event::Leave) {
  if (leaving_) return;
  leaving_ = true;
  leave_until_ = now_ + kLeaveMax;
  EndAnnounces(absl::UnavailableError("this node leaves the membership"));
}

/// Ending the lease deletes the key, and only the one that is ours.
void MembershipCore::AdvanceLeave() {
  const auto end = [this](absl::Status status) {
    ended_ = true;
    DropWatch();
    Do(action::Left{std::move(status)});
  };
  if (now_ >= leave_until_)
    return end(absl::DeadlineExceededError("etcd has not confirmed it; the lease ends by itself within " +
                                           Seconds(options_.ttl)));
  WakeAt(leave_until_);
  if (now_ < retry_at_) return WakeAt(retry_at_);
  if (call_ != Call::kNone) return;
  if (lease_ == 0) return end(reachable_ ? absl::OkStatus() : absl::UnavailableError("etcd does not answer"));
  Do(action::Revoke{Ask(Call::kRevoke), lease_});
}

void MembershipCore::On(membership_event::Revoked revoked) {
  if (!Answered(revoked.ticket, revoked.status)) return;
  if (revoked.status.ok() || revoked.status.code() == absl::StatusCode::kNotFound) lease_ = 0;
  if (lease_ != 0) retry_at_ = now_ + pause_.Next();
}

}  // namespace kvasir
