// SPDX-License-Identifier: Apache-2.0
// ClusterSeat: a node's place in its cluster, for serve: the directories that remember it, and the list of members, from a
// file or from etcd.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/kvasird/options.h"
#include "store/membership/etcd_membership.h"
#include "store/membership/state_directory.h"

namespace kvasir {

/// Order: Take, then the node and its port, Join, and at the end Leave. Destroyed before the node: after that the node hears
/// nothing more, and what it asks is answered Unavailable. Not thread safe.
class ClusterSeat {
 public:
  /// Makes or opens the directories and fills in what the node must know of its cluster: membership, announce,
  /// membership_source. With etcd it waits for a first view; Cancelled: `stop_fd` became readable before.
  /// FailedPrecondition names both clusters where a directory belongs to another one. REQUIRES: options->node.log.
  static absl::StatusOr<std::unique_ptr<ClusterSeat>> Take(DaemonOptions* options, int stop_fd);
  ~ClusterSeat();
  ClusterSeat(const ClusterSeat&) = delete;
  ClusterSeat& operator=(const ClusterSeat&) = delete;

  /// The node can be dialled: others may see it, and it hears of them. Waits until that is so; Cancelled as above.
  absl::Status Join(Node* node, int stop_fd);
  /// Takes the node out of the list; waits at most MembershipCore::kLeaveMax. Says what happened to the log.
  void Leave();

 private:
  explicit ClusterSeat(LogSink log) : log_(std::move(log)) {}
  absl::Status OpenDirectories(const DaemonOptions& options);
  absl::Status ClaimDirectories(const std::string& cluster_id);
  absl::Status Follow(DaemonOptions* options, int stop_fd);

  const LogSink log_;
  std::vector<std::unique_ptr<StateDirectory>> directories_;  // the first keeps the view
  std::shared_ptr<EtcdMembership> etcd_;                      // none: the list is a file
};

}  // namespace kvasir
