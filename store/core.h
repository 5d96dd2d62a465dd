// SPDX-License-Identifier: Apache-2.0
// ShardCore: everything one shard of a node decides. No clock, thread, memory, disk or socket inside: step(event, now) ->
// actions. The shell (shard.cc) and the simulator carry the actions out and report back as events.
//
//   Offer:   reserve -> Pull -> Verify -> [Persist] -> publish -> answer        core_offer.cc
//   Acquire: longest prefix -> pin -> lease -> answer; cold parts -> Promote    core_acquire.cc
//   Room:    cold blocks leave DRAM, to the SSD where there is one              core_room.cc
//   Cluster: what others should hold, what is hot, what is damaged              core_cluster.cc
//
// Publishing is one assignment (Part::coming = false): before it no reader can see the part, after it the bytes never
// change. All methods on the shard's Loop.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "store/counters.h"
#include "store/events.h"
#include "store/index.h"

namespace kvasir {

struct CoreOptions {
  uint32_t shard = 0;
  ExtentOptions extents;
  bool ssd = false;
  uint32_t ssd_planes = 0;       ///< planes of a cell that are written to the SSD when DRAM is needed; 0 = all
  Duration lease = std::chrono::seconds(2);
  Duration unfinished_ttl = std::chrono::seconds(60);
  Duration keep_max = std::chrono::minutes(10);
  double demote_above = 0.75;
  uint32_t run_blocks = 16;
  double hot_reads_per_s = 100;  ///< of a run on one node: more, and others are asked to hold it too; 0 = never
  uint32_t hot_spread_max = 8;   ///< nodes
};

class ShardCore {
 public:
  static constexpr size_t kOffersMax = 4096;         ///< calls in progress; more are refused
  static constexpr size_t kLeasesMax = 65536;
  static constexpr size_t kWaitingMax = 65536;       ///< parts waiting for room that is being made
  static constexpr uint32_t kVictimScan = 256;       ///< blocks looked at for one reservation
  static constexpr uint32_t kDemotionsMax = 64;      ///< disk writes under way to make room
  static constexpr Duration kDemotionPause = std::chrono::seconds(1);  ///< after the SSD refused one
  static constexpr double kLeaseMargin = 1.01;       ///< clocks drift: the owner holds a lease this much longer,
  static constexpr Duration kLeaseSlack = std::chrono::milliseconds(10);  ///< and this
  static constexpr uint64_t kInventoryBytesMax = 64ull << 20;  ///< of blocks in one page
  static constexpr double kColdAgain = 0.25;         ///< of hot_reads_per_s: then a spread is forgotten
  static constexpr Duration kHotPause = std::chrono::seconds(1);  ///< between two calls for help with one run

  ShardCore(const CoreOptions& options, Counters& counters);

  /// Appends to `actions`; they are carried out in order.
  void Step(Event event, Instant now, std::vector<Action>& actions);
  /// Step(Tick) is wanted at this time at the latest; Instant::max() = never.
  Instant NextTick() const;

  // For peers, between steps.
  /// Whole blocks of the runs that `wants` names, from behind the cursor on: at most `runs` runs looked at.
  using Wants = std::function<bool(const BlockKey& run, uint32_t replicas)>;
  InventoryReply Inventory(const std::string& after, uint32_t runs, const Wants& wants) const;
  /// Runs that this node holds and `owns` says are not its own.
  std::vector<std::pair<DomainId, BlockKey>> Surplus(const Wants& owns) const;
  uint64_t runs() const { return index_.runs(); }
  /// True when the block's first `planes` planes in this view are here with all their parts; with `durable`, plane 0 on
  /// the SSD.
  bool HoldsWhole(const DomainId& domain, const BlockKey& key, const ViewDigest& view, uint32_t planes,
                  bool durable) const;
  bool has_working_ssd() const { return ssd_writable_; }

  // For Admin, between steps.
  std::vector<BlockInfo> List(const ListRequest& request, Instant now) const;
  uint64_t blocks() const { return index_.blocks(); }
  uint64_t parts() const { return index_.sums().parts; }
  uint64_t dram_parts() const { return index_.sums().dram_parts; }
  uint64_t leases() const { return leases_.size(); }
  const Extents& extents() const { return extents_; }
  uint64_t live_bytes() const { return index_.sums().dram_bytes; }
  const Index& index() const { return index_; }
  /// Since when new blocks are refused for want of room, and would be still; Instant::max() = they are not.
  Instant refused_since() const { return refused_since_; }

 private:
  struct SessionInfo {
    uint32_t domain = 0, ns = 0;
    bool peer = false;
    absl::flat_hash_set<uint64_t> leases;
  };
  struct Offer {
    uint64_t session = 0;
    Instant deadline;
    OfferRequest request;
    std::vector<uint32_t> views;  // request.views by our numbers
    OfferReply reply;
    size_t open = 0;              // parts not answered yet
    std::vector<bool> answered;
  };
  struct Lease {
    uint64_t session = 0;
    Instant expires;
    std::vector<ExtentRef> pinned;
    bool closing = false;
    Instant wants_cold_until{};   // what waits for room later than this is read for nobody
  };
  /// A part by its place in the index.
  struct PartAt {
    BlockId block;
    uint32_t view = 0;
    uint16_t layer_group = 0, head_group = 0, plane = 0;
    uint32_t block_index = 0;     // for telling a lease
  };
  struct OfferWaiter { uint64_t call = 0; uint32_t index = 0; bool joined = false; };
  struct LeaseWaiter { uint64_t lease = 0; };
  enum class Work : uint8_t { kPull, kPersist, kPromote };
  /// What is under way with one extent; at most one thing is.
  struct Flight {
    ExtentRef extent;
    Work work = Work::kPull;
    PartAt part;
    std::string root;
    uint64_t generation = 0;      // stamped in what is pulled; 0 from a writer
    bool durable = false;         // the strongest ack any waiter asked
    bool demotion = false;
    Instant begun{};
    std::vector<OfferWaiter> offers;
    std::vector<LeaseWaiter> leases;
  };
  struct Waiting {                // for room
    PartAt part;
    OfferWaiter offer;            // call 0: a promotion, for
    uint64_t lease = 0;           // this lease
  };
  enum class Due : uint8_t { kOffer, kLease, kUnfinished };
  struct Timer {
    Instant when;
    Due due;
    uint64_t id = 0;
    friend auto operator<=>(const Timer&, const Timer&) = default;
  };

  // Offer (core_offer.cc)
  void On(event::OfferArrived& e);
  absl::Status CheckOffer(const OfferRequest& request, const SessionInfo& session) const;
  void StartPart(uint64_t call, uint32_t index);
  void StartPull(Offer& offer, uint64_t call, uint32_t index, const PartAt& at, ExtentRef extent);
  void JoinOrUpgrade(Part& part, const PartAt& at, OfferWaiter waiter, bool durable);
  void On(event::PullDone& e);
  void On(event::PullReleased& e);
  void On(event::VerifyDone& e);
  void On(event::PersistDone& e);
  void Publish(Flight& flight);
  void FailFlight(Flight flight, const absl::Status& status);
  void AnswerPart(uint64_t call, uint32_t index, absl::Status status);
  void FinishOffer(uint64_t call);

  // Acquire (core_acquire.cc)
  void On(event::AcquireArrived& e);
  absl::Status CheckAcquire(const AcquireRequest& request, const SessionInfo& session) const;
  const BlockView* Choose(const Block& block, const AcquireRequest& request) const;
  bool Holds(const BlockView& view, const AcquireRequest& request) const;
  void LeaseBlock(const AcquireRequest& request, uint64_t lease_id, Block& block, BlockView& view,
                  action::AnswerAcquire& answer, std::vector<PartAt>* cold);
  PartGrant LeasePart(uint64_t lease_id, const PartAt& at, const Part& part, action::AnswerAcquire& answer,
                      std::vector<PartAt>* cold);
  void StartPromote(const PartAt& at, uint64_t lease_id);
  void PromoteWaiting(const PartAt& at, uint64_t lease_id);
  void PromoteInto(const PartAt& at, uint64_t lease_id);
  void On(event::PromoteDone& e);
  void On(event::TouchArrived& e);
  void On(event::LeaseQuiet& e);
  void CloseLease(uint64_t lease_id, bool told);
  Instant LeaseEnd() const;
  void TellLease(uint64_t lease_id, const PartAt& at, absl::Status status);

  // Room (core_room.cc)
  bool Reserve(uint32_t domain, uint64_t bytes, uint32_t plane, ExtentRef* extent);
  bool MakeRoom(uint32_t domain, uint64_t bytes, uint32_t plane, ExtentRef* extent);
  bool TryReserve(uint32_t domain, uint64_t bytes, uint32_t plane, ExtentRef* extent);
  bool CanDemote() const { return ssd_writable_ && now_ >= demote_after_; }
  void Refused();
  void LookForRoom();
  bool Evictable(const Block& block) const;
  bool Evictable(const Part& part) const;
  bool EvictBlock(Block& block);
  bool EvictPlane(Block& block);
  bool EvictPart(Block& block, const PartAt& at, Part& part);
  void StartPersist(Block& block, const PartAt& at, Part& part, bool demotion);
  void DemotionDone(const Flight& flight, Part& part, bool saved);
  void Balance();
  void Settle();
  void ReleaseExtent(Block& block, const PartAt& at, Part& part);
  void ForgetUpperPlanes(Block& block, const PartAt& base);
  void ForgetPart(Block& block, Part& part, const PartAt& at);
  void DropUnfinished(const BlockId& id);

  // Cluster (core_cluster.cc)
  void AddBlocks(const Run& run, InventoryReply& reply, std::map<uint32_t, uint32_t> (&tables)[3]) const;
  uint32_t NoteRead(uint32_t domain, const BlockKey& run, bool client);
  void TellMissed(const SessionInfo& session, const AcquiredRun& run, uint32_t held);
  void Suspect(uint32_t domain, const DamagedPart& damaged);
  void On(event::RecheckDone& e);
  void On(event::Settling& e) { settling_ = e.on; }
  void On(event::RunSpread& e);
  void On(event::RunsMoved& e);

  // Sessions, recovery, time (core.cc)
  void On(event::SessionOpened& e);
  void On(event::SessionClosed& e);
  void On(event::SsdFound& e);
  void On(event::SsdEvicted& e);
  void On(event::Tick&) { LookForRoom(); }
  void RunTimers();
  void At(Instant when, Due due, uint64_t id) { timers_.insert({when, due, id}); }
  uint32_t DomainNumber(const DomainId& id);
  uint32_t NamespaceNumber(const Namespace& ns);
  uint32_t ViewNumber(const View& view);
  BlockView& MakeView(Block& block, uint32_t view);
  Part* PartOf(const PartAt& at, Block** block);
  static PartAt PlaceOf(const BlockId& block, const BlockView& view, size_t part);
  PartId IdOfPart(const PartAt& at) const;
  PartClaim ClaimOf(const Block& block, const PartAt& at, uint64_t generation) const;
  SlabRange RangeOf(ExtentRef extent) const;
  Flight* FlightOf(ExtentRef extent);
  void Do(Action action) { actions_->push_back(std::move(action)); }

  const CoreOptions options_;
  Counters& counters_;
  Extents extents_;
  Index index_;
  std::vector<DomainId> domains_;
  std::vector<Namespace> namespaces_;
  std::vector<NamespaceDigest> namespace_digests_;
  std::vector<View> views_;
  std::vector<ViewDigest> view_digests_;
  absl::flat_hash_map<DomainId, uint32_t> domain_numbers_;
  absl::flat_hash_map<NamespaceDigest, uint32_t> namespace_numbers_;
  absl::flat_hash_map<ViewDigest, uint32_t> view_numbers_;
  absl::flat_hash_map<uint64_t, SessionInfo> sessions_;
  absl::flat_hash_map<uint64_t, Offer> offers_;
  absl::flat_hash_map<uint64_t, Lease> leases_;
  absl::flat_hash_map<uint32_t, Flight> flights_;   // by extent slot
  absl::flat_hash_map<uint64_t, BlockId> unfinished_;  // by timer id
  std::deque<Waiting> waiting_;
  absl::btree_set<Timer> timers_;
  uint64_t next_lease_ = 1;
  uint64_t next_unfinished_ = 1;
  uint32_t demotions_ = 0;
  uint32_t disk_writes_ = 0;       // demotions and DURABLE ones under way: each leaves room that may be taken
  uint64_t demoting_bytes_ = 0;
  bool ssd_writable_;
  bool settling_ = false;
  absl::flat_hash_map<uint32_t, std::pair<ExtentRef, PartAt>> rechecks_;  // by extent slot; they pin
  absl::flat_hash_map<RunId, Instant> hot_asked_;  // when help was last called for
  Instant demote_after_{};      // the SSD refused: until then cold blocks are dropped instead
  Instant refused_since_ = Instant::max();
  uint64_t refused_at_ = 0;     // bytes in use at the last refusal

  // Of the step in hand.
  Instant now_{};
  std::vector<Action>* actions_ = nullptr;
};

}  // namespace kvasir
