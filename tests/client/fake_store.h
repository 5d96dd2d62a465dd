// SPDX-License-Identifier: Apache-2.0
// FakeStore: a node small enough to read at once. It keeps what it pulled in a map, never evicts, and does what a test
// tells it to: die, fall silent, hold parts back, damage what it stores.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "store/api/part.h"
#include "store/api/store_api.h"
#include "transport/sync.h"
#include "transport/transport.h"

namespace kvasir::testing {

class FakeStore : public StoreApi {
 public:
  struct Options {
    std::string id = "node-0";
    Membership membership;
    uint32_t run_blocks = 4;
    std::string transport = "loopback";
    std::optional<Namespace> only;        ///< others are refused with FailedPrecondition
    uint64_t memory_bytes = 8u << 20;
    Duration session_ttl = std::chrono::seconds(10);
    Duration lease = std::chrono::seconds(2);
  };
  explicit FakeStore(Options options);
  ~FakeStore() override;

  void Hello(HelloRequest request, Duration deadline, Answer<HelloReply> answer) override;
  void Offer(OfferRequest request, Duration deadline, Answer<OfferReply> answer) override;
  void Acquire(AcquireRequest request, Duration deadline, Answer<AcquireReply> answer) override;
  void Touch(TouchRequest request, Duration deadline, Answer<TouchReply> answer) override;
  void Object(ObjectRequest request, Duration deadline, Answer<ObjectReply> answer) override;
  std::unique_ptr<Watcher> Watch(uint64_t session, OnEvent event, OnEnd end) override;

  // ---- what tests do to it; any thread but its Loop; done when they return ----
  void Kill();                            ///< calls fail, connections and watches end; what it stores stays
  void Revive();
  void Silence(bool silent);              ///< calls are heard and never answered
  void StopAfterAcquire();                ///< as SIGSTOP: the next Acquire is answered, then its Loop stands until Go
  void Go();
  void ForgetSessions();                  ///< the next call in an old session is Aborted
  void HoldOffers(bool hold);             ///< offers wait; released ones go on
  void RefuseOffers(absl::Status status); ///< ok = no more
  void HoldLayersFrom(uint32_t group);    ///< Acquire answers such parts as pending
  void MakeReady(uint32_t layer_group);   ///< of every lease: tells it by Watch
  void EventsFirst(bool first);           ///< pending parts are told ready before the answer to their Acquire
  void IgnoreAccept(bool ignore);         ///< answers in whatever view it has
  void RevokeLeases();
  void Announce(const Membership& membership);
  /// `damage` sees every stored part, whole, and may change its bytes.
  void ForEachPart(const std::function<void(const PartId&, std::span<std::byte>)>& damage);
  /// `damage` sees every object's value and may change it.
  void ForEachObject(const std::function<void(const std::string& name, std::string& value)>& damage);
  /// Forgets the parts for which it answers true.
  void DropParts(const std::function<bool(const PartId&)>& drop);

  struct Seen {
    uint64_t hellos = 0, offers = 0, parts_offered = 0, acquires = 0, touches = 0, releases = 0, renews = 0, keeps = 0, drops = 0;
    uint64_t parts = 0, offers_held = 0, leases = 0;
  };
  Seen seen();
  /// Runs `task` on its Loop and waits.
  void Do(Task task) { thread_.Call(std::move(task)); }

 private:
  struct Stored {
    uint64_t offset = 0, bytes = 0, generation = 0;
    uint32_t frames_offset = 0;
  };
  struct BlockOf {
    std::map<ViewDigest, View> views;
    std::map<PartId, Stored> parts;
  };
  struct Ear;                              // a Watch
  struct PendingPart { uint64_t session, lease; uint32_t block_index; PartId id; };
  struct OfferUnderWay;
  absl::Status Check(uint64_t session) const;
  void StartOffer(const std::shared_ptr<OfferUnderWay>& offer);
  void PullPart(const std::shared_ptr<OfferUnderWay>& offer, size_t index);
  absl::Status Seal(const OfferUnderWay& offer, size_t index, uint64_t at);
  AcquireReply AnswerAcquire(const AcquireRequest& request);
  bool TakeBlock(const AcquireRequest& request, uint32_t index, const BlockKey& key, uint64_t lease, AcquireReply& reply);
  const View* Choose(const AcquireRequest& request, const BlockOf& block) const;
  void Tell(uint64_t session, WatchEvent event);
  void Ready(const PendingPart& part);
  PartGrant Grant(uint64_t session, const PartId& id, const Stored& stored);

  const Options options_;
  LoopThread thread_;
  // All below: its Loop only.
  SharedMemory memory_;
  uint64_t used_ = 0;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<MemoryRegion> region_;
  std::string address_;
  std::map<uint64_t, std::unique_ptr<Connection>> connections_;  // by session
  std::map<uint64_t, Namespace> sessions_;
  uint64_t next_session_ = 1, next_lease_ = 1, generation_ = 0;
  std::set<uint64_t> leases_;
  std::map<BlockKey, BlockOf> blocks_;
  std::map<std::string, ObjectReply> objects_;
  std::vector<PendingPart> pending_;
  std::vector<std::shared_ptr<OfferUnderWay>> held_;
  std::vector<Task> swallowed_;
  bool dead_ = false, silent_ = false, hold_offers_ = false, events_first_ = false, ignore_accept_ = false;
  absl::Status refuse_;
  uint32_t hold_layers_from_ = ~0u;
  bool stop_after_acquire_ = false;
  Mutex stand_mutex_;
  CondVar stand_changed_;
  bool stands_ ABSL_GUARDED_BY(stand_mutex_) = false;
  Seen seen_;
  Mutex ears_mutex_;
  std::map<uint64_t, std::shared_ptr<Ear>> ears_ ABSL_GUARDED_BY(ears_mutex_);
};

}  // namespace kvasir::testing
