// SPDX-License-Identifier: Apache-2.0
// NodeImpl: behind Node. Private to store/.
#pragma once

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "store/counters.h"
#include "store/names.h"
#include "store/node.h"
#include "store/objects.h"
#include "store/shard.h"
#include "store/worker_pool.h"
#include "transport/sync.h"

namespace kvasir {

class NodeImpl : public Node {
 public:
  static constexpr Duration kSweep = std::chrono::milliseconds(500);       ///< how often sessions are looked over
  static constexpr uint64_t kObjectsShare = 16;  ///< objects may have dram_bytes over this, beside the memory tier
  static constexpr size_t kUnheardMax = 256;  ///< events kept for a session whose Watch is still on its way
  static constexpr Duration kDrainLook = std::chrono::milliseconds(20);    ///< how often Drain looks how far it is
  static constexpr Duration kProbeEvery = std::chrono::milliseconds(200);
  static constexpr size_t kProbedMax = 16;    ///< peers a node probes
  static constexpr Duration kProbeDeadline = std::chrono::seconds(1);
  static constexpr Duration kSilentAfter = std::chrono::seconds(2);

  static absl::StatusOr<std::unique_ptr<Node>> Start(NodeOptions options);
  ~NodeImpl() override;

  void Hello(HelloRequest request, Duration deadline, Answer<HelloReply> answer) override;
  void Offer(OfferRequest request, Duration deadline, Answer<OfferReply> answer) override;
  void Acquire(AcquireRequest request, Duration deadline, Answer<AcquireReply> answer) override;
  void Touch(TouchRequest request, Duration deadline, Answer<TouchReply> answer) override;
  void Object(ObjectRequest request, Duration deadline, Answer<ObjectReply> answer) override;
  std::unique_ptr<Watcher> Watch(uint64_t session, OnEvent event, OnEnd end) override;

  void Status(Answer<NodeStatus> answer) override;
  void List(ListRequest request, Answer<ListReply> answer) override;
  void Drain(Duration wait, Answer<NodeStatus> answer) override;
  void Cordon(bool cordoned, Answer<NodeStatus> answer) override;

  void Probe(ProbeRequest request, Duration deadline, Answer<ProbeReply> answer) override;
  void Inventory(InventoryRequest request, Duration deadline, Answer<InventoryReply> answer) override;
  void Suggest(SuggestRequest request, Duration deadline, Answer<SuggestReply> answer) override;

  const NodeOptions& options() const override { return options_; }
  void Adopt(Membership membership) override;
  Membership membership() const override;
  MemberState state() const override { return state_; }
  std::vector<DataAddress> DataAddresses() const override;
  std::vector<std::pair<std::string, uint64_t>> Counters() const override { return counters_.Snapshot(); }
  NodeNumbers Numbers() const override;
  std::vector<std::pair<std::string, std::string>> Features() const override;
  const Meters& meters() const override { return meters_; }
  NodeHealth& health() override { return health_; }

 private:
  /// Shared by a session and its Watcher; the mutex is held while events are given, so that the Watcher's destructor waits
  /// for the one under way.
  struct Listener {
    Mutex mutex;
    OnEvent event ABSL_GUARDED_BY(mutex);
    OnEnd end ABSL_GUARDED_BY(mutex);
  };
  struct SessionEntry {
    DomainId domain;
    Namespace ns;
    bool peer = false;                ///< another node
    Instant seen{};
    std::shared_ptr<Listener> watcher;
    bool watched = false;             ///< a Watch has come: what is said without one from now on is nobody's
    std::vector<WatchEvent> unheard;  ///< said before it came, at most kUnheardMax
  };
  class WatcherImpl;

  explicit NodeImpl(NodeOptions options);
  ShardOptions OptionsOfShard(uint32_t i, uint64_t generation);
  absl::Status StartParts();
  void Recover(SsdTier::Recovered recovered);
  void OpenSession(HelloRequest request, std::string warning, Answer<HelloReply> answer);
  /// Counts and times a call's answer on its way out.
  template <class T>
  Answer<T> Measured(StoreCall call, Answer<T> answer) {
    return [this, call, begun = std::chrono::steady_clock::now(), answer = std::move(answer)](absl::StatusOr<T> reply) mutable {
      meters_.Answered(call, reply.status(), std::chrono::steady_clock::now() - begun);
      answer(std::move(reply));
    };
  }
  absl::Status Admit(uint64_t session, uint64_t epoch, uint32_t shard);
  bool TakesBlocks() const { return state_ == MemberState::kServing || state_ == MemberState::kJoining; }
  void Announce(MemberState state, absl::AnyInvocable<void(absl::Status)> done);
  void SweepSessions();
  void Notify(uint64_t session, WatchEvent event);
  void Unwatch(uint64_t session, const std::shared_ptr<Listener>& listener);
  // Peers (node_peers.cc)
  /// What another shard has said of taking over from one of ours.
  struct Taker {
    uint64_t epoch = 0;
    uint64_t wanted_bytes = 0, got_bytes = 0;
    bool done = false;
  };
  struct Seen {
    std::shared_ptr<PeerApi> peer;
    std::string control;
    Instant first{}, answered{};   // first: when it was first asked
    bool asking = false;
    ProbeReply last;
  };
  void Remember(const Membership& membership) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ShardSettled(uint32_t shard, uint64_t epoch);
  void BeServing(uint64_t epoch);
  void TakerSaid(const InventoryRequest& request);
  MoveStatus HandingOver() const;
  std::vector<PeerStatus> PeersSeen() const;
  bool Silent(const std::string& id, Instant now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CoolSurplus();
  void ProbePeers();
  static TierStatus SsdTierStatus(const SsdStatus& ssd);
  void LookDrained(Instant until, Answer<NodeStatus> answer);
  // node_vitals.cc
  void AddVitals();
  void AddSsdVitals();
  void JudgeHealth();
  static std::string NewSecret();

  const NodeOptions options_;
  const uint64_t incarnation_;
  const Instant started_;
  class Counters counters_;
  Meters meters_;
  NodeHealth health_;
  std::atomic<MemberState> state_;
  std::atomic<uint64_t> epoch_;  // this node's own
  std::unique_ptr<SsdTier> ssd_;
  std::unique_ptr<Names> names_;
  std::unique_ptr<Objects> objects_;
  std::unique_ptr<WorkerPool> workers_;
  std::vector<std::unique_ptr<Shard>> shards_;
  mutable Mutex mutex_;
  Membership membership_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<const Membership> in_force_ ABSL_GUARDED_BY(mutex_);  // membership_, for placing without the lock
  std::vector<uint64_t> settled_ ABSL_GUARDED_BY(mutex_);                            // epoch, by shard
  std::map<std::tuple<std::string, uint32_t, uint32_t>, Taker> takers_ ABSL_GUARDED_BY(mutex_);  // member, its shard, ours
  uint64_t cooled_epoch_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, Seen> seen_ ABSL_GUARDED_BY(mutex_);                          // by member
  std::atomic<bool> drained_{false};
  absl::flat_hash_map<uint64_t, SessionEntry> sessions_ ABSL_GUARDED_BY(mutex_);
  std::atomic<size_t> session_count_{0};     // mirror of sessions_.size(), readable without the lock
  std::atomic<uint32_t> shards_recovering_{0};
  bool stopping_ = false;  // keeper's
  bool judging_ = true;    // judge's
  std::shared_ptr<Mailbox> mailbox_;  // of the keeper
  LoopThread keeper_;  // the last two: their threads end first
  LoopThread judge_;
};

}  // namespace kvasir
