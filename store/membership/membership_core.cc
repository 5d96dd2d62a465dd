// SPDX-License-Identifier: Apache-2.0
// MembershipCore: the connection, the view that comes over it, and the cluster it must belong to. What a node does
// about its own key is in membership_claim.cc.
#include "store/membership/membership_core.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "transport/check.h"

namespace kvasir {
namespace {

namespace action = membership_action;

std::string Seconds(Duration duration) {
  return std::to_string(std::chrono::duration_cast<std::chrono::seconds>(duration).count()) + "s";
}

/// True when nobody may have answered: another endpoint might.
bool IsSilence(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kInternal:
      return true;
    default:
      return false;
  }
}

}  // namespace

MembershipCore::MembershipCore(MembershipOptions options)
    : options_(std::move(options)),
      renew_every_(options_.ttl / kRenewalsPerTtl),
      call_deadline_(std::clamp(renew_every_, kCallMin, kCallMax)),
      pause_(kPauseFirst, kPauseLast, options_.seed),
      watch_pause_(kPauseFirst, kPauseLast, options_.seed + 1),
      view_(options_.cluster),
      cluster_id_(options_.cluster_id),
      epoch_(options_.cached.has_value() ? options_.cached->epoch : 0) {
  KVASIR_CHECK(!options_.endpoints.empty(), "an etcd has at least one endpoint");
  KVASIR_CHECK(options_.ttl >= std::chrono::seconds(1), "a lease lives at least a second");
}

std::vector<MembershipAction> MembershipCore::Step(MembershipEvent event, Instant now) {
  now_ = now;
  if (!ended_) std::visit([this](auto&& e) { On(std::move(e)); }, std::move(event));
  wake_ = Instant::max();
  if (!ended_) Advance();
  SayHowItStands();
  return std::exchange(actions_, {});
}

/// Whatever is missing and not under way is asked for; each answer comes back here.
void MembershipCore::Advance() {
  for (std::string& why : view_.TakeComplaints()) Say(Severity::kWarning, std::move(why));
  ExpireAnnounces();
  if (leaving_) return AdvanceLeave();
  Publish();
  StartWithoutEtcd();
  LookAtWatch();
  if (now_ < retry_at_) return WakeAt(retry_at_);
  RenewIfDue();
  if (call_ != Call::kNone) return;
  if (!loaded_) return Load();
  if (watch_ == 0 && now_ < watch_retry_at_) return WakeAt(watch_retry_at_);
  if (watch_ == 0 && !looked_) {
    return Do(action::Range{Ask(Call::kLook), {ClusterKey(options_.cluster), 1}});
  }
  if (watch_ == 0) OpenWatch();
  if (CheckCluster()) AdvanceClaim();
}

// ---- connection -----------------------------------------------------------------------------------------------------
void MembershipCore::On(membership_event::Begin) {
  answered_at_ = now_;
  say_at_ = now_ + kSayFirst;
  Do(action::Connect{endpoint_});
}

/// True when this is the answer that is waited for, and etcd's.
bool MembershipCore::Answered(uint64_t ticket, const absl::Status& status) {
  if (ticket != call_ticket_ || call_ == Call::kNone) return false;
  call_ = Call::kNone;
  return Heard(status);
}

/// Accounts an answer: true when it is etcd's, whatever it says.
bool MembershipCore::Heard(const absl::Status& status) {
  if (IsSilence(status)) return Failed(status), false;
  if (!reachable_ && ready_) {
    Say(Severity::kInfo,
        "etcd " + options_.endpoints[endpoint_] + ": answers again after " + Seconds(now_ - answered_at_));
  }
  failures_ = 0;
  answered_ = reachable_ = true;
  answered_at_ = now_;
  if (status.ok()) pause_.Reset();
  return true;
}

void MembershipCore::Failed(const absl::Status& status) {
  ++failures_;
  cause_ = std::string(status.message());
  // Before the first answer each endpoint gets one try, at once: a start need not wait for a dead one.
  const int tries = static_cast<int>(options_.endpoints.size());
  if (answered_ || failures_ >= tries) retry_at_ = now_ + pause_.Next();
  if (reachable_ && (!answered_ || failures_ >= kFailuresPerConnection)) {
    reachable_ = false;
    holder_since_.reset();  // leases stand still while etcd does
    if (ready_) {
      Say(Severity::kWarning, "etcd " + Endpoints() + ": unreachable (" + cause_ +
                                  "). The members stay as they are; joins and leaves wait until it answers");
    }
  }
  if (!answered_ || failures_ % kFailuresPerConnection == 0) NextConnection();
}

/// Also to the same endpoint if there is one only: a stopped process leaves connections that look alive.
void MembershipCore::NextConnection() {
  endpoint_ = (endpoint_ + 1) % options_.endpoints.size();
  DropWatch();
  watch_failures_ = 0;
  call_ = Call::kNone;  // what is under way on the old one may have been done or not: the view will show
  renew_ticket_ = 0;
  Do(action::Connect{endpoint_});
}

std::string MembershipCore::Endpoints() const {
  std::string text;
  for (const std::string& endpoint : options_.endpoints) text += (text.empty() ? "" : ",") + endpoint;
  return text;
}

void MembershipCore::Say(Severity severity, std::string text) { Do(action::Say{severity, std::move(text)}); }

void MembershipCore::SayHowItStands() {
  if (Starting() && !ended_) {
    const bool waits = !reachable_ || (!trouble_.empty() && !holder_since_.has_value());
    if (waits && now_ >= say_at_) {
      Say(Severity::kWarning, "etcd " + Endpoints() + ": " + (reachable_ ? trouble_ : "does not answer: " + cause_) +
                                  (options_.cached.has_value() ? "" : "; there is no cached view to start with") +
                                  "; this node waits and tries again");
    }
    if (now_ >= say_at_) say_at_ = now_ + kSayEvery;
    WakeAt(say_at_);
  }
  action::Contact contact{reachable_ && answered_, endpoint_, answered_at_, trouble_};
  const auto facts = [](const action::Contact& c) { return std::tie(c.reachable, c.endpoint, c.trouble); };
  if (facts(contact) == facts(told_) && (contact.reachable || contact.since == told_.since)) return;
  told_ = contact;
  Do(std::move(contact));
}

// ---- view -----------------------------------------------------------------------------------------------------------
void MembershipCore::Load() {
  Do(action::Range{Ask(Call::kLoad), {ClusterPrefix(options_.cluster), MemberView::kEntriesMax}});
}

void MembershipCore::On(membership_event::Ranged ranged) {
  const Call call = call_;
  if (!Answered(ranged.ticket, ranged.reply.status())) return;
  if (!ranged.reply.ok()) return Rejected(ranged.reply.status());
  if (call == Call::kLoad) {
    view_.Reset(*ranged.reply);
    loaded_ = looked_ = true;
    shown_from_ = 0;  // whatever was written is in it, or lost
    return;
  }
  looked_ = IsOurHistory(*ranged.reply);
  if (!looked_) loaded_ = false;
}

/// An etcd that was wiped or restored counts anew: then nothing that was seen holds. Its revision alone does not tell,
/// it may have grown past ours; but whoever found the history lost has written the record anew, with another base.
bool MembershipCore::IsOurHistory(const KeyValue::RangeReply& look) const {
  if (look.revision < view_.revision() || look.entries.empty() || !view_.cluster().has_value()) return false;
  const KeyValue::Entry& entry = look.entries[0];
  if (entry.key != ClusterKey(options_.cluster) || entry.modified != view_.cluster_modified()) return false;
  const absl::StatusOr<ClusterRecord> record = ParseClusterRecord(entry.value);
  return record.ok() && *record == *view_.cluster();
}

void MembershipCore::OpenWatch() {
  looked_ = false;
  watch_ = ++tickets_;
  sign_at_ = now_;
  asked_sign_at_ = now_;  // the first is due
  shown_until_ = now_ + kWatchSign;
  Do(action::Watch{watch_, ClusterPrefix(options_.cluster), view_.revision() + 1});
}

void MembershipCore::On(membership_event::Changed changed) {
  if (changed.ticket != watch_ || watch_ == 0) return;
  sign_at_ = now_;
  asked_sign_at_.reset();
  watch_failures_ = 0;
  watch_pause_.Reset();
  view_.Apply(changed.changes);
}

void MembershipCore::On(membership_event::WatchEnded ended) {
  if (ended.ticket != watch_ || watch_ == 0) return;
  if (ended.status.code() == absl::StatusCode::kOutOfRange) loaded_ = false;  // compacted: read it all again
  WatchFailed(ended.status);
}

void MembershipCore::WatchFailed(const absl::Status& why) {
  cause_ = std::string(why.message());
  DropWatch();
  watch_retry_at_ = now_ + watch_pause_.Next();
  WakeAt(watch_retry_at_);
  // Renewals may work where watches do not, so that nobody else would change the connection.
  if (++watch_failures_ % kWatchFailuresPerConnection == 0) NextConnection();
}

void MembershipCore::DropWatch() {
  if (watch_ != 0) Do(action::Unwatch{});
  watch_ = 0;
  looked_ = false;
}

/// What is there is not what the view says, and a watch need not show it: a history that was lost has no changes.
void MembershipCore::ReadAnew() {
  DropWatch();
  loaded_ = false;
  retry_at_ = now_ + pause_.Next();
}

void MembershipCore::LookAtWatch() {
  if (watch_ == 0) return;
  if (!asked_sign_at_.has_value() && now_ >= sign_at_ + kWatchQuiet) {
    asked_sign_at_ = now_;
    Do(action::AskForSign{});
  }
  if (!asked_sign_at_.has_value()) return WakeAt(sign_at_ + kWatchQuiet);
  if (now_ < *asked_sign_at_ + kWatchSign) return WakeAt(*asked_sign_at_ + kWatchSign);
  WatchFailed(absl::DeadlineExceededError("the watch gives no sign of life"));
}

void MembershipCore::Publish() {
  if (!ready_ || !loaded_ || !view_.cluster().has_value() || !Ours().ok()) return;
  Membership membership = view_.Current();
  if (membership.epoch <= epoch_) return;
  epoch_ = membership.epoch;
  Do(action::Adopt{std::move(membership)});
}

// ---- the cluster ----------------------------------------------------------------------------------------------------
/// Why the cluster's record is not that of this node's cluster. REQUIRES: there is one.
absl::Status MembershipCore::Ours() const {
  const ClusterRecord& record = *view_.cluster();
  const std::string name = "cluster '" + options_.cluster + "' in etcd " + options_.endpoints[endpoint_];
  if (!cluster_id_.empty() && record.cluster_id != cluster_id_) {
    return absl::FailedPreconditionError("this node's directory belongs to cluster " + cluster_id_ + ", but " + name +
                                         " is " + record.cluster_id +
                                         ". Give it an empty directory, or the name or etcd of its own cluster");
  }
  if (record.run_blocks == options_.run_blocks) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "this node was started with --run-blocks " + std::to_string(options_.run_blocks) + ", but " + name + " has " +
      std::to_string(record.run_blocks) + ", and all its nodes must place alike. Start it with --run-blocks " +
      std::to_string(record.run_blocks));
}

/// True when the record is there and ours, so that this node may be a member.
bool MembershipCore::CheckCluster() {
  if (view_.revision() < shown_from_) return true;  // what we wrote is on its way
  if (view_.cluster_modified() == 0) return WriteCluster(epoch_ > view_.revision() ? epoch_ : 0), false;
  if (!view_.cluster().has_value()) {
    CannotRegister(absl::DataLossError(ClusterKey(options_.cluster) +
                                       " cannot be read; put it right, or delete it, with etcdctl"));
    return false;
  }
  if (absl::Status ours = Ours(); !ours.ok()) return Refuse(std::move(ours)), false;
  const ClusterRecord& record = *view_.cluster();
  if (cluster_id_.empty()) Do(action::Remember{cluster_id_ = record.cluster_id});
  if (epoch_ > record.epoch_base + view_.revision()) return WriteCluster(epoch_), false;  // history was lost
  return true;
}

void MembershipCore::WriteCluster(uint64_t epoch_base) {
  ClusterRecord record{.cluster_id = cluster_id_.empty() ? options_.new_cluster_id : cluster_id_,
                       .run_blocks = options_.run_blocks,
                       .epoch_base = epoch_base};
  const std::string key = ClusterKey(options_.cluster);
  KeyValue::TxnRequest request;
  if (view_.cluster_modified() == 0) request.when = {{key, KeyValue::Condition::Of::kCreation, 0}};
  if (view_.cluster_modified() != 0)
    request.when = {{key, KeyValue::Condition::Of::kLastChange, view_.cluster_modified()}};
  request.puts = {{key, FormatClusterRecord(record), 0}};
  if (epoch_base != 0) {
    Say(Severity::kWarning, "etcd has lost its history (wiped, or restored from a backup): epochs go on from " +
                                std::to_string(epoch_base));
  }
  Do(action::Txn{Ask(Call::kCluster), std::move(request)});
}

void MembershipCore::On(membership_event::Transacted transacted) {
  const Call call = call_;
  if (!Answered(transacted.ticket, transacted.reply.status())) return;
  if (call == Call::kWrite) return Wrote(transacted.reply);
  if (!transacted.reply.ok()) return Rejected(transacted.reply.status());
  if (!transacted.reply->done) return ReadAnew();  // another node was first
  shown_from_ = transacted.reply->revision;
  shown_until_ = now_ + kWatchSign;
}

}  // namespace kvasir
