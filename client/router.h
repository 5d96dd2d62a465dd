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
#include "client/node_link.h"
#include "store/api/placement.h"
#include "transport/sync.h"

namespace kvasir::client {

/// Where a run lives.
struct Owner {
  NodeLink* link = nullptr;
  uint32_t shard = 0;
};

/// The Loop only, but for membership() and run_blocks(). Links live until the Router does.
class Router {
 public:
  explicit Router(Desk& desk) : desk_(desk) {}

  /// Greets the node at a seed address, whatever its id.
  void Greet(const std::string& control, absl::AnyInvocable<void(absl::Status)> done);
  /// The first `count` owners of a run, primary first, paused ones too.
  std::vector<Owner> Owners(const BlockKey& run_key, uint32_t count);
  /// Any thread.
  Membership membership() const;
  uint32_t run_blocks() const;
  uint64_t epoch() const { return current_.epoch; }
  /// Closes every link. What waits for one is answered with `why`.
  void Close(const absl::Status& why);

 private:
  NodeLink& LinkOf(const Member& member);
  NodeLink::Hooks HooksOf();
  void Adopt(Membership membership, uint32_t run_blocks);

  Desk& desk_;
  Membership current_;
  absl::flat_hash_map<std::string, std::unique_ptr<NodeLink>> links_;  // by member id and control address
  std::vector<std::unique_ptr<NodeLink>> seeds_;                        // their ids came with Hello

  mutable Mutex mutex_;
  Membership told_ ABSL_GUARDED_BY(mutex_);
  uint32_t run_blocks_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace kvasir::client
