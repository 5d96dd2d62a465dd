// SPDX-License-Identifier: Apache-2.0
// Shard: the shell around one ShardCore. Owns a Loop, the slabs, the data listeners and connections; carries out the core's
// actions and brings back events. Nothing is decided here.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "store/core.h"
#include "store/gatherer.h"
#include "store/node.h"
#include "store/worker_pool.h"
#include "transport/transport.h"

namespace kvasir {

struct ShardOptions {
  CoreOptions core;
  std::vector<std::string> transports;
  std::string data_host;
  uint16_t data_port = 0;       ///< of this shard; 0 = any
  PageKind pages = PageKind::kNormal;  ///< of slabs
  uint64_t incarnation = 0;     ///< of the node
  SsdTier* ssd = nullptr;       ///< may be null
  WorkerPool* workers = nullptr;
  Counters* counters = nullptr;
  Meters* meters = nullptr;
  HealthOptions health;
  LogSink log;
  Loop::Clock clock;            ///< empty = steady_clock
  Hold hold;                    ///< tests only
  /// Any event for a session's Watch; called on the shard's Loop.
  std::function<void(uint64_t session, WatchEvent)> notify;

  std::string id;               ///< of the node
  std::function<PeerClient(const std::string& control)> dial;
  uint64_t gather_bytes_per_s = 0;
  /// Makes the node know a namespace and views; `done` on any thread.
  std::function<void(const DomainId&, const Namespace&, const std::vector<View>&, absl::AnyInvocable<void(absl::Status)> done)> learn;
  std::function<void(uint64_t epoch)> settled;  ///< this shard holds all it should by that membership, as far as it can tell
};

/// What a shard holds, as of its last step.
struct ShardNumbers {
  uint64_t blocks = 0, parts = 0, dram_parts = 0, dram_bytes = 0, used = 0, capacity = 0, leases = 0, pulls = 0;
  uint64_t taking_bytes_total = 0, taking_bytes_done = 0;
};

class Shard {
 public:
  /// Listens on every transport. Unavailable names the address in use.
  static absl::StatusOr<std::unique_ptr<Shard>> Start(ShardOptions options);
  ~Shard();

  // Any thread. Answers come on the shard's Loop.
  void OpenSession(uint64_t session, const DomainId& domain, const Namespace& ns, const std::string& credentials, bool peer);
  void CloseSession(uint64_t session);
  void Offer(OfferRequest request, Answer<OfferReply> answer);
  void Acquire(AcquireRequest request, Answer<AcquireReply> answer);
  void Touch(TouchRequest request, Answer<TouchReply> answer);
  void Post(Event event);
  void Adopt(const Membership& membership);
  void Suggested(SuggestRequest request, Answer<SuggestReply> answer);
  ShardNumbers Numbers() const;
  /// What can stall here. The shard outlives the judge.
  void AddVitals(NodeHealth& health);
  /// Runs `look` on the Loop, between two steps of the core.
  void Look(absl::AnyInvocable<void(const ShardCore&, const Gatherer&)> look);
  /// Closes connections and answers every open call with Unavailable. After it returns the Loop begins no disk operation
  /// and no check: tier and workers may be destroyed, then the shard.
  void Stop();
  const std::vector<DataAddress>& addresses() const { return addresses_; }

 private:
  /// Memory of one slab and its registration with every transport.
  struct Slab {
    SharedMemory memory;
    std::vector<std::unique_ptr<MemoryRegion>> regions;  // parallel to transports_
  };
  struct Peer {
    std::string credentials;
    std::unique_ptr<Connection> connection;  // null until the client dials
    size_t transport = 0;
    std::shared_ptr<Path> path;              // instead: we dialled, as a peer
    Connection* dialled() const { return path != nullptr ? path->connection.get() : connection.get(); }
  };
  struct Pulling {
    ExtentRef extent;
    uint64_t bytes = 0;
    size_t transport = 0;
    Instant deadline, begun;
  };
  struct Granted {
    uint32_t slab = 0;
    size_t transport = 0;
    uint64_t grant = 0;
  };

  explicit Shard(ShardOptions options);
  absl::Status Listen();
  void Accept(size_t transport, std::unique_ptr<Connection> connection);
  GathererHost HostOfGatherer();
  void Help(action::RunHot hot);
  Slab* SlabMemory(uint32_t slab);
  std::span<std::byte> Bytes(const SlabRange& range);
  std::string GrantPart(uint64_t session, uint64_t lease, const action::LeasedPart& part);

  void Handle(Event event);  // on the Loop; events that arise meanwhile wait their turn
  void Tick();
  void Carry(action::Pull& a);
  void Carry(action::Verify& a);
  void Carry(action::Persist& a);
  void Carry(action::Promote& a);
  void Carry(action::DropOnSsd& a);
  void Carry(action::RetireSlab& a);
  void Carry(action::AnswerOffer& a);
  void Carry(action::AnswerTouch& a);
  void Carry(action::AnswerAcquire& a);
  void Carry(action::PartReady& a);
  void Carry(action::RevokeLease& a);
  void Carry(action::Recheck& a);
  void Carry(action::Missed& a) { gatherer_->Want(std::move(a)); }
  void Carry(action::RunHot& a) { Help(std::move(a)); }
  size_t TransportOf(const Peer& peer) const;
  void PullEnded(const Pulling& pulling, PullResult result);
  void FlushReady();
  void Publish();
  void Beat();
  /// Hands `event` to this shard's Loop.
  template <class E>
  void Return(E event) {
    loop_.loop().Post([this, event = std::move(event)]() mutable { Handle(std::move(event)); });
  }
  /// The same for the end of what `pulse` counts, unless a test holds it back at `site`.
  template <class E>
  void Return(const char* site, Pulse& pulse, E event) {
    Task ended = [this, &pulse, event = std::move(event)]() mutable {
      pulse.End();
      Handle(std::move(event));
    };
    if (!options_.hold) return loop_.loop().Post(std::move(ended));
    Task post = [this, ended = std::move(ended)]() mutable { loop_.loop().Post(std::move(ended)); };
    if (!options_.hold(site, post)) post();
  }

  /// ShardNumbers, and what the judge reads, told by the Loop after each step.
  struct Shown {
    std::atomic<uint64_t> blocks{0}, parts{0}, dram_parts{0}, dram_bytes{0}, used{0}, leases{0}, pulls{0};
    std::atomic<uint64_t> taking_bytes_total{0}, taking_bytes_done{0};
    std::atomic<Duration::rep> refused_since{kNever}, next_tick{kNever}, behind{0};
    static constexpr Duration::rep kNever = Instant::max().time_since_epoch().count();
  };

  ShardOptions options_;
  std::vector<DataAddress> addresses_;
  Shown shown_;
  Pulse checks_, writes_, reads_;  // given to workers and disk, and come back
  // Everything below belongs to the Loop.
  Deadlines pulls_;
  ShardCore core_;
  SsdTier* ssd_;
  absl::flat_hash_map<uint32_t, std::unique_ptr<Slab>> slabs_;
  std::vector<std::unique_ptr<Transport>> transports_;
  absl::flat_hash_map<uint64_t, Peer> peers_;
  absl::flat_hash_map<std::string, uint64_t> by_credentials_;
  absl::flat_hash_map<uint64_t, std::vector<Granted>> grants_;  // by lease
  absl::flat_hash_map<uint64_t, Answer<OfferReply>> offers_;
  absl::flat_hash_map<uint64_t, Answer<AcquireReply>> acquires_;
  absl::flat_hash_map<uint64_t, Answer<TouchReply>> touches_;
  std::vector<std::pair<uint64_t, PartsReady>> ready_;  // of the step in hand, by session
  std::shared_ptr<Mailbox> mailbox_;
  std::unique_ptr<Gatherer> gatherer_;
  Membership membership_;
  std::map<std::string, std::shared_ptr<PeerApi>> helpers_;  // whom hot runs are suggested to, by address
  std::deque<Event> events_;
  bool handling_ = false;
  bool stopping_ = false;
  uint64_t next_call_ = 1;
  Loop::TimerId timer_ = 0;
  Instant timer_at_ = Instant::max();
  LoopThread loop_;  // last: its thread ends before what it touches
};

}  // namespace kvasir
