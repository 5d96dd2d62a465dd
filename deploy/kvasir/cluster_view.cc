// SPDX-License-Identifier: Apache-2.0
// What is said of nodes and of the whole.
#include "deploy/kvasir/cluster_view.h"

#include <algorithm>
#include <map>
#include <set>

#include "deploy/status_json.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kNamesMax = 8;  ///< nodes named in one sentence

const TierStatus* FindTier(const NodeStatus& status, std::string_view name) {
  const auto at =
      std::find_if(status.tiers.begin(), status.tiers.end(), [name](const TierStatus& t) { return t.name == name; });
  return at == status.tiers.end() ? nullptr : &*at;
}
bool InOrder(const TierStatus& tier) { return tier.state.starts_with("ok") || tier.state.starts_with("off"); }

std::string Names(const std::vector<std::string>& names) {
  if (names.size() <= kNamesMax) return Join(names, ", ");
  const std::vector<std::string> first(names.begin(), names.begin() + kNamesMax);
  return Cat(Join(first, ", "), " and ", names.size() - kNamesMax, " more");
}

std::string NameOf(const AskedNode& node) { return node.id.empty() ? node.address : node.id; }

/// What to do about a silent node.
std::string_view CureOf(const AskedNode& node) {
  return CauseOf(node.status.status()) == kNameUnknown ? "Correct its address in the membership"
                                                       : "Start it again on its directory";
}

/// How long ago a peer heard of the node; the shortest that anybody says.
std::optional<Duration> HeardOf(const AskedCluster& cluster, const std::string& id) {
  std::optional<Duration> least;
  for (const AskedNode& node : cluster.nodes) {
    if (!node.status.ok()) continue;
    for (const PeerStatus& peer : node.status->peers) {
      if (peer.id != id || peer.state == "unknown") continue;
      least = std::min(least.value_or(peer.since), peer.since);
    }
  }
  return least;
}

/// " 3 of 40 runs"; in bytes where runs are not counted; "" while nothing is known.
std::string MovedOf(const MoveStatus& move) {
  if (move.runs_total > 0) return Cat(" ", move.runs_done, " of ", Counted(move.runs_total, "run"));
  if (move.bytes_total > 0) return Cat(" ", HumanBytes(move.bytes_done), " of ", HumanBytes(move.bytes_total));
  return "";
}

// ---- health
// ----------------------------------------------------------------------------------------------------------
struct Findings {
  std::vector<std::string> silent, moving;
  std::vector<std::string> closed;  ///< take no new blocks, as an operator wanted
  std::map<uint64_t, std::vector<std::string>> epochs;
  std::vector<std::string> troubles;
};

void LookAtTiers(const AskedNode& node, Findings* found) {
  for (const TierStatus& tier : node.status->tiers) {
    if (InOrder(tier)) continue;
    found->troubles.push_back(Cat("the ", tier.name, " tier of ", NameOf(node), " is ", tier.state,
                                  ". The node goes on without it; mend its disk and start it again"));
  }
}

void LookAtPeers(const AskedCluster& cluster, const AskedNode& node, Findings* found) {
  std::vector<std::string> unheard;
  for (const PeerStatus& peer : node.status->peers) {
    const AskedNode* known = cluster.Find(peer.id);
    if (peer.state == "silent" && known != nullptr && known->status.ok()) unheard.push_back(peer.id);
  }
  if (unheard.empty()) return;
  found->troubles.push_back(
      Cat(NameOf(node), " does not hear ", Names(unheard), ", which answered here. Look at the network between them"));
}

void LookAtNode(const AskedCluster& cluster, const AskedNode& node, Findings* found) {
  if (!node.status.ok()) {
    found->silent.push_back(NameOf(node));
    found->troubles.push_back(
        Cat(NameOf(node), " is unreachable: ", CauseOf(node.status.status()), ". ", CureOf(node)));
    return;
  }
  const NodeStatus& s = *node.status;
  found->epochs[s.epoch].push_back(NameOf(node));
  if (!TakesBlocks(node)) found->closed.push_back(Cat(NameOf(node), " (", s.state, ")"));
  if (!s.taking_over.settled || !s.handing_over.settled) {
    found->moving.push_back(NameOf(node));
    found->troubles.push_back(
        Cat(NameOf(node), " is not settled: ", MovesOf(s), ". Wait; see: kvasir node describe ", NameOf(node)));
  }
  const std::string source = Lower(s.membership_source);
  if (source.find("unreachable") != std::string::npos) {
    found->troubles.push_back(Cat(NameOf(node), " has its members from ", s.membership_source,
                                  ". Data flows on; nobody can join or leave until it answers again"));
  }
  LookAtTiers(node, found);
  LookAtPeers(cluster, node, found);
}

/// Zones of the nodes that take new blocks; one without a zone is its own.
size_t ZonesOf(const AskedCluster& cluster, size_t* takers) {
  std::set<std::string> zones;
  size_t alone = 0;
  for (const AskedNode& node : cluster.nodes) {
    const Member* member = cluster.membership.Find(node.id);
    if (member == nullptr || !TakesBlocks(node)) continue;
    ++*takers;
    if (member->zone.empty()) ++alone;
    if (!member->zone.empty()) zones.insert(member->zone);
  }
  return zones.size() + alone;
}

std::string EpochTrouble(const std::map<uint64_t, std::vector<std::string>>& epochs) {
  std::vector<std::string> said;
  for (auto at = epochs.rbegin(); at != epochs.rend(); ++at) said.push_back(Cat(Names(at->second), " at ", at->first));
  return Cat("not all have the same membership: epoch of ", Join(said, "; "),
             ". It should pass within seconds; with a static list give all nodes the same file and start them again");
}

}  // namespace

std::string StateOf(const AskedNode& node) { return node.status.ok() ? node.status->state : "unreachable"; }

bool TakesBlocks(const AskedNode& node) {
  const std::string state = StateOf(node);
  return state == Name(MemberState::kServing) || state == Name(MemberState::kJoining);
}

std::string MovesOf(const NodeStatus& status) {
  std::vector<std::string> moves;
  const auto add = [&moves](const char* what, const MoveStatus& move) {
    if (!move.settled) moves.push_back(Cat(what, MovedOf(move)));
  };
  add("taking over", status.taking_over);
  add("handing over", status.handing_over);
  return moves.empty() ? "settled" : Join(moves, ", ");
}

std::string FillOf(const NodeStatus& status, std::string_view name) {
  const TierStatus* tier = FindTier(status, name);
  if (tier == nullptr || tier->state.starts_with("off")) return "-";
  if (!InOrder(*tier)) return tier->state.substr(0, tier->state.find(':'));
  return Cat(tier->capacity == 0
                 ? 0
                 : static_cast<uint64_t>(100.0 * static_cast<double>(tier->used) / static_cast<double>(tier->capacity)),
             "%");
}

std::string LastSeen(const AskedCluster& cluster, const AskedNode& node) {
  if (node.status.ok()) return "now";
  const auto heard = HeardOf(cluster, node.id);
  return heard.has_value() ? HumanDuration(*heard) + " ago" : "-";
}

Table NodeTable(const AskedCluster& cluster) {
  Table table({"ID", "ADDRESS", "STATE", "ZONE", "WEIGHT", "EPOCH", "DRAM", "SSD", "PARTS", "MOVES", "LAST SEEN"});
  for (const AskedNode& node : cluster.nodes) {
    const Member* member = cluster.membership.Find(node.id);
    const bool ok = node.status.ok();
    table.Row({node.id.empty() ? "?" : node.id, node.address, StateOf(node),
               member == nullptr || member->zone.empty() ? "-" : member->zone,
               member == nullptr ? "-" : Cat(member->weight), ok ? Cat(node.status->epoch) : "-",
               ok ? FillOf(*node.status, "dram") : "-", ok ? FillOf(*node.status, "ssd") : "-",
               ok ? Cat(node.status->parts) : "-", ok ? MovesOf(*node.status) : "-", LastSeen(cluster, node)});
  }
  return table;
}

std::string SilentLines(const AskedCluster& cluster) {
  std::string lines;
  for (const AskedNode& node : cluster.nodes) {
    if (node.status.ok()) continue;
    const std::string seen = LastSeen(cluster, node);
    lines += Cat(NameOf(node), " at ", node.address, " is unreachable: ", CauseOf(node.status.status()),
                 seen == "-" ? "" : Cat("; a peer heard it ", seen), "\n");
  }
  return lines;
}

Json NodeJson(const AskedCluster& cluster, const AskedNode& node) {
  Json out = {{"id", node.id}, {"control", node.address}, {"reachable", node.status.ok()}};
  if (const Member* member = cluster.membership.Find(node.id); member != nullptr) {
    out["member"] = {{"state", Name(member->state)},
                     {"zone", member->zone},
                     {"weight", member->weight},
                     {"shards", member->shards},
                     {"epoch", member->epoch}};
  }
  if (node.status.ok()) {
    out.update(StatusJson(*node.status));
    return out;
  }
  out["state"] = StateOf(node);
  out["cause"] = CauseOf(node.status.status());
  if (const auto heard = HeardOf(cluster, node.id); heard.has_value())
    out["last_seen_s"] = std::chrono::duration<double>(*heard).count();
  return out;
}

Health JudgeCluster(const AskedCluster& cluster, uint32_t replicas) {
  Findings found;
  for (const AskedNode& node : cluster.nodes) LookAtNode(cluster, node, &found);
  if (found.epochs.size() > 1) found.troubles.push_back(EpochTrouble(found.epochs));
  size_t takers = 0;
  const size_t zones = ZonesOf(cluster, &takers);
  if (takers == 0) {
    found.troubles.emplace_back("no node takes new blocks. Let one do so: kvasir node uncordon ID");
  } else if (zones < replicas) {
    found.troubles.push_back(Cat(replicas, " copies cannot lie in distinct zones: the nodes that can take new blocks (",
                                 takers, ") lie in ", Counted(zones, "zone"), ". Start nodes in other zones (--zone)"));
  }
  Health health{.healthy = found.troubles.empty(), .words = "", .troubles = std::move(found.troubles)};
  const size_t nodes = cluster.nodes.size();
  const std::string closed = found.closed.empty() ? "" : Cat("; no new blocks go to ", Names(found.closed));
  if (health.healthy) {
    health.words = Cat("healthy: ", nodes == 1 ? "the one node answers" : Cat("all ", nodes, " nodes answer"),
                       ", epoch ", found.epochs.begin()->first, nodes == 1 ? "" : " everywhere", ", nothing moves",
                       replicas == 1 ? "" : Cat(", ", replicas, " copies find distinct zones (", zones, ")"), closed);
    return health;
  }
  std::vector<std::string> words;
  if (!found.silent.empty()) words.push_back(Cat(found.silent.size(), " of ", Counted(nodes, "node"), " unreachable"));
  if (found.epochs.size() > 1) words.push_back(Cat(found.epochs.size(), " different memberships"));
  if (!found.moving.empty()) words.push_back(Cat("blocks move at ", Counted(found.moving.size(), "node")));
  if (words.empty()) words.push_back(Counted(health.troubles.size(), "trouble"));
  health.words = Cat("not healthy: ", Join(words, ", "), closed);
  return health;
}

std::vector<std::pair<std::string, uint64_t>> CountersWorthALook(const NodeStatus& status) {
  static constexpr std::string_view kSigns[] = {"failed", "refused", "prevented", "dropped", "expired",  "unsaved",
                                                "stale",  "damaged", "lost",      "repair",  "rejected", "silent"};
  std::vector<std::pair<std::string, uint64_t>> found;
  for (const auto& [name, value] : status.counters) {
    const std::string_view text = name;
    const bool sign = std::any_of(std::begin(kSigns), std::end(kSigns),
                                  [text](std::string_view s) { return text.find(s) != text.npos; });
    if (sign && value != 0) found.emplace_back(name, value);
  }
  return found;
}

}  // namespace kvasir
