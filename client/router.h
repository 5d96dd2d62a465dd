// SPDX-License-Identifier: Apache-2.0
// Router: who is a member, which nodes own a run, and the link to each.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "client/desk.h"
#include "store/link/node_link.h"
#include "store/api/placement.h"
#include "transport/sync.h"

namespace kvasir::client {

/// Where a run lives.
struct Owner {
  NodeLink* link = nullptr;
  uint32_t shard = 0;
};

inline constexpr Duration kSlowMin = std::chrono::milliseconds(20);  ///< an owner is slow when it takes longer than this,
inline constexpr int kSlowTimes = 8;                                 ///< and so many times longer than another owner of the run
inline constexpr Duration kSpreadFor = std::chrono::seconds(10);
inline constexpr size_t kSpreadsMax = 4096;  ///< hot runs remembered

/// The Loop only, but for membership() and run_blocks(). Links live until the Router does.
class Router {
 public:
  explicit Router(Desk& desk) : desk_(desk) {}

  /// Greets the node at a seed address, whatever its id.
  void Greet(const std::string& control, absl::AnyInvocable<void(absl::Status)> done);
  /// Everybody who may take new blocks of a run, primary first, paused ones too.
  std::vector<Owner> Writers(const BlockKey& run_key);
  /// Whom to ask for a run, in order; a slow one after the others. Readers of a run that lies on more nodes than placed begin at different ones.
  std::vector<Owner> Readers(const BlockKey& run_key);
  /// A node said that so many owners of the run, in rank order, hold it. Forgotten after kSpreadFor.
  void NoteSpread(const BlockKey& run_key, uint32_t spread);
  /// Any thread.
  Membership membership() const;
  uint32_t run_blocks() const;
  /// The node's own epoch, 0 if it is no member.
  uint64_t EpochOf(const NodeLink& link) const;
  /// Closes every link. What waits for one is answered with `why`.
  void Close(const absl::Status& why);

 private:
  NodeLink& LinkOf(const Member& member);
  NodeLink::Hooks HooksOf();
  void Adopt(Membership membership, uint32_t run_blocks);
  void AdoptEpoch(const std::string& id, uint64_t epoch);
  std::vector<Owner> OwnersAt(const std::vector<Placed>& places);

  Desk& desk_;
  Membership current_;
  absl::flat_hash_map<std::string, std::unique_ptr<NodeLink>> links_;  // by member id and control address
  std::vector<std::unique_ptr<NodeLink>> seeds_;                        // their ids came with Hello
  struct Spread {
    uint32_t nodes = 0;
    Instant until;
  };
  absl::flat_hash_map<BlockKey, Spread> spreads_;

  mutable Mutex mutex_;
  Membership told_ ABSL_GUARDED_BY(mutex_);
  uint32_t run_blocks_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kvasir::client
