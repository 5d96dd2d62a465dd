// SPDX-License-Identifier: Apache-2.0
// kvasir status: the nodes of a cluster, how full their tiers are, and what they counted; with --cluster one table and
// whether the whole is healthy.
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "deploy/kvasir/cluster_view.h"
#include "deploy/kvasir/command.h"
#include "deploy/term.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

using Json = nlohmann::ordered_json;

void PrintNodes(const std::vector<AskedNode>& nodes) {
  Table table({"NODE", "ADDRESS", "STATE", "UP", "BLOCKS", "PARTS", "SESSIONS", "LEASES", "VERSION"});
  for (const AskedNode& node : nodes) {
    const std::string id = node.id.empty() ? "?" : node.id;
    if (!node.status.ok()) {
      table.Row({id, node.address, "unreachable", "-", "-", "-", "-", "-", "-"});
      continue;
    }
    const NodeStatus& s = *node.status;
    table.Row({id, node.address, s.state, HumanDuration(s.uptime), Cat(s.blocks), Cat(s.parts), Cat(s.sessions),
               Cat(s.leases), s.version});
  }
  std::printf("%s", table.Text().c_str());
}

void PrintTiers(const std::vector<AskedNode>& nodes) {
  Table table({"NODE", "TIER", "STATE", "CAPACITY", "USED", "FULL", "SEALED", "PARTS"});
  for (const AskedNode& node : nodes) {
    if (!node.status.ok()) continue;
    for (const TierStatus& tier : node.status->tiers) {
      const uint64_t percent = tier.capacity == 0 ? 0 : tier.used * 100 / tier.capacity;
      table.Row({node.id, tier.name, tier.state, HumanBytes(tier.capacity), HumanBytes(tier.used), Cat(percent, "%"),
                 HumanBytes(tier.live), Cat(tier.parts)});
    }
  }
  if (!table.empty()) std::printf("\n%s", table.Text().c_str());
}

/// What is off, and why; what is on only where it says more than that.
void PrintFeatures(const std::vector<AskedNode>& nodes) {
  Table table({"NODE", "FEATURE", "STATE"});
  for (const AskedNode& node : nodes) {
    if (!node.status.ok()) continue;
    for (const auto& [name, state] : node.status->features) {
      if (state != "on") table.Row({node.id, name, state});
    }
  }
  if (!table.empty()) std::printf("\n%s", table.Text().c_str());
}

/// Counters that are not zero everywhere, one column a node.
void PrintCounters(const std::vector<AskedNode>& nodes) {
  std::vector<std::string> heading = {"COUNTER"};
  std::map<std::string, std::map<std::string, uint64_t>> counters;
  for (const AskedNode& node : nodes) {
    if (!node.status.ok()) continue;
    heading.push_back(node.id);
    for (const auto& [name, value] : node.status->counters) {
      if (value != 0) counters[name][node.id] = value;
    }
  }
  Table table(heading);
  for (const auto& [name, values] : counters) {
    std::vector<std::string> row = {name};
    for (size_t i = 1; i < heading.size(); ++i) {
      const auto value = values.find(heading[i]);
      row.push_back(Cat(value == values.end() ? 0 : value->second));
    }
    table.Row(std::move(row));
  }
  if (!table.empty()) std::printf("\n%s", table.Text().c_str());
}

struct Totals {
  uint64_t answered = 0, sessions = 0, leases = 0, blocks = 0, parts = 0;
  TierStatus dram, ssd;
};

Totals TotalsOf(const AskedCluster& cluster) {
  Totals sum;
  for (const AskedNode& node : cluster.nodes) {
    if (!node.status.ok()) continue;
    const NodeStatus& s = *node.status;
    ++sum.answered;
    sum.sessions += s.sessions;
    sum.leases += s.leases;
    sum.blocks += s.blocks;
    sum.parts += s.parts;
    for (const TierStatus& tier : s.tiers) {
      TierStatus* into = tier.name == "dram" ? &sum.dram : tier.name == "ssd" ? &sum.ssd : nullptr;
      if (into == nullptr) continue;
      into->capacity += tier.capacity;
      into->used += tier.used;
      into->live += tier.live;
    }
  }
  return sum;
}

std::string UsedOf(uint64_t used, uint64_t capacity) {
  return capacity == 0 ? "-" : Cat(HumanBytes(used), " of ", HumanBytes(capacity));
}
std::string UsedOf(const NodeStatus& status, std::string_view name) {
  for (const TierStatus& tier : status.tiers) {
    if (tier.name == name) return UsedOf(tier.used, tier.capacity);
  }
  return "-";
}

void PrintCluster(const AskedCluster& cluster, const Health& health) {
  Table table(
      {"NODE", "STATE", "ZONE", "EPOCH", "UP", "BLOCKS", "PARTS", "SESSIONS", "LEASES", "DRAM", "SSD", "MOVES"});
  for (const AskedNode& node : cluster.nodes) {
    const Member* member = cluster.membership.Find(node.id);
    const std::string id = node.id.empty() ? "?" : node.id,
                      zone = member == nullptr || member->zone.empty() ? "-" : member->zone;
    if (!node.status.ok()) {
      table.Row({id, StateOf(node), zone, "-", "-", "-", "-", "-", "-", "-", "-", "-"});
      continue;
    }
    const NodeStatus& s = *node.status;
    table.Row({id, s.state, zone, Cat(s.epoch), HumanDuration(s.uptime), Cat(s.blocks), Cat(s.parts), Cat(s.sessions),
               Cat(s.leases), UsedOf(s, "dram"), UsedOf(s, "ssd"), MovesOf(s)});
  }
  const Totals sum = TotalsOf(cluster);
  table.Row({"total", Cat(sum.answered, "/", cluster.nodes.size(), " answer"), "", "", "", Cat(sum.blocks),
             Cat(sum.parts), Cat(sum.sessions), Cat(sum.leases), UsedOf(sum.dram.used, sum.dram.capacity),
             UsedOf(sum.ssd.used, sum.ssd.capacity), ""});
  std::printf("%s\n%s\n", table.Text().c_str(), health.words.c_str());
  for (const std::string& trouble : health.troubles) std::printf("  %s\n", trouble.c_str());
}

void PrintClusterJson(const AskedCluster& cluster, const Health& health) {
  const Totals sum = TotalsOf(cluster);
  Json out = {{"healthy", health.healthy},
              {"words", health.words},
              {"troubles", health.troubles},
              {"epoch", cluster.membership.epoch},
              {"totals",
               {{"nodes", cluster.nodes.size()},
                {"answered", sum.answered},
                {"blocks", sum.blocks},
                {"parts", sum.parts},
                {"sessions", sum.sessions},
                {"leases", sum.leases},
                {"dram_used", sum.dram.used},
                {"dram_capacity", sum.dram.capacity},
                {"ssd_used", sum.ssd.used},
                {"ssd_capacity", sum.ssd.capacity}}},
              {"nodes", Json::array()}};
  for (const AskedNode& node : cluster.nodes) out["nodes"].push_back(NodeJson(cluster, node));
  std::printf("%s\n", out.dump(1).c_str());
}

absl::Status ShowCluster(const GlobalFlags& global, const AskedCluster& cluster, uint32_t replicas) {
  if (replicas == 0) replicas = cluster.membership.members.size() > 1 ? 2 : 1;
  const Health health = JudgeCluster(cluster, replicas);
  if (global.json) {
    PrintClusterJson(cluster, health);
  } else {
    PrintCluster(cluster, health);
  }
  if (absl::Status silent = WithoutSilent(cluster, "the totals are without theirs"); !silent.ok()) return silent;
  if (health.healthy) return absl::OkStatus();
  return absl::UnavailableError(
      Cat("the cluster is ", health.words, ". What to do about each is in the list of troubles above"));
}

}  // namespace

absl::Status RunStatus(const GlobalFlags& global, const StatusFlags& flags) {
  const auto cluster = AskCluster(global, flags.only_named);
  if (!cluster.ok()) return cluster.status();
  if (flags.cluster) return ShowCluster(global, *cluster, flags.replicas);
  if (global.json) {
    Json out = Json::array();
    for (const AskedNode& node : cluster->nodes) out.push_back(NodeJson(*cluster, node));
    std::printf("%s\n", out.dump(1).c_str());
  } else {
    PrintNodes(cluster->nodes);
    PrintTiers(cluster->nodes);
    PrintFeatures(cluster->nodes);
    PrintCounters(cluster->nodes);
  }
  return WithoutSilent(*cluster, "what they hold is not counted here");
}

}  // namespace kvasir
