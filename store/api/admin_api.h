// SPDX-License-Identifier: Apache-2.0
// AdminApi: what operators ask a node. A service of its own, so that its port or policy can differ from the clients'.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "store/api/store_api.h"

namespace kvasir {

/// One tier's fill. Bytes.
struct TierStatus {
  std::string name;       ///< "dram", "ssd"
  std::string state;      ///< "ok", "read-only: <cause>", "off"
  uint64_t capacity = 0;
  uint64_t used = 0;      ///< allocated
  uint64_t live = 0;      ///< payload of sealed parts
  uint64_t parts = 0;
};
/// How far a node is with taking over what it should hold, or (draining) with handing over what it holds.
struct MoveStatus {
  uint64_t runs_done = 0, runs_total = 0;    ///< of the move under way; total grows as it is found out
  uint64_t bytes_done = 0, bytes_total = 0;
  uint64_t epoch = 0;                        ///< the membership it works towards
  bool settled = true;                       ///< nothing is under way
};
/// A node as another sees it.
struct PeerStatus {
  std::string id;
  std::string state;                         ///< "ok", "silent", "unknown"
  Duration since{};                          ///< its last answer
};
struct NodeStatus {
  std::string node_id, version, state;   ///< state: see MemberState; "drained" when nothing is left to hand over
  std::string device;                    ///< checksum and codec device
  Duration uptime{};
  uint64_t epoch = 0;
  Membership membership;
  uint64_t sessions = 0, leases = 0, blocks = 0, parts = 0;
  std::vector<TierStatus> tiers;
  std::vector<std::pair<std::string, uint64_t>> counters;  ///< sorted by name, see store/counters.h
  MoveStatus taking_over, handing_over;
  std::vector<PeerStatus> peers;         ///< those it probes
  std::string membership_source;         ///< "static", "etcd 10.0.0.1:2379: ok", "etcd ...: unreachable for 12s, cached view"
  std::vector<std::pair<std::string, std::string>> features;  ///< name, "on" or "off: why": what an operator wonders about
};
/// One stored block in one view.
struct BlockInfo {
  BlockKey key, parent;
  uint32_t block_index = 0, token_count = 0;
  std::string namespace_name;
  std::string spec;           ///< View::Name()
  uint32_t parts = 0, parts_of = 0;      ///< sealed parts, parts of the whole block
  uint64_t bytes = 0;                    ///< encoded, all parts
  uint64_t dram_bytes = 0, ssd_bytes = 0;
  Duration idle{};                       ///< since the last touch
  uint32_t pins = 0;                     ///< parts under a lease
  uint32_t planes = 1, planes_of = 1;    ///< leading planes all of whose parts are there, planes of the view
};
struct ListRequest {
  std::string key_prefix;                ///< hexadecimal, "" = all
  std::string after;                     ///< cursor: the last answer's `next`
  uint32_t limit = 100;                  ///< at most 10,000
};
struct ListReply {
  std::vector<BlockInfo> blocks;
  std::string next;                      ///< "" = that was all
};

class AdminApi {
 public:
  virtual ~AdminApi() = default;
  virtual void Status(Answer<NodeStatus> answer) = 0;
  virtual void List(ListRequest request, Answer<ListReply> answer) = 0;
  /// Takes no new blocks; others take over what it holds; waits until they have it and no reader holds anything (at most
  /// `wait`), then answers. Status tells the progress meanwhile.
  virtual void Drain(Duration wait, Answer<NodeStatus> answer) = 0;
  /// Cordoned: takes no new blocks, serves those it has. Uncordon also ends a drain. Answers once the membership says so.
  virtual void Cordon(bool cordoned, Answer<NodeStatus> answer) = 0;
};

}  // namespace kvasir
