// SPDX-License-Identifier: Apache-2.0
// kvasir node ls, describe, drain, cordon, uncordon.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "deploy/kvasir/cluster_view.h"
#include "deploy/kvasir/command.h"
#include "deploy/kvasir/drain.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

using Json = nlohmann::ordered_json;

/// The cluster and the node in it that a command is about.
struct Asked {
  AskedCluster cluster;
  const AskedNode* node = nullptr;
};

absl::StatusOr<Asked> Ask(const GlobalFlags& global, const std::string& id) {
  auto cluster = AskCluster(global, /*only_named=*/false);
  if (!cluster.ok()) return cluster.status();
  Asked asked{.cluster = *std::move(cluster), .node = nullptr};
  const auto node = FindNode(asked.cluster, id);
  if (!node.ok()) return node.status();
  asked.node = *node;
  return asked;
}

/// A node that must answer for what the command is to do.
absl::Status MustAnswer(const AskedNode& node) {
  if (node.status.ok()) return absl::OkStatus();
  return absl::UnavailableError(Cat("node ", node.id, " does not answer at ", node.address, ": ",
                                    CauseOf(node.status.status()),
                                    ". Start it again on its directory, then repeat this"));
}

absl::Status Failed(const AskedNode& node, const absl::Status& status) {
  return absl::Status(status.code(), Cat("node ", node.id, " at ", node.address, ": ", CauseOf(status),
                                         ". See what it does: kvasir node describe ", node.id));
}

void Line(const char* name, const std::string& value) { std::printf("%-10s  %s\n", name, value.c_str()); }

std::string MoveText(const MoveStatus& move) {
  if (move.settled) return "settled";
  std::string text = Cat("for the membership of epoch ", move.epoch);
  if (move.bytes_total > 0) text = Cat(HumanBytes(move.bytes_done), " of ", HumanBytes(move.bytes_total), ", ", text);
  if (move.runs_total > 0) text = Cat(move.runs_done, " of ", Counted(move.runs_total, "run"), ", ", text);
  return text;
}

void PrintTiers(const NodeStatus& s) {
  Table table({"TIER", "STATE", "CAPACITY", "USED", "FULL", "SEALED", "PARTS"});
  for (const TierStatus& tier : s.tiers) {
    table.Row({tier.name, tier.state, HumanBytes(tier.capacity), HumanBytes(tier.used), FillOf(s, tier.name),
               HumanBytes(tier.live), Cat(tier.parts)});
  }
  if (!table.empty()) std::printf("\n%s", table.Text().c_str());
}

void PrintPairs(const char* name, const char* value, const std::vector<std::pair<std::string, std::string>>& pairs) {
  Table table({name, value});
  for (const auto& [left, right] : pairs) table.Row({left, right});
  if (!table.empty()) std::printf("\n%s", table.Text().c_str());
}

void PrintPeers(const NodeStatus& s) {
  Table table({"PEER", "AS THIS NODE SEES IT", "LAST ANSWER"});
  for (const PeerStatus& peer : s.peers) {
    table.Row({peer.id, peer.state, peer.state == "unknown" ? "-" : HumanDuration(peer.since) + " ago"});
  }
  if (!table.empty()) std::printf("\n%s", table.Text().c_str());
}

/// How its peers see a node.
void PrintSeenBy(const AskedCluster& cluster, const std::string& id) {
  Table table({"SEEN BY", "STATE", "LAST ANSWER"});
  for (const AskedNode& node : cluster.nodes) {
    if (!node.status.ok()) continue;
    for (const PeerStatus& peer : node.status->peers) {
      if (peer.id == id)
        table.Row({node.id, peer.state, peer.state == "unknown" ? "-" : HumanDuration(peer.since) + " ago"});
    }
  }
  if (!table.empty()) std::printf("\n%s", table.Text().c_str());
}

void PrintStatus(const NodeStatus& s) {
  Line("up", Cat(HumanDuration(s.uptime), ", version ", s.version));
  Line("device", s.device);
  Line("membership", Cat("epoch ", s.epoch, ", ", Counted(s.membership.members.size(), "member"),
                         ", from: ", s.membership_source.empty() ? "-" : s.membership_source));
  Line("serves", Cat(Counted(s.sessions, "session"), ", ", Counted(s.leases, "lease")));
  Line("holds", Cat(Counted(s.blocks, "block"), " in ", Counted(s.parts, "part")));
  Line("takes over", MoveText(s.taking_over));
  Line("hands over", MoveText(s.handing_over));
  PrintTiers(s);
  PrintPairs("FEATURE", "STATE", s.features);
  PrintPeers(s);
  std::vector<std::pair<std::string, std::string>> counters;
  for (const auto& [name, value] : CountersWorthALook(s)) counters.emplace_back(name, Cat(value));
  PrintPairs("COUNTER WORTH A LOOK", "VALUE", counters);
}

void PrintNode(const AskedCluster& cluster, const AskedNode& node) {
  Line("node", Cat(node.id, " at ", node.address));
  Line("state", StateOf(node));
  if (!node.status.ok()) Line("cause", CauseOf(node.status.status()));
  if (const Member* member = cluster.membership.Find(node.id); member != nullptr) {
    Line("member", Cat("zone ", member->zone.empty() ? "of its own" : member->zone, ", weight ", member->weight, ", ",
                       Counted(member->shards, "shard"), ", own epoch ", member->epoch));
  } else {
    Line("member", "no: the membership does not name it");
  }
  if (node.status.ok()) PrintStatus(*node.status);
  PrintSeenBy(cluster, node.id);
}

absl::Status Confirm(const DrainPlan& plan, bool yes) {
  std::fprintf(stderr, "%s", plan.Text().c_str());
  if (yes) return absl::OkStatus();
  if (isatty(STDIN_FILENO) == 0) {
    return absl::InvalidArgumentError(Cat(
        "a drain wants a yes, and nobody is there to be asked. Add --yes: kvasir node drain ", plan.node, " --yes"));
  }
  std::fprintf(stderr, "Go on? [y/N] ");
  std::string answer;
  std::getline(std::cin, answer);
  answer = Lower(Trim(answer));
  if (answer == "y" || answer == "yes") return absl::OkStatus();
  return absl::CancelledError("nothing was done. Type y to drain, or keep new blocks away only: kvasir node cordon " +
                              plan.node);
}

/// What the node says now that it was told, in JSON or one sentence.
void Tell(const GlobalFlags& global, const Asked& asked, const NodeStatus& status, const std::string& sentence) {
  if (!global.json) {
    std::printf("%s\n", sentence.c_str());
    return;
  }
  AskedNode told = *asked.node;
  told.status = status;
  std::printf("%s\n", NodeJson(asked.cluster, told).dump(1).c_str());
}

}  // namespace

absl::Status RunNodeList(const GlobalFlags& global, const NodeListFlags&) {
  const auto cluster = AskCluster(global, /*only_named=*/false);
  if (!cluster.ok()) return cluster.status();
  if (global.json) {
    Json out = Json::array();
    for (const AskedNode& node : cluster->nodes) out.push_back(NodeJson(*cluster, node));
    std::printf("%s\n", out.dump(1).c_str());
  } else {
    const std::string silent = SilentLines(*cluster);
    std::printf("%s%s%s", NodeTable(*cluster).Text().c_str(), silent.empty() ? "" : "\n", silent.c_str());
  }
  return WithoutSilent(*cluster, "of them only what the membership says is shown");
}

absl::Status RunNodeDescribe(const GlobalFlags& global, const NodeDescribeFlags& flags) {
  const auto asked = Ask(global, flags.id);
  if (!asked.ok()) return asked.status();
  if (global.json) {
    std::printf("%s\n", NodeJson(asked->cluster, *asked->node).dump(1).c_str());
  } else {
    PrintNode(asked->cluster, *asked->node);
  }
  if (asked->node->status.ok()) return absl::OkStatus();
  return PartialError(Cat("node ", flags.id, " does not answer at ", asked->node->address, ": ",
                          CauseOf(asked->node->status.status()),
                          ". Shown is what the others know. Start it again on its directory"));
}

absl::Status RunNodeCordon(const GlobalFlags& global, const NodeCordonFlags& flags) {
  const auto asked = Ask(global, flags.id);
  if (!asked.ok()) return asked.status();
  const AskedNode& node = *asked->node;
  if (absl::Status status = MustAnswer(node); !status.ok()) return status;
  const auto told = Await<NodeStatus>(
      global.timeout, [&](Answer<NodeStatus> answer) { node.admin->Cordon(flags.cordon, std::move(answer)); });
  if (!told.ok()) return Failed(node, told.status());
  const std::string sentence = flags.cordon
                                   ? Cat("node ", node.id, " is cordoned: it takes no new blocks, and serves the ",
                                         told->blocks, " that it has. Undo: kvasir node uncordon ", node.id)
                                   : Cat("node ", node.id, " is ", told->state, ": it takes new blocks");
  Tell(global, *asked, *told, sentence);
  return absl::OkStatus();
}

absl::Status RunNodeDrain(const GlobalFlags& global, const NodeDrainFlags& flags) {
  const auto asked = Ask(global, flags.id);
  if (!asked.ok()) return asked.status();
  const AskedNode& node = *asked->node;
  if (absl::Status status = MustAnswer(node); !status.ok()) return status;
  if (absl::Status status = Confirm(PlanDrain(asked->cluster, node), flags.yes); !status.ok()) return status;
  const Duration wait = flags.no_wait ? Duration::zero() : flags.wait;
  const auto last = FollowDrain(*node.admin, {.wait = wait, .timeout = global.timeout}, Progress::Options());
  if (!last.ok()) return Failed(node, last.status());
  const absl::Status judged = JudgeDrain(*last, wait);
  if (judged.ok()) {
    Tell(global, *asked, *last,
         Cat("node ", node.id,
             " is drained: nothing is left with it alone. Stop it now, or take it back: kvasir node uncordon ",
             node.id));
  } else if (flags.no_wait) {
    Tell(global, *asked, *last,
         Cat("node ", node.id, " is ", last->state, ". See how far it is: kvasir node describe ", node.id));
  } else if (global.json) {
    Tell(global, *asked, *last, "");
  }
  return flags.no_wait ? absl::OkStatus() : judged;
}

}  // namespace kvasir
