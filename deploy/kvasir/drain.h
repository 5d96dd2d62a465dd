// SPDX-License-Identifier: Apache-2.0
// Draining a node: what it would mean, following it, and how it ended, in words.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "deploy/kvasir/nodes.h"
#include "deploy/term.h"

namespace kvasir {

/// What a drain of a node that answers would do.
struct DrainPlan {
  std::string node, address;
  uint64_t blocks = 0, parts = 0, leases = 0;
  uint64_t dram_bytes = 0, ssd_bytes = 0;  ///< payload it holds
  uint64_t takers = 0;                     ///< others that take new blocks
  uint64_t room = 0;                       ///< free bytes of their DRAM and SSD tiers
  bool alone = false;                      ///< on a static list: nobody learns of it, nobody takes over
  std::string Text() const;                ///< for a person who is to say yes
};
DrainPlan PlanDrain(const AskedCluster& cluster, const AskedNode& node);

struct DrainPatience {
  Duration wait{};                                  ///< for the drain, at most
  Duration timeout = std::chrono::seconds(5);       ///< of one look
  Duration pause = std::chrono::milliseconds(500);  ///< between two looks
};
/// Starts the drain and watches it until it has ended or `wait` has passed; shows bytes handed over on `progress`. The
/// last status seen, or why the node does not answer any more.
absl::StatusOr<NodeStatus> FollowDrain(AdminApi& admin, const DrainPatience& patience,
                                       const Progress::Options& progress);

/// Ok when everything is with others, or there was nothing; else what is left and what to do.
absl::Status JudgeDrain(const NodeStatus& last, Duration waited);

}  // namespace kvasir
