// SPDX-License-Identifier: Apache-2.0
// kvasir status: the nodes of a cluster, how full their tiers are, and what they counted.
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>

#include "deploy/kvasir/command.h"
#include "deploy/kvasir/nodes.h"
#include "deploy/term.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const AskedNode& node) {
  Json out = {{"id", node.id}, {"control", node.address}, {"reachable", node.status.ok()}};
  if (!node.status.ok()) {
    out["cause"] = TextOf(node.status.status().message());
    return out;
  }
  const NodeStatus& s = *node.status;
  out.update({{"version", s.version},
              {"state", s.state},
              {"device", s.device},
              {"uptime_s", std::chrono::duration<double>(s.uptime).count()},
              {"epoch", s.epoch},
              {"sessions", s.sessions},
              {"leases", s.leases},
              {"blocks", s.blocks},
              {"parts", s.parts},
              {"tiers", Json::array()},
              {"counters", Json::object()}});
  for (const TierStatus& tier : s.tiers) {
    out["tiers"].push_back({{"name", tier.name},
                            {"state", tier.state},
                            {"capacity", tier.capacity},
                            {"used", tier.used},
                            {"live", tier.live},
                            {"parts", tier.parts}});
  }
  for (const auto& [name, value] : s.counters) out["counters"][name] = value;
  return out;
}

void PrintNodes(const std::vector<AskedNode>& nodes) {
  Table table({"NODE", "ADDRESS", "STATE", "UP", "BLOCKS", "PARTS", "SESSIONS", "LEASES", "VERSION"});
  for (const AskedNode& node : nodes) {
    const std::string id = node.id.empty() ? "?" : node.id;
    if (!node.status.ok()) {
      table.Row({id, node.address, "no answer", "-", "-", "-", "-", "-", "-"});
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

}  // namespace

absl::Status RunStatus(const GlobalFlags& global, const StatusFlags& flags) {
  const auto nodes = AskNodes(global, flags.only_named);
  if (!nodes.ok()) return nodes.status();
  if (global.json) {
    Json out = Json::array();
    for (const AskedNode& node : *nodes) out.push_back(ToJson(node));
    std::printf("%s\n", out.dump(1).c_str());
  } else {
    PrintNodes(*nodes);
    PrintTiers(*nodes);
    PrintCounters(*nodes);
  }
  std::vector<std::string> silent;
  for (const AskedNode& node : *nodes) {
    if (!node.status.ok()) silent.push_back(Cat(node.id.empty() ? "?" : node.id, " (", node.address, ")"));
  }
  if (silent.empty()) return absl::OkStatus();
  return absl::UnavailableError(Cat(silent.size(), " of ", nodes->size(), " nodes did not answer: ", Join(silent, ", "),
                                    ". Blocks that others hold too are served by those; start the silent ones again on "
                                    "their directories"));
}

}  // namespace kvasir
