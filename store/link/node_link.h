// SPDX-License-Identifier: Apache-2.0
// NodeLink: everything an asker has with one node: its calls, the session there, a data connection per shard.
//
//   down --Path()--> greeting --Hello answered--> up --Aborted--> down          (the next Path() greets anew)
//                       |                          |--Unavailable, silence-->  paused, for retry_pause
//                       '--------- refused ------------------------------>  paused
//
// While up, a Watch stream is open and the session is renewed well inside its ttl. Losing the session, the Watch or a data
// connection takes the whole link down: leases are told, connections closed, whoever waits for a path is answered.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "store/api/store_api.h"
#include "store/link/link_desk.h"
#include "transport/transport.h"

namespace kvasir {

class NodeLink;

/// An open way to one shard: calls in a session, pulls on a connection. Shared by what uses it; once down it stays down
/// and a new one is asked for.
struct Path {
  NodeLink* link = nullptr;
  uint32_t shard = 0;
  uint64_t session = 0;
  uint64_t scope = 0;                      ///< of grants that this node may read
  Transport* transport = nullptr;
  std::unique_ptr<Connection> connection;  ///< null once down
  bool up() const { return connection != nullptr; }
};

/// The Loop only. Lives as long as whoever asks.
class NodeLink {
 public:
  using GotPath = absl::AnyInvocable<void(absl::StatusOr<std::shared_ptr<Path>>)>;
  using OnLease = std::function<void(const WatchEvent&)>;
  struct Hooks {
    std::function<void(const HelloReply&)> greeted;
    std::function<void(Membership)> membership;
    std::function<void(const std::string& id, uint64_t epoch)> epoch;  ///< ours was stale: this is the node's
  };
  static constexpr size_t kEarlyEventsMax = 4096;  ///< PartsReady that came before the answer to their Acquire
  static constexpr Duration kRenewalMin = std::chrono::milliseconds(10);
  static constexpr Duration kLatencyHalf = std::chrono::seconds(5);
  static constexpr Duration kProbeMin = std::chrono::milliseconds(20);  ///< from a failure to the next dial

  /// `id` is "" until the first Hello tells it (a seed address); afterwards another id is refused.
  NodeLink(LinkDesk& desk, std::string id, std::string control, Hooks hooks);
  const std::string& id() const { return id_; }
  /// It failed less than retry_pause ago: no target of a push, and the last to be read from.
  bool paused() const { return desk_.loop.Now() < paused_until_; }
  bool up() const { return session_ != 0; }
  /// How long Acquires took there lately: half of what a slower one adds counts at once, an eighth of what a faster one saves, and
  /// it halves every kLatencyHalf, so that one who is avoided is tried again. 0 = nothing is known.
  Duration latency() const;
  /// Only while a member: a node that left is not kept alive for the asker's sake.
  void set_member(bool member) { member_ = member; }

  /// While it is paused: fail at once, or see whether it is back.
  enum class WhilePaused : uint8_t { kFail, kTry };

  /// The session there, greeted at need. Once, now or later; ends within two call_deadlines.
  void Greet(absl::AnyInvocable<void(absl::Status)> done, WhilePaused paused = WhilePaused::kFail);
  /// A path that is up. Once, now or later.
  void PathTo(uint32_t shard, GotPath done, WhilePaused paused = WhilePaused::kFail);

  // Calls in the session of `path`. The answer tells the link what it says about the node's health.
  void Offer(const std::shared_ptr<Path>& path, OfferRequest request, Instant deadline,
             absl::AnyInvocable<void(absl::StatusOr<OfferReply>)> done);
  void Acquire(const std::shared_ptr<Path>& path, AcquireRequest request, Instant deadline,
               absl::AnyInvocable<void(absl::StatusOr<AcquireReply>)> done);
  /// In the session of a link that is up. What a put answers says nothing of the session: Aborted is another version there.
  void Object(ObjectRequest request, Instant deadline, absl::AnyInvocable<void(absl::StatusOr<ObjectReply>)> done);
  void Renew(uint32_t shard, uint64_t lease, absl::AnyInvocable<void(bool gone)> done);
  /// Batched: leaves with the next turn of the Loop. Nothing is done about a lost one.
  void Release(uint32_t shard, uint64_t lease);
  /// Bytes of the node's that failed their checks here: it looks at its own copy. A lost one is harmless.
  void ReportDamage(uint32_t shard, DamagedPart part);
  void Wish(uint32_t shard, std::vector<BlockKey> keep, Duration keep_for, std::vector<BlockKey> drop);

  /// Events of one lease; those that came early are told at once. LeaseRevoked is told too when the link goes down.
  void Listen(uint64_t lease, OnLease listener);
  void Unlisten(uint64_t lease) { leases_.erase(lease); }

  /// The node is not what it should be: everything closes; it is paused.
  void Fail(const absl::Status& why);
  /// Closes everything; the next use greets anew. Idempotent.
  void Drop(const absl::Status& why);

 private:
  struct ShardState {
    std::shared_ptr<Path> path;
    bool connecting = false;
    std::vector<GotPath> waiting;
    std::vector<uint64_t> releases;
  };
  void SayHello();
  void Greeted(absl::StatusOr<HelloReply> reply);
  void StartWatch();
  void Connect(uint32_t shard);
  void TryAddress(uint32_t shard, size_t candidate, std::string reasons);
  void Connected(uint32_t shard, uint64_t scope, Transport* transport, std::unique_ptr<Connection> connection);
  void AnswerPaths(uint32_t shard, const absl::StatusOr<std::shared_ptr<Path>>& answer);
  void OnEvent(WatchEvent event);
  void ScheduleRenewal();
  void Renewal();
  void Touch(TouchRequest request, absl::AnyInvocable<void(absl::StatusOr<TouchReply>)> done);
  void FlushReleases();
  /// Whether silence until then says something about the node.
  bool Patient(Instant deadline) const;
  /// What the status of a call says about the node: nothing, a stale session, or that it is gone.
  void Judge(const absl::Status& status, bool patient);
  void NoteLatency(Instant asked);
  Instant CallDeadline() const { return desk_.loop.Now() + desk_.call_deadline; }

  LinkDesk& desk_;
  std::string id_;
  const std::string control_;
  const Hooks hooks_;
  std::shared_ptr<StoreApi> api_;  // shared: the dialler may keep one client for many Sessions
  bool member_ = true;
  bool greeting_ = false;
  uint64_t life_ = 0;  // counts Drops: what an earlier life started is ignored
  Instant failed_at_{}, paused_until_{};
  absl::Status last_failure_;
  uint64_t session_ = 0;
  HelloReply hello_;
  std::unique_ptr<StoreApi::Watcher> watcher_;
  Loop::TimerId renewal_ = 0;
  bool renewing_ = false;
  bool flush_posted_ = false;
  std::vector<absl::AnyInvocable<void(absl::Status)>> greeted_waiting_;
  absl::flat_hash_map<uint32_t, ShardState> shards_;
  absl::flat_hash_map<uint64_t, OnLease> leases_;
  uint32_t acquires_under_way_ = 0;
  Duration latency_{};                     // at latency_at_
  Instant latency_at_{};
  std::vector<PartsReady> early_;  // kept only while an Acquire is under way
};

}  // namespace kvasir
