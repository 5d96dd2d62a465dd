// SPDX-License-Identifier: Apache-2.0
// MembershipCore: how a node becomes and stays a member of a cluster whose list is in etcd, as a state machine without
// clock, thread or socket: Step(event, now) -> actions.
//
//   connect ─► load all keys ─► watch from there on ─► the cluster's record (made by the first node; must be ours)
//           ─► own id free, or held by this node's earlier life ─► Ready ─ (Register) ─► lease ─► own key ─► Registered
//
// What must hold:
//  * Only the node's own key is written, under its lease; the cluster's record only when it is missing or when etcd
//  lost its
//    history. Every write names the revision it replaces.
//  * Epochs grow, whatever etcd does: a revision is an epoch until etcd loses its history (wiped, restored); then
//  epoch_base
//    lifts those that follow above all that were seen.
//  * Once Registered, or Ready with a cached view, nothing that etcd does or loses ends the node. While etcd is away
//  the
//    members stay as they are.
//  * A watch is trusted only as long as it gives signs of life, a connection as long as it answers in time.
// Time is monotonic and this machine's own: no clock is ever compared with another's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "store/membership/backoff.h"
#include "store/membership/member_view.h"
#include "store/membership/membership_events.h"

namespace kvasir {

struct MembershipOptions {
  std::string cluster = "default";          ///< its name in etcd's keys
  std::vector<std::string> endpoints;       ///< "10.0.0.1:2379", at least one
  Member self;                              ///< its state and epoch are the core's business
  uint32_t run_blocks = 16;                 ///< the same on every node of a cluster
  std::string identity;                     ///< of the node's directory: the same over restarts
  uint64_t incarnation = 0;                 ///< of this process, at random
  std::string cluster_id;                   ///< that the node's directory remembers; "" = none yet
  std::string new_cluster_id;               ///< for a cluster that this node is the first of
  std::optional<Membership> cached;         ///< the last one of an earlier life
  Duration ttl = std::chrono::seconds(10);  ///< of the lease, whole seconds; renewed kRenewalsPerTtl times in it
  uint64_t seed = 1;                        ///< of the jitter
};

class MembershipCore {
 public:
  static constexpr int kRenewalsPerTtl = 5;
  static constexpr Duration kCallMax = std::chrono::seconds(2);  ///< longest a call may take; a renewal's pause if less
  static constexpr Duration kCallMin = std::chrono::milliseconds(500);
  static constexpr int kFailuresPerConnection = 2;  ///< then another one, to the next endpoint
  static constexpr int kWatchFailuresPerConnection = 3;
  static constexpr Duration kPauseFirst = std::chrono::milliseconds(100);  ///< between attempts
  static constexpr Duration kPauseLast = std::chrono::seconds(5);
  static constexpr Duration kWatchQuiet = std::chrono::seconds(10);  ///< then the watch is asked for a sign of life
  static constexpr Duration kWatchSign = std::chrono::seconds(5);    ///< and is given up without one
  static constexpr Duration kHolderMargin =
      std::chrono::seconds(5);  ///< beyond ttl: who still holds our id then is alive
  static constexpr Duration kAnnounceMax = std::chrono::seconds(5);  ///< for an Announce to be shown
  static constexpr Duration kLeaveMax = std::chrono::seconds(3);     ///< for the key to be gone
  static constexpr Duration kCachedAfter = std::chrono::seconds(3);      ///< a start with a cached view waits no longer
  static constexpr Duration kSayFirst = std::chrono::seconds(1);  ///< a start waits so long in silence
  static constexpr Duration kSayEvery = std::chrono::seconds(5);     ///< while a start waits
  static constexpr Duration kNotRegisteredSayEvery = std::chrono::minutes(1);

  explicit MembershipCore(MembershipOptions options);

  std::vector<MembershipAction> Step(MembershipEvent event, Instant now);
  /// When it wants a Tick, unless something else happens before.
  Instant wake() const { return wake_; }
  /// For every call.
  Duration call_deadline() const { return call_deadline_; }

 private:
  enum class Call : uint8_t { kNone, kLoad, kLook, kCluster, kGrant, kWrite, kRevoke };
  /// Whose is what stands under our id?
  enum class Holder : uint8_t { kNobody, kThis, kEarlierLife, kLaterLife, kStranger };
  struct Asked {
    uint64_t id;
    MemberState state;
    Instant until;
  };

  // membership_core.cc: connection, view, cluster
  void On(membership_event::Begin);
  void On(membership_event::Register) { registering_ = true; }
  void On(membership_event::Announce announce);
  void On(membership_event::Leave);
  void On(membership_event::Tick) {}
  void On(membership_event::Ranged ranged);
  void On(membership_event::Transacted transacted);
  void On(membership_event::Granted granted);
  void On(membership_event::Renewed renewed);
  void On(membership_event::Revoked revoked);
  void On(membership_event::Changed changed);
  void On(membership_event::WatchEnded ended);

  void Advance();
  void Load();
  void OpenWatch();
  void LookAtWatch();
  void ReadAnew();
  bool IsOurHistory(const KeyValue::RangeReply& look) const;
  void DropWatch();
  void WatchFailed(const absl::Status& why);
  bool CheckCluster();
  absl::Status Ours() const;
  void WriteCluster(uint64_t epoch_base);
  void Publish();
  bool Answered(uint64_t ticket, const absl::Status& status);
  bool Heard(const absl::Status& status);
  void Failed(const absl::Status& status);
  void NextConnection();
  void Say(Severity severity, std::string text);
  void SayHowItStands();

  // membership_claim.cc: this node's own key
  void AdvanceClaim();
  void Hold();
  Holder Judge(const MemberView::Key* own) const;
  void Claim(const MemberView::Key* own);
  void Conflict(const MemberView::Key& own);
  void Write(uint64_t replaces);
  void Wrote(const absl::StatusOr<KeyValue::TxnReply>& reply);
  void RenewIfDue();
  void BecomeReady(Membership membership, bool cached);
  void StartWithoutEtcd();
  void Rejected(const absl::Status& why);
  void Refuse(absl::Status why);
  void CannotRegister(const absl::Status& why);
  void AdvanceLeave();
  void EndAnnounces(const absl::Status& status);
  void ExpireAnnounces();

  /// Nobody relies on this node yet: what cannot be right may end it.
  bool Starting() const { return !registered_ && !cached_; }
  /// Every endpoint has been tried, and tried again.
  bool EtcdIsGone() const { return failures_ >= kFailuresPerConnection * static_cast<int>(options_.endpoints.size()); }
  template <class Action>
  void Do(Action action) {
    actions_.emplace_back(std::move(action));
  }
  void WakeAt(Instant when) { wake_ = std::min(wake_, when); }
  uint64_t Ask(Call call) {
    call_ = call;
    return call_ticket_ = ++tickets_;
  }
  std::string Endpoints() const;

  const MembershipOptions options_;
  const Duration renew_every_, call_deadline_;
  std::vector<MembershipAction> actions_;  // of the Step under way
  Instant now_{}, wake_ = Instant::max();
  uint64_t tickets_ = 0;
  bool ended_ = false;

  // ---- connection: one call at a time, and a renewal beside it
  size_t endpoint_ = 0;
  Call call_ = Call::kNone;
  uint64_t call_ticket_ = 0, renew_ticket_ = 0;  // 0 = none is under way
  int failures_ = 0;                             // since the last answer
  bool answered_ = false;                        // ever
  bool reachable_ = true;
  Instant answered_at_{}, retry_at_{}, say_at_{};
  Backoff pause_, watch_pause_;
  std::string cause_;    // of the last failure
  std::string trouble_;  // why this node is not registered, although etcd answers
  membership_action::Contact told_;

  // ---- view
  MemberView view_;
  bool loaded_ = false;  // the view is one revision's
  bool looked_ = false;  // etcd's history goes on from the view's revision: a watch may begin there
  uint64_t watch_ = 0;   // ticket, 0 = none
  int watch_failures_ = 0;
  Instant watch_retry_at_{}, sign_at_{};
  std::optional<Instant> asked_sign_at_;
  std::string cluster_id_;
  uint64_t epoch_ = 0;  // of the last membership that was told, or cached

  // ---- own key
  bool ready_ = false, cached_ = false, registering_ = false, registered_ = false, leaving_ = false;
  int64_t lease_ = 0;
  Instant renew_at_{}, leave_until_{};
  uint64_t held_ = 0;  // revision of our last write, while we believe it stands
  bool ever_held_ = false;
  uint64_t shown_from_ = 0;  // the view must have come so far before it says anything about what we wrote
  Instant shown_until_{};
  MemberState wanted_ = MemberState::kJoining, written_ = MemberState::kJoining, writing_ = MemberState::kJoining;
  std::optional<Instant> holder_since_;
  std::vector<Asked> announces_;
};

}  // namespace kvasir
