// SPDX-License-Identifier: Apache-2.0
// PeerApi: what nodes ask each other. Bytes move as for any reader: Hello, Acquire, pull. What is new here is how a node
// learns what it should hold: it asks those who hold it, page by page (receiver driven: whoever owns the destination starts).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/api/store_api.h"
#include "store/api/view.h"

namespace kvasir {

inline constexpr uint32_t kRunsPerInventoryMax = 4096;
inline constexpr uint32_t kRunsPerSuggestionMax = 256;

/// A wish of AcquireRequest::accept that only this very view answers to: its grid and selection, too.
inline std::string ExactView(const ViewDigest& view) { return "view:" + ToHex(view); }

struct ProbeRequest {
  std::string from;            ///< id of the node that asks
  uint64_t epoch = 0;          ///< of its membership
};
struct ProbeReply {
  std::string node_id;
  uint64_t epoch = 0;          ///< of the membership in force there
  MemberState state = MemberState::kServing;
  bool ready = true;           ///< as its readiness probe says
  uint64_t gathered_epoch = 0; ///< the membership up to which it holds all it should
};

/// Runs that `from` owns by the membership of `epoch`, among those in the asked node's shard.
struct InventoryRequest {
  std::string from;
  uint64_t epoch = 0;          ///< another than the asked node's is Aborted
  uint32_t shard = 0;
  uint32_t for_shard = 0;      ///< the asking shard of `from`
  std::string after;           ///< cursor: the last answer's `next`; "" begins
  uint32_t limit = 1024;       ///< runs looked at, at most kRunsPerInventoryMax
  bool done = false;           ///< nothing is asked: `from` has all it wanted of this shard at this epoch
  uint64_t wanted_bytes = 0, got_bytes = 0;  ///< of this shard at this epoch so far: for who hands over
};
/// One whole block in one view: all its parts are sealed there, in a view with planes those of its first `planes`.
struct InventoryBlock {
  uint32_t domain = 0, ns = 0, view = 0;  ///< indices into the reply's tables
  BlockKey key, parent, run;
  uint32_t block_index = 0, token_count = 0;
  uint32_t replicas = 1;
  bool durable = false;        ///< it lies on an SSD there
  uint64_t bytes = 0;
  uint32_t planes = 1;
};
struct InventoryReply {
  uint64_t epoch = 0;
  std::vector<DomainId> domains;
  std::vector<Namespace> namespaces;
  std::vector<View> views;
  std::vector<InventoryBlock> blocks;  ///< by run, then by block_index: a run is never split over pages
  std::string next;                    ///< "" = that was all
};

/// "These runs are hot: hold them too."
struct SuggestRequest {
  std::string from;
  uint64_t epoch = 0;
  uint32_t shard = 0;          ///< of the node that suggests: where they are to be had
  InventoryReply runs;         ///< their blocks; `next` is not used
};
struct SuggestReply {
  uint32_t taken = 0;          ///< runs it will hold, or holds
};

class PeerApi {
 public:
  virtual ~PeerApi() = default;
  virtual void Probe(ProbeRequest request, Duration deadline, Answer<ProbeReply> answer) = 0;
  virtual void Inventory(InventoryRequest request, Duration deadline, Answer<InventoryReply> answer) = 0;
  virtual void Suggest(SuggestRequest request, Duration deadline, Answer<SuggestReply> answer) = 0;
};

}  // namespace kvasir
