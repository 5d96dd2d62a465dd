// SPDX-License-Identifier: Apache-2.0
// A cluster that was asked, in the words, tables and JSON that several commands show. Pure: everything is in the
// arguments.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "deploy/kvasir/nodes.h"
#include "deploy/term.h"

namespace kvasir {

/// "serving", "drained", ...; "unreachable" for a silent node.
std::string StateOf(const AskedNode& node);
/// Whether new blocks may go there: it answers, and serves or joins.
bool TakesBlocks(const AskedNode& node);
/// "settled", "taking over 3 of 40 runs", "handing over 3 of 40 runs", or both.
std::string MovesOf(const NodeStatus& status);
/// How full a tier is: "45%", its state where that is not ok ("read-only"), "-" where the node has none.
std::string FillOf(const NodeStatus& status, std::string_view tier);
/// "now"; for a silent node when a peer that answers heard it last ("12.0 s ago"), "-" where none has.
std::string LastSeen(const AskedCluster& cluster, const AskedNode& node);

/// One row a node: id, address, state, zone, weight, epoch, fill, parts, moves, last seen.
Table NodeTable(const AskedCluster& cluster);
/// One line for each silent node, with cause and what to do; "" when all answered.
std::string SilentLines(const AskedCluster& cluster);
/// Everything known about a node.
nlohmann::ordered_json NodeJson(const AskedCluster& cluster, const AskedNode& node);

struct Health {
  bool healthy = true;
  std::string words;                  ///< one sentence that begins with "healthy: " or "not healthy: "
  std::vector<std::string> troubles;  ///< one sentence each, with what to do
};
/// Healthy: all nodes answer, have one membership, move nothing, no tier is out of order, and `replicas` copies can lie
/// in distinct zones.
Health JudgeCluster(const AskedCluster& cluster, uint32_t replicas);

/// Counters that count rescues, refusals or losses and are not zero: what an operator looks at first.
std::vector<std::pair<std::string, uint64_t>> CountersWorthALook(const NodeStatus& status);

}  // namespace kvasir
