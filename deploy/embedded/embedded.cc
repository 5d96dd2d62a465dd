// SPDX-License-Identifier: Apache-2.0
// Puts a Node and the loopback transport together: plain calls instead of gRPC.
#include "deploy/embedded/embedded.h"

#include <utility>

namespace kvasir {
namespace {

constexpr const char* kTransport = "loopback";

}  // namespace

void Embedded::Attach(SessionOptions* options) const {
  options->nodes = {address};
  options->transports = {kTransport};
  options->dial = [node = node, address = address](const std::string& control) -> std::shared_ptr<StoreApi> {
    return control == address ? node : nullptr;
  };
}

absl::StatusOr<Embedded> StartEmbedded(NodeOptions options) {
  Embedded embedded;
  options.transports = {kTransport};
  if (options.membership.members.empty()) {
    options.membership = {.epoch = 1, .members = {{options.id, "embedded:" + options.id, options.shards, 100, ""}}};
  }
  if (const Member* self = options.membership.Find(options.id)) embedded.address = self->control;
  absl::StatusOr<std::unique_ptr<Node>> node = Node::Start(std::move(options));
  if (!node.ok()) return node.status();
  embedded.node = *std::move(node);
  return embedded;
}

}  // namespace kvasir
