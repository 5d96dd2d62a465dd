// SPDX-License-Identifier: Apache-2.0
// Gatherer: how a shard comes by what it should hold and does not: after the membership changed, after a copy was lost or
// found damaged, where a reader missed, and where a peer asks for help with a hot run. Receiver driven, as every move here:
//
//   Inventory of each other shard --what is not held--> batches --Acquire there, pull, verify--> sealed here
//
// A batch is an Acquire at the holder and an Offer to our own core, whose pull goes over the connection to the holder: one
// path for bytes from writers and from peers. Taking over is bounded in bytes a second; what a reader waits for is not.
// When every other shard has answered all, or is silent, the shard is settled for that membership, and tells them so.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "store/counters.h"
#include "store/events.h"
#include "store/link/lease.h"
#include "store/node.h"

namespace kvasir {

struct GathererOptions {
  std::string id;                ///< of this node
  uint32_t shard = 0;            ///< of this node
  uint64_t bytes_per_s = 250ull << 20;
  std::vector<std::string> transports;
  std::function<PeerClient(const std::string& control)> dial;  ///< empty = nothing is ever asked
};

/// What the shard does for it. All on the shard's Loop.
struct GathererHost {
  Loop& loop;
  std::shared_ptr<Mailbox> mailbox;
  Counters& counters;
  std::function<Transport*(const std::string& name)> transport;
  /// A session of our own core whose pulls go over `path`.
  std::function<void(uint64_t session, const DomainId&, const Namespace&, std::shared_ptr<Path>)> open;
  std::function<void(uint64_t session)> close;
  std::function<void(OfferRequest, Answer<OfferReply>)> offer;
  std::function<bool(const InventoryBlock&, const DomainId&, const ViewDigest&)> holds;
  /// Makes the node know a namespace and views before parts come that need them; `done` on the Loop.
  std::function<void(const DomainId&, const Namespace&, const std::vector<View>&, std::function<void(absl::Status)> done)> learn;
  LogSink log;
  std::function<void(uint64_t epoch)> settled;  ///< told once an epoch
};

/// The shard's Loop only.
class Gatherer {
 public:
  static constexpr uint32_t kRunsPerPage = 1024;
  static constexpr uint64_t kBatchBytes = 16ull << 20;
  static constexpr size_t kBatchBlocks = 64;
  static constexpr uint32_t kBatchesMax = 8;              ///< under way at once
  static constexpr Duration kBatchDeadline = std::chrono::seconds(30);
  static constexpr uint32_t kBatchTries = 6;              ///< a batch that failed for a passing reason is begun again
  static constexpr Duration kBatchPause = std::chrono::milliseconds(300);
  static constexpr Duration kCallDeadline = std::chrono::seconds(2);
  static constexpr Duration kSilentAfter = std::chrono::seconds(3);   ///< a source that fails so long is not waited for
  static constexpr Duration kRetryMin = std::chrono::milliseconds(100), kRetryMax = std::chrono::seconds(5);
  static constexpr size_t kWantsMax = 4096;               ///< runs that readers missed
  static constexpr size_t kSuggestedMax = 4096;           ///< blocks that peers asked us to hold

  Gatherer(GathererOptions options, GathererHost host);
  ~Gatherer();

  /// Begins to gather for it, from the start.
  void Adopt(const Membership& membership);
  /// A reader missed blocks that we should hold: whoever holds them is asked at once, once for all that ask meanwhile.
  void Want(action::Missed missed);
  /// A peer's hot runs. Answers how many runs it will get.
  uint32_t Suggested(const SuggestRequest& request);
  /// Closes links; nothing is asked or told afterwards.
  void Stop();

  bool settled() const { return settled_; }
  MoveStatus status() const;

 private:
  struct Source;
  struct Batch;
  /// Links to members in one (domain, namespace): a session is about one.
  struct Asker {
    LinkDesk desk;
    DomainId domain;
    Namespace ns;
    std::map<std::string, std::unique_ptr<NodeLink>> links;  // by id and address
  };
  struct Wanted {
    action::Missed missed;
    std::vector<Placed> owners;
    size_t next = 0;
    bool filled = false;  // an owner had blocks of it
  };

  // What to ask (gatherer.cc)
  void Ask(const std::shared_ptr<Source>& source);
  void Answered(const std::shared_ptr<Source>& source, absl::StatusOr<InventoryReply> reply);
  void Retry(const std::shared_ptr<Source>& source, const absl::Status& why);
  void TakePage(Source& source, InventoryReply& reply);
  void Advance(const std::shared_ptr<Source>& source);
  void LookSettled();
  void TellDone(const std::shared_ptr<Source>& source);
  void NextOwner(std::shared_ptr<Wanted> wanted);
  std::shared_ptr<PeerApi> PeerOf(const Member& member);

  // Getting it (gatherer_batch.cc)
  void Enqueue(std::shared_ptr<Batch> batch, bool urgent);
  void Pump();
  void Begin(const std::shared_ptr<Batch>& batch);
  void Acquire(const std::shared_ptr<Batch>& batch);
  void Take(const std::shared_ptr<Batch>& batch, AcquireReply& reply);
  void OfferParts(const std::shared_ptr<Batch>& batch, const std::vector<std::pair<uint32_t, PartGrant>>& parts);
  void OnLease(const std::shared_ptr<Batch>& batch, const WatchEvent& event);
  void End(const std::shared_ptr<Batch>& batch, const absl::Status& status);
  bool Again(const std::shared_ptr<Batch>& batch, const absl::Status& status);
  Asker& AskerOf(const DomainId& domain, const Namespace& ns);
  NodeLink& LinkOf(Asker& asker, const Member& member);
  uint64_t SessionOf(Asker& asker, const std::shared_ptr<Path>& path);

  const GathererOptions options_;
  const GathererHost host_;
  Membership membership_;
  bool settled_ = false, stopped_ = false;
  std::map<std::pair<std::string, uint32_t>, std::shared_ptr<Source>> sources_;  // by member and its shard
  std::map<std::string, std::shared_ptr<PeerApi>> peers_;                         // by address
  std::map<std::pair<DomainId, NamespaceDigest>, std::unique_ptr<Asker>> askers_;
  std::map<const Path*, std::pair<std::shared_ptr<Path>, uint64_t>> sessions_;
  uint64_t next_session_;
  absl::flat_hash_set<std::pair<DomainId, BlockKey>> wanted_;   // runs being fetched for readers
  size_t suggested_blocks_ = 0;
  std::deque<std::shared_ptr<Batch>> urgent_, queue_;
  uint32_t under_way_ = 0;
  double tokens_ = 0;                                           // bytes that may be asked for now
  Instant refilled_{};
  Loop::TimerId pump_timer_ = 0;
};

}  // namespace kvasir
