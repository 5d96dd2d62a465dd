// SPDX-License-Identifier: Apache-2.0
// Lease: one Acquire's hold on parts, renewed at half time until ended.
#pragma once

#include <cstdint>
#include <memory>

#include "store/link/node_link.h"

namespace kvasir {

/// The Loop only.
class Lease : public std::enable_shared_from_this<Lease> {
 public:
  Lease(LinkDesk& desk, std::shared_ptr<Path> path, uint64_t id, Duration lasts);
  const std::shared_ptr<Path>& path() const { return path_; }
  uint64_t id() const { return id_; }
  /// Keeps it renewed; `listener` hears PartsReady and, once, LeaseRevoked.
  void Begin(NodeLink::OnLease listener);
  /// Releases it. Idempotent.
  void End();

 private:
  void ScheduleRenewal();
  LinkDesk& desk_;
  const std::shared_ptr<Path> path_;
  const uint64_t id_;
  const Duration lasts_;
  NodeLink::OnLease listener_;
  Loop::TimerId timer_ = 0;
  bool ended_ = false;
};

}  // namespace kvasir
