// SPDX-License-Identifier: Apache-2.0
// StoreApi: the six calls of a node, as plain values. store/wire carries them over gRPC; embedded calls them directly.
// Every call is asynchronous and answers exactly once, on any thread: post to your own Loop. A deadline that passes is
// the caller's DeadlineExceeded; it never frees memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "store/api/digest.h"
#include "store/api/namespace.h"
#include "store/api/part.h"
#include "store/api/placement.h"
#include "store/api/view.h"
#include "transport/loop.h"

namespace kvasir {

/// What this build speaks, newest and oldest; Hello chooses the newest that both know. 2 added: a block's run and replicas,
/// a part's generation, peers, spread, damage reports, planes. Who speaks 1 leaves them out, and means plane 0.
extern const uint32_t kWireVersion;
inline constexpr uint32_t kWireVersionMin = 1;
inline constexpr size_t kPartsPerOfferMax = 4096;
inline constexpr size_t kBlocksPerAcquireMax = 16384;
inline constexpr size_t kViewsPerCallMax = 64;
inline constexpr uint32_t kReplicasMax = 16;
inline constexpr size_t kDamagedPerTouchMax = 64;
inline constexpr size_t kObjectBytesMax = 1 << 20;
inline constexpr size_t kObjectNameBytesMax = 256;
inline constexpr uint64_t kObjectAnyVersion = ~uint64_t{0};

template <class T>
using Answer = absl::AnyInvocable<void(absl::StatusOr<T>)>;

// ---- Hello: who speaks, about what; answers where bytes travel -------------------------------------------------------
struct HelloRequest {
  uint32_t wire_min = kWireVersionMin, wire_max = kWireVersion;
  std::string client;     ///< for people: program, host, pid
  std::string tenant;     ///< at most 128 bytes
  std::string peer;       ///< id of the node that asks, "" = a client. A peer may read whatever state the node is in
  DomainId domain;
  Namespace ns;
};
struct DataAddress {
  uint32_t shard = 0;
  std::string transport;  ///< "tcp", "shm", "loopback"
  std::string address;
};
struct HelloReply {
  uint32_t wire = kWireVersion;
  uint64_t session = 0;
  std::string credentials;          ///< for data connections of this session only
  std::string node_id;
  std::string server_version;
  uint64_t incarnation = 0;         ///< of the node's process, for data connections
  std::vector<DataAddress> data;
  Membership membership;
  uint32_t run_blocks = 16;         ///< the cluster's placement unit
  Duration session_ttl{};           ///< any call renews; silence longer than this ends the session and all it holds
  Duration lease{};                 ///< of an Acquire
  std::string warning;              ///< a near miss: "namespace 'x' differs from 'y' only in rope_theta"
};

// ---- Offer: a writer names parts in its own memory; the node pulls, verifies, publishes, acks -------------------------
/// Levels combine: REPLICATED(n) is the client's n parallel Offers; each node only knows whether to persist.
enum class Ack : uint8_t { kVolatile = 0, kDurable = 1 };
struct OfferedBlock {
  BlockKey key;
  BlockKey parent;            ///< for leaf-first eviction
  uint32_t block_index = 0;
  uint32_t token_count = 0;
  BlockKey run{};             ///< key of the first block of its run: what it is placed by; zero = unknown (wire 1)
  uint32_t replicas = 1;      ///< nodes that shall hold it: kept up by repair
};
struct OfferedPart {
  uint32_t block = 0;         ///< index into blocks
  uint32_t view = 0;          ///< index into views
  uint16_t layer_group = 0, head_group = 0;
  uint64_t bytes = 0;         ///< whole part, header included
  std::string root;           ///< 16 bytes
  std::string grant;          ///< encoded RemoteSpan of `bytes` bytes
  uint64_t generation = 0;    ///< stamped in it by the node that holds it; 0 from a writer
  uint16_t plane = 0;         ///< of its cell
};
struct OfferRequest {
  uint64_t session = 0;
  uint64_t epoch = 0;         ///< the node's, as the client knows it; 0 = any
  uint32_t shard = 0;
  Ack ack = Ack::kVolatile;
  std::vector<View> views;
  std::vector<OfferedBlock> blocks;
  std::vector<OfferedPart> parts;
  Duration deadline{};        ///< from arrival
};
struct OfferReply {
  /// In order of parts: ok = sealed at the level asked; AlreadyExists = another's copy is (at that level too): success
  /// for the writer; ResourceExhausted, DataLoss, Unavailable, DeadlineExceeded, Aborted else.
  std::vector<absl::Status> parts;
};

// ---- Acquire: the longest held prefix of each run, pinned by a lease, with rights to read -----------------------------
struct AcquiredRun {
  uint32_t first_block = 0;          ///< index in the chain
  std::vector<BlockKey> keys;
  BlockKey run{};                    ///< what they are placed by; zero = unknown (wire 1)
};
struct AcquireRequest {
  uint64_t session = 0;
  uint64_t epoch = 0;
  uint32_t shard = 0;
  std::vector<AcquiredRun> runs;
  std::vector<std::string> accept;   ///< best first: "lossless", "any", or a View::Name(); chosen block by block
  uint32_t first_layer = 0, layers = 0;
  uint32_t first_head = 0, heads = 0;
  bool match_only = false;           ///< count, pin nothing, grant nothing
  uint32_t planes = 0;               ///< of each cell at most so many; 0 = all that are there
  Duration deadline{};               ///< cold parts that are not READY by then are misses
};
struct PartGrant {
  uint16_t layer_group = 0, head_group = 0;
  bool pending = false;              ///< cold: becomes ready by a PartsReady event; then grant and generation are known
  uint64_t bytes = 0;
  uint64_t generation = 0;
  uint32_t frames_offset = 0;        ///< bytes of header, spec and directory
  std::string grant;                 ///< encoded RemoteSpan; empty while pending
  uint16_t plane = 0;                ///< of its cell
};
struct AcquiredBlock {
  uint32_t block_index = 0;
  uint32_t token_count = 0;
  uint32_t view = 0;                 ///< index into AcquireReply::views
  BlockKey parent{};                 ///< this and replicas are told to peers only
  uint32_t replicas = 0;
  /// Layer-major; exactly those cells that cover the slice, and of each its planes 0 to i as far as they are there.
  std::vector<PartGrant> parts;
};
struct AcquireReply {
  uint64_t lease = 0;                ///< 0 when nothing was pinned
  Duration lease_for{};
  std::vector<View> views;
  std::vector<uint32_t> held;        ///< per run: blocks held from its first on
  std::vector<uint32_t> spread;      ///< per run: owners in rank order that hold it, for readers to choose from; 0 = as placed
  std::vector<AcquiredBlock> blocks; ///< of all runs, in order; empty when match_only
};

// ---- Touch: leases, wishes, and what readers saw -----------------------------------------------------------------------
/// A part whose bytes did not answer to their checks at the reader: the node looks at its own copy.
struct DamagedPart {
  BlockKey key;
  View view;
  uint16_t layer_group = 0, head_group = 0;
  uint16_t plane = 0;
};
struct TouchRequest {
  uint64_t session = 0;
  uint32_t shard = 0;
  std::vector<uint64_t> renew, release;  ///< leases
  std::vector<BlockKey> keep;            ///< do not evict for `keep_for` (a wish, bounded by the node)
  Duration keep_for{};
  std::vector<BlockKey> drop;            ///< will not be used again: first to go
  std::vector<DamagedPart> damaged;      ///< at most kDamagedPerTouchMax
};
struct TouchReply {
  std::vector<uint64_t> gone;            ///< leases of `renew` that had ended
};

// ---- Watch: what the node says by itself -----------------------------------------------------------------------------
struct MembershipChanged { Membership membership; };
struct PartsReady {
  uint64_t lease = 0;
  struct Ready {
    uint32_t block_index = 0;
    PartGrant part;
    absl::Status status;                 ///< not ok = a miss from this block on
    BlockKey key{};                      ///< of the block; zero = unknown (wire 1)
  };
  std::vector<Ready> parts;
};
struct LeaseRevoked { uint64_t lease = 0; std::string reason; };
using WatchEvent = std::variant<MembershipChanged, PartsReady, LeaseRevoked>;

// ---- Object: small named values: HeadMaps, artefacts, scores ---------------------------------------------------------
struct ObjectRequest {
  uint64_t session = 0;
  std::string name;
  bool put = false;
  uint64_t version = 0;                  ///< put: the version it replaces, 0 = must not exist; get: ignored
  std::string value;                     ///< put: empty = delete, with kObjectAnyVersion whatever is there
};
struct ObjectReply {
  uint64_t version = 0;                  ///< get: of value; put: the new one, 0 = it is deleted
  std::string value;
};

/// Where a status carries an epoch; on the wire it is the error's details.
inline constexpr const char* kEpochPayload = "kvasir/epoch";
/// Aborted: the caller's epoch is not the node's. Carries the one that is: call again with it, once.
absl::Status StaleEpoch(const std::string& node, uint64_t given, uint64_t current);
/// The current epoch that a StaleEpoch carries; nothing for any other status.
std::optional<uint64_t> CurrentEpochOf(const absl::Status& status);

class StoreApi {
 public:
  virtual ~StoreApi() = default;
  virtual void Hello(HelloRequest request, Duration deadline, Answer<HelloReply> answer) = 0;
  virtual void Offer(OfferRequest request, Duration deadline, Answer<OfferReply> answer) = 0;
  virtual void Acquire(AcquireRequest request, Duration deadline, Answer<AcquireReply> answer) = 0;
  virtual void Touch(TouchRequest request, Duration deadline, Answer<TouchReply> answer) = 0;
  virtual void Object(ObjectRequest request, Duration deadline, Answer<ObjectReply> answer) = 0;

  using OnEvent = absl::AnyInvocable<void(WatchEvent)>;
  using OnEnd = absl::AnyInvocable<void(absl::Status)>;
  /// Events of one session, in order, until the Watcher is destroyed (no call after its destructor returned) or the node
  /// ends it (`end` once, unless the Watcher went first). A session without a Watch and without calls ends after its ttl.
  class Watcher {
   public:
    virtual ~Watcher() = default;
  };
  virtual std::unique_ptr<Watcher> Watch(uint64_t session, OnEvent event, OnEnd end) = 0;
};

}  // namespace kvasir
