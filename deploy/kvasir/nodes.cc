// SPDX-License-Identifier: Apache-2.0
// Dialling and asking nodes. The only file of the command line that dials.
#include "deploy/kvasir/nodes.h"

#include <algorithm>
#include <set>

#include "deploy/text.h"
#include "store/wire/grpc_stub.h"

namespace kvasir {
namespace {

constexpr size_t kAskedAtOnceMax = 256;

/// Asks all of them, many at once: silent ones cost the time of one.
void AskAll(const std::vector<AskedNode*>& nodes, Duration timeout) {
  for (size_t begin = 0; begin < nodes.size(); begin += kAskedAtOnceMax) {
    const size_t end = std::min(nodes.size(), begin + kAskedAtOnceMax);
    std::vector<std::future<absl::StatusOr<NodeStatus>>> answers;
    for (size_t i = begin; i < end; ++i) {
      nodes[i]->admin = MakeGrpcAdmin(nodes[i]->address);
      answers.push_back(Start<NodeStatus>(
          [admin = nodes[i]->admin](Answer<NodeStatus> answer) { admin->Status(std::move(answer)); }));
    }
    const auto until = std::chrono::steady_clock::now() + timeout;
    for (size_t i = begin; i < end; ++i) {
      nodes[i]->status = AwaitUntil(until, answers[i - begin]);
      if (nodes[i]->status.ok()) nodes[i]->id = nodes[i]->status->node_id;
    }
  }
}

AskedNode Unasked(const std::string& id, const std::string& address) {
  return {.id = id, .address = address, .admin = nullptr, .status = absl::UnknownError("")};
}

}  // namespace

std::string CauseOf(const absl::Status& status) {
  const std::string cause(TextOf(status.message())), lower = Lower(cause);
  const bool late =
      status.code() == absl::StatusCode::kDeadlineExceeded || lower.find("timed out") != std::string::npos;
  if (late) return "no answer in time";
  if (lower.find("refused") != std::string::npos) return "connection refused";
  if (lower.find("resol") != std::string::npos || lower.find("dns") != std::string::npos)
    return std::string(kNameUnknown);
  return cause;
}

absl::Status Unreachable(const std::string& address, const absl::Status& status) {
  const std::string cause = CauseOf(status);
  if (cause == kNameUnknown) {
    return absl::UnavailableError(Cat("no node answers at ", address, ": ", kNameUnknown, ". Check --node"));
  }
  return absl::UnavailableError(Cat(
      "no node answers at ", address, ": ", cause, ". ",
      address == kDefaultControl ? "Start one with: kvasird --dev" : "Is kvasird running there, and is --node right?"));
}

const AskedNode* AskedCluster::Find(std::string_view id) const {
  const auto at = std::find_if(nodes.begin(), nodes.end(), [id](const AskedNode& node) { return node.id == id; });
  return at == nodes.end() ? nullptr : &*at;
}

absl::StatusOr<AskedCluster> AskCluster(const GlobalFlags& global, bool only_named) {
  AskedCluster cluster;
  std::vector<AskedNode>& nodes = cluster.nodes;
  std::vector<AskedNode*> asked;
  for (const std::string& address : global.nodes) nodes.push_back(Unasked("", address));
  for (AskedNode& node : nodes) asked.push_back(&node);
  AskAll(asked, global.timeout);
  const size_t named = nodes.size();
  for (const AskedNode& node : nodes) {
    if (!node.status.ok() || node.status->membership.epoch < cluster.membership.epoch) continue;
    cluster.membership = node.status->membership;
  }
  if (std::none_of(nodes.begin(), nodes.end(), [](const AskedNode& node) { return node.status.ok(); })) {
    return Unreachable(nodes[0].address, nodes[0].status.status());
  }
  for (const Member& member : cluster.membership.members) {
    const auto known = std::find_if(nodes.begin(), nodes.end(), [&member](const AskedNode& node) {
      return node.id == member.id || (node.id.empty() && node.address == member.control);
    });
    if (known != nodes.end()) {
      known->id = member.id;
    } else if (!only_named) {
      nodes.push_back(Unasked(member.id, member.control));
    }
  }
  asked.clear();
  for (size_t i = named; i < nodes.size(); ++i) asked.push_back(&nodes[i]);
  AskAll(asked, global.timeout);
  for (const AskedNode& node : nodes) {
    if (node.status.ok() && node.status->membership.epoch > cluster.membership.epoch) {
      cluster.membership = node.status->membership;
    }
  }
  std::stable_sort(nodes.begin(), nodes.end(), [](const AskedNode& a, const AskedNode& b) { return a.id < b.id; });
  return cluster;
}

absl::StatusOr<const AskedNode*> FindNode(const AskedCluster& cluster, const std::string& id) {
  if (const AskedNode* node = cluster.Find(id); node != nullptr && !id.empty()) return node;
  std::vector<std::string> ids;
  for (const AskedNode& node : cluster.nodes) {
    if (!node.id.empty()) ids.push_back(node.id);
  }
  const std::string_view near = Nearest(id, ids);
  return absl::InvalidArgumentError(Cat("there is no node ", id, " in this cluster",
                                        near.empty() ? Cat(". See the ", ids.size(), " that there are: kvasir node ls")
                                                     : Cat("; did you mean ", near, "?")));
}

absl::StatusOr<uint32_t> AskRunBlocks(const AskedCluster& cluster, Duration timeout) {
  // Only Hello says it. A namespace of its own, so that it stands in nobody's way; the session ends by itself.
  HelloRequest hello;
  hello.client = "kvasir locate";
  hello.ns.name = "kvasir-locate";
  hello.ns.layout = {.layers = 1, .kv_heads = 1, .key_dim = 8, .value_dim = 8, .element = ElementType::kBfloat16};
  absl::Status last = absl::UnavailableError("no node answers");
  for (const AskedNode& node : cluster.nodes) {
    if (!node.status.ok()) continue;
    const auto store = MakeGrpcStore(node.address);
    const auto reply =
        Await<HelloReply>(timeout, [&](Answer<HelloReply> answer) { store->Hello(hello, timeout, std::move(answer)); });
    if (reply.ok() && reply->run_blocks > 0) return reply->run_blocks;
    last = reply.status();
  }
  return absl::UnavailableError(
      Cat("no node says how many blocks are a run: ", last.message(), ". Try again; see: kvasir node ls"));
}

absl::Status WithoutSilent(const AskedCluster& cluster, std::string_view without) {
  std::vector<std::string> silent;
  for (const AskedNode& node : cluster.nodes) {
    if (node.status.ok()) continue;
    silent.push_back(Cat(node.id.empty() ? "?" : node.id, " (", node.address, "): ", CauseOf(node.status.status())));
  }
  if (silent.empty()) return absl::OkStatus();
  return PartialError(
      Cat(silent.size(), " of ", cluster.nodes.size(), " nodes did not answer: ", Join(silent, ", "), "; ", without,
          ". Blocks that others hold too are served by those; start the silent ones again on their directories"));
}

}  // namespace kvasir
