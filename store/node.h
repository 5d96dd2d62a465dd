// SPDX-License-Identifier: Apache-2.0
// Node: one store process's worth of Kvasir: shards, tiers, sessions, the six calls. It opens data listeners only; who
// puts a gRPC port in front of it (kvasird) or calls it directly (embedded) is deploy's business.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "store/api/admin_api.h"
#include "store/api/log_sink.h"
#include "store/api/peer_api.h"
#include "store/api/placement.h"
#include "store/api/store_api.h"
#include "store/health.h"
#include "store/meters.h"
#include "store/tiers/ssd_tier.h"

namespace kvasir {

/// Asked at named places what a node is about to do. True: it took the task, and runs it later, on any thread; it may also
/// block. Tests only: so they make every stall that NodeHealth knows of.
using Hold = std::function<bool(std::string_view site, Task& task)>;

/// How one node calls another.
struct PeerClient {
  std::shared_ptr<StoreApi> store;
  std::shared_ptr<PeerApi> peer;
};

struct NodeOptions {
  std::string id = "node-0";              ///< must be in `membership`
  Membership membership;                  ///< as it begins, with this node in it; Adopt brings later ones
  /// Asks for another state of this node in the membership; what comes of it is Adopted. Empty = the membership is static:
  /// then a cordoned or draining node refuses new blocks, and others learn it by that.
  std::function<void(MemberState, absl::AnyInvocable<void(absl::Status)>)> announce;
  std::function<std::string()> membership_source;  ///< for Status; empty = "static"
  /// How to reach other members; empty = this node asks nobody: it gathers nothing and probes nobody.
  std::function<PeerClient(const std::string& control)> dial;
  uint64_t gather_bytes_per_s = 250ull << 20;  ///< at most, for taking over and repair together: a share of the link
  uint32_t ssd_planes = 0;                ///< planes of a cell that the SSD is given when DRAM runs short; 0 = all
  double hot_reads_per_s = 100;           ///< of one run: more, and other nodes are asked to hold it too; 0 = never
  uint32_t run_blocks = 16;               ///< placement unit; the same on every node of a cluster
  uint32_t shards = 1;                    ///< one Loop each; as membership says for this id

  uint64_t dram_bytes = 2ull << 30;       ///< never exceeded
  uint64_t slab_bytes = 256ull << 20;     ///< at most dram_bytes; a part must fit into one
  bool huge_pages = false;                ///< slabs in pages of 2 MiB, which must be set aside for all of dram_bytes
  std::optional<SsdOptions> ssd;          ///< none = no SSD tier

  std::vector<std::string> transports = {"tcp", "shm"};  ///< data listeners of each shard
  std::string data_host = "127.0.0.1";    ///< tcp listeners bind and announce this
  uint16_t data_port = 0;                 ///< shard i listens on data_port + i; 0 = any

  uint32_t codec_threads = 1;             ///< they check CRCs of landed bytes
  uint32_t sessions_max = 4096;
  uint32_t namespaces_max = 1024;
  Duration session_ttl = std::chrono::seconds(10);
  Duration lease = std::chrono::seconds(2);
  Duration unfinished_ttl = std::chrono::seconds(60);  ///< blocks not all of whose parts were sealed
  Duration keep_max = std::chrono::minutes(10);
  double demote_above = 0.75;             ///< share of dram_bytes above which cold blocks move to the SSD
  HealthOptions health;
  /// Facts of the process for Status: name, "on" or "off: why". The node adds its own.
  std::vector<std::pair<std::string, std::string>> features;
  LogSink log;
  Loop::Clock clock;                      ///< of every Loop of the node; empty = steady_clock
  Hold hold;                              ///< empty but in tests
};

/// What is held now, without asking a Loop: right as of each shard's last step.
struct NodeNumbers {
  uint64_t sessions = 0, leases = 0, blocks = 0, parts = 0, pulls = 0;
  uint64_t object_bytes = 0, object_bytes_max = 0;
  std::vector<TierStatus> tiers;
  uint64_t ssd_read_errors = 0, ssd_write_errors = 0;
  MoveStatus taking_over, handing_over;  ///< as of the judge's last look
};

class Node : public StoreApi, public AdminApi, public PeerApi {
 public:
  /// Opens tiers, recovers, listens. InvalidArgument names the option; tier and listener errors pass through.
  static absl::StatusOr<std::unique_ptr<Node>> Start(NodeOptions options);
  ~Node() override = default;  ///< drops sessions and listeners; durable parts stay, the rest is gone
  virtual const NodeOptions& options() const = 0;
  /// Any thread. Takes over a membership with a higher epoch and tells every session. One without this node leaves its own
  /// entry as it was: a node does not go because others lost sight of it.
  virtual void Adopt(Membership membership) = 0;
  virtual Membership membership() const = 0;
  virtual MemberState state() const = 0;
  /// Where its shards listen for data connections.
  virtual std::vector<DataAddress> DataAddresses() const = 0;
  /// Reads the counters without waiting for a Loop. Sorted by name.
  virtual std::vector<std::pair<std::string, uint64_t>> Counters() const = 0;
  virtual NodeNumbers Numbers() const = 0;
  /// NodeOptions::features and the node's own, as in Status.
  virtual std::vector<std::pair<std::string, std::string>> Features() const = 0;
  virtual const Meters& meters() const = 0;
  /// Judged from Start on. Whoever started the node may add vitals of its own, and removes them before they end.
  virtual NodeHealth& health() = 0;
};

}  // namespace kvasir
