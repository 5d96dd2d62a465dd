// SPDX-License-Identifier: Apache-2.0
// kvasir locate: the placement that clients and nodes compute, beside what nodes list.
#include "deploy/kvasir/locate.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "deploy/kvasir/cluster_view.h"
#include "deploy/kvasir/command.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kKeyDigits = 64;

/// The nodes that hold a copy: whoever has a block has its run, so they are asked first.
AskedCluster Holders(const AskedCluster& cluster, const std::vector<HeldBlock>& copies) {
  AskedCluster holders{.membership = cluster.membership, .nodes = {}};
  for (const AskedNode& node : cluster.nodes) {
    if (std::any_of(copies.begin(), copies.end(), [&node](const HeldBlock& c) { return c.node == node.id; }))
      holders.nodes.push_back(node);
  }
  return holders;
}

/// From parent to parent to the first block of the run. Nothing where one on the way is not stored.
std::optional<BlockKey> FindRun(const AskedCluster& cluster, const Located& located, Duration timeout) {
  BlockInfo at = located.copies.front().block;
  const AskedCluster holders = Holders(cluster, located.copies);
  for (uint32_t steps = at.block_index % located.run_blocks; steps > 0; --steps) {
    const std::string parent = ToHex(at.parent);
    auto found = OneBlock(holders, parent, timeout);
    if (!found.ok()) found = OneBlock(cluster, parent, timeout);
    if (!found.ok()) return std::nullopt;
    at = found->front().block;
  }
  return at.key;
}

LocatedNode& NodeAt(std::map<std::string, LocatedNode>& nodes, const AskedCluster& cluster, const std::string& id) {
  LocatedNode& node = nodes[id];
  node.id = id;
  const AskedNode* asked = cluster.Find(id);
  node.state = asked == nullptr ? "unknown" : StateOf(*asked);
  return node;
}

/// Whether one of its copies has all parts.
bool HoldsWhole(const LocatedNode& node) {
  return std::any_of(node.copies.begin(), node.copies.end(),
                     [](const HeldBlock* c) { return c->block.parts == c->block.parts_of; });
}

std::string TiersOf(const BlockInfo& block) {
  if (block.dram_bytes > 0 && block.ssd_bytes > 0) return "dram, ssd";
  return block.dram_bytes > 0 ? "dram" : block.ssd_bytes > 0 ? "ssd" : "-";
}
std::string RankText(uint32_t rank) { return rank == 0 ? "-" : Cat(rank); }

void PrintTable(const AskedCluster& cluster, const Located& located, const std::vector<LocatedNode>& nodes) {
  std::printf("key        %s\n", ToHex(located.key).c_str());
  if (!located.copies.empty()) {
    const BlockInfo& block = located.copies.front().block;
    std::printf("block      %u of its chain, %u tokens, namespace %s\n", block.block_index, block.token_count,
                block.namespace_name.c_str());
  }
  std::printf("run        %s\n", located.run.has_value()
                                     ? Cat(ToHex(*located.run), ", ", located.run_blocks, " blocks a run").c_str()
                                     : "not known: a block of its run that comes before it is not stored");
  std::printf("epoch      %llu of the membership, %zu members\n\n",
              static_cast<unsigned long long>(cluster.membership.epoch), cluster.membership.members.size());
  Table table({"NODE", "STATE", "SHARD", "RANK", "BEFORE", "SHOULD HOLD", "HOLDS", "CODEC", "PARTS", "SIZE", "TIER"});
  for (const LocatedNode& node : nodes) {
    const std::string should = node.should ? "yes" : node.should_before ? "until moved" : "no";
    const std::vector<std::string> where = {node.id,
                                            node.state,
                                            node.rank + node.rank_before == 0 ? "-" : Cat(node.shard),
                                            RankText(node.rank),
                                            RankText(node.rank_before),
                                            should};
    const auto row = [&](std::vector<std::string> rest) {
      rest.insert(rest.begin(), where.begin(), where.end());
      table.Row(std::move(rest));
    };
    if (node.copies.empty()) row({node.state == "unreachable" ? "?" : "no", "-", "-", "-", "-"});
    for (const HeldBlock* copy : node.copies) {
      const BlockInfo& b = copy->block;
      row({b.parts == b.parts_of ? "yes" : "in part", b.spec, Cat(b.parts, "/", b.parts_of), HumanBytes(b.bytes),
           TiersOf(b)});
    }
  }
  std::printf("%s\n%s\n", table.Text().c_str(), VerdictOf(nodes, located).c_str());
}

void PrintJson(const AskedCluster& cluster, const Located& located, const std::vector<LocatedNode>& nodes) {
  Json out = {{"key", ToHex(located.key)},
              {"run", located.run.has_value() ? Json(ToHex(*located.run)) : Json()},
              {"run_blocks", located.run_blocks},
              {"replicas", located.replicas},
              {"epoch", cluster.membership.epoch},
              {"verdict", VerdictOf(nodes, located)},
              {"nodes", Json::array()}};
  for (const LocatedNode& node : nodes) {
    Json copies = Json::array();
    for (const HeldBlock* copy : node.copies) copies.push_back(ToJson(*copy));
    out["nodes"].push_back({{"id", node.id},
                            {"state", node.state},
                            {"shard", node.shard},
                            {"rank", node.rank},
                            {"rank_before", node.rank_before},
                            {"should_hold", node.should},
                            {"should_have_held", node.should_before},
                            {"copies", copies}});
  }
  std::printf("%s\n", out.dump(1).c_str());
}

}  // namespace

std::vector<LocatedNode> NodesOf(const AskedCluster& cluster, const Located& located) {
  std::map<std::string, LocatedNode> nodes;
  for (const HeldBlock& copy : located.copies) NodeAt(nodes, cluster, copy.node).copies.push_back(&copy);
  const auto all = static_cast<uint32_t>(cluster.membership.members.size());
  const auto rank = [&](Owning owning, uint32_t LocatedNode::*rank, bool LocatedNode::*should) {
    const std::vector<Placed> places = Place(*located.run, cluster.membership, all, owning);
    for (uint32_t i = 0; i < places.size(); ++i) {
      const std::string& id = cluster.membership.members[places[i].member].id;
      if (i >= located.replicas && !nodes.contains(id)) continue;  // one of the many that have nothing to do with it
      LocatedNode& node = NodeAt(nodes, cluster, id);
      node.shard = places[i].shard;
      node.*rank = i + 1;
      node.*should = i < located.replicas;
    }
  };
  if (located.run.has_value()) {
    rank(Owning::kNow, &LocatedNode::rank, &LocatedNode::should);
    rank(Owning::kBefore, &LocatedNode::rank_before, &LocatedNode::should_before);
  }
  std::vector<LocatedNode> out;
  for (auto& [id, node] : nodes) out.push_back(std::move(node));
  std::stable_sort(out.begin(), out.end(),
                   [](const LocatedNode& a, const LocatedNode& b) { return a.rank - 1 < b.rank - 1; });  // 0 comes last
  return out;
}

std::string VerdictOf(const std::vector<LocatedNode>& nodes, const Located& located) {
  if (!located.run.has_value()) return "Who should hold it is not known; who does is above.";
  if (located.copies.empty()) return "No node that answered holds it.";
  size_t owners = 0, whole = 0;
  std::vector<std::string> lacking, silent, others;
  for (const LocatedNode& node : nodes) {
    if (!node.should && !node.copies.empty()) others.push_back(node.id);
    if (!node.should) continue;
    ++owners;
    if (HoldsWhole(node)) ++whole;
    if (!HoldsWhole(node)) (node.state == "unreachable" ? silent : lacking).push_back(node.id);
  }
  std::string text =
      Cat(whole, " of ", owners, owners == 1 ? " node that should hold it does." : " nodes that should hold it do.");
  if (!lacking.empty()) {
    text += Cat(" Not ", Join(lacking, ", "), ": it was pushed with fewer copies than ", located.replicas,
                ", was evicted there, or is on its way (see: kvasir node ls).");
  }
  if (!silent.empty()) text += Cat(" ", Join(silent, ", "), " does not answer.");
  if (!others.empty()) text += Cat(" Also held by ", Join(others, ", "), ": from before, or as a copy of a hot run.");
  return text;
}

absl::Status RunLocate(const GlobalFlags& global, const LocateFlags& flags) {
  const std::string prefix = Lower(flags.key);
  if (absl::Status status = CheckKeyPrefix(prefix); !status.ok()) return status;
  const auto cluster = AskCluster(global, /*only_named=*/false);
  if (!cluster.ok()) return cluster.status();
  const auto run_blocks = AskRunBlocks(*cluster, global.timeout);
  if (!run_blocks.ok()) return run_blocks.status();
  Located located{.key = {}, .run = {}, .run_blocks = *run_blocks, .replicas = flags.replicas, .copies = {}};
  auto copies = OneBlock(*cluster, prefix, global.timeout);
  const bool absent = absl::IsNotFound(copies.status());
  if (!copies.ok() && !(absent && prefix.size() == kKeyDigits)) return copies.status();
  if (absent) {
    located.key.bytes = *FromHex(prefix);
    located.run = located.key;
  } else {
    located.copies = *std::move(copies);
    located.key = located.copies.front().block.key;
    located.run = FindRun(*cluster, located, global.timeout);
  }
  const std::vector<LocatedNode> nodes = NodesOf(*cluster, located);
  if (global.json) PrintJson(*cluster, located, nodes);
  if (!global.json) PrintTable(*cluster, located, nodes);
  if (absl::Status silent = WithoutSilent(*cluster, "whether they hold it is not known"); !silent.ok()) return silent;
  if (!absent) return absl::OkStatus();
  return absl::NotFoundError(
      "no node holds it. Where it should lie is told as if it were the first block of its run: the key alone does not "
      "say which it is. See what there is: kvasir ls");
}

}  // namespace kvasir
