// SPDX-License-Identifier: Apache-2.0
// Dialling and asking nodes. The only file of the command line that names the wire.
#include "deploy/kvasir/nodes.h"

#include <algorithm>
#include <set>

#include "deploy/text.h"
#include "store/wire/grpc_stub.h"

namespace kvasir {
namespace {

AskedNode Ask(const std::string& address, Duration timeout) {
  AskedNode node{.id = "", .address = address, .admin = MakeGrpcAdmin(address), .status = absl::UnknownError("")};
  node.status =
      Await<NodeStatus>(timeout, [&node](Answer<NodeStatus> answer) { node.admin->Status(std::move(answer)); });
  if (node.status.ok()) node.id = node.status->node_id;
  return node;
}

}  // namespace

absl::Status Unreachable(const std::string& address, const absl::Status& status) {
  std::string cause(TextOf(status.message()));
  const bool refused = Lower(cause).find("refused") != std::string::npos;
  const bool unnamed = Lower(cause).find("resol") != std::string::npos || Lower(cause).find("dns") != std::string::npos;
  if (refused) cause = "connection refused";
  if (status.code() == absl::StatusCode::kDeadlineExceeded) cause = "no answer in time";
  if (unnamed)
    return absl::UnavailableError(Cat("no node answers at ", address, ": the name is unknown. Check --node"));
  return absl::UnavailableError(Cat(
      "no node answers at ", address, ": ", cause, ". ",
      address == kDefaultControl ? "Start one with: kvasird --dev" : "Is kvasird running there, and is --node right?"));
}

absl::StatusOr<std::vector<AskedNode>> AskNodes(const GlobalFlags& global, bool only_named) {
  std::vector<AskedNode> nodes;
  std::set<std::string> ids;
  Membership membership;
  for (const std::string& address : global.nodes) {
    nodes.push_back(Ask(address, global.timeout));
    const AskedNode& node = nodes.back();
    ids.insert(node.id);
    if (node.status.ok() && node.status->membership.epoch >= membership.epoch) membership = node.status->membership;
  }
  if (std::none_of(nodes.begin(), nodes.end(), [](const AskedNode& node) { return node.status.ok(); })) {
    return Unreachable(nodes[0].address, nodes[0].status.status());
  }
  if (!only_named) {
    for (const Member& member : membership.members) {
      const auto named = std::find_if(nodes.begin(), nodes.end(), [&member](const AskedNode& node) {
        return node.id == member.id || (node.id.empty() && node.address == member.control);
      });
      AskedNode& node = named != nodes.end() ? *named : nodes.emplace_back(Ask(member.control, global.timeout));
      if (node.id.empty()) node.id = member.id;
    }
  }
  std::stable_sort(nodes.begin(), nodes.end(), [](const AskedNode& a, const AskedNode& b) { return a.id < b.id; });
  return nodes;
}

}  // namespace kvasir
