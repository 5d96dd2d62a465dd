// SPDX-License-Identifier: Apache-2.0
// A cluster as the command line has it after asking, made up: three nodes a, b, c of two zones that answer.
#pragma once

#include <chrono>
#include <string>

#include "deploy/kvasir/nodes.h"

namespace kvasir::testing {

inline NodeStatus FakeStatus(const std::string& id, const Membership& membership) {
  NodeStatus status;
  status.node_id = id;
  status.version = "0.1.0";
  status.state = "serving";
  status.uptime = std::chrono::seconds(90);
  status.epoch = membership.epoch;
  status.membership = membership;
  status.blocks = 10;
  status.parts = 20;
  status.tiers = {{.name = "dram", .state = "ok", .capacity = 1000, .used = 250, .live = 200, .parts = 20}};
  status.membership_source = "etcd 10.0.0.9:2379: ok";
  return status;
}

inline AskedCluster FakeCluster() {
  AskedCluster cluster;
  cluster.membership = {.epoch = 7,
                        .members = {{"a", "10.0.0.1:7070", 1, 100, "r1"},
                                    {"b", "10.0.0.2:7070", 1, 100, "r2"},
                                    {"c", "10.0.0.3:7070", 1, 200, "r1"}}};
  for (const Member& member : cluster.membership.members) {
    cluster.nodes.push_back({.id = member.id,
                             .address = member.control,
                             .admin = nullptr,
                             .status = FakeStatus(member.id, cluster.membership)});
  }
  return cluster;
}

/// Node `index` of the cluster no longer answers.
inline void Silence(AskedCluster* cluster, size_t index) {
  cluster->nodes[index].status =
      absl::UnavailableError("failed to connect to all addresses; last error: Connection refused");
}

}  // namespace kvasir::testing
