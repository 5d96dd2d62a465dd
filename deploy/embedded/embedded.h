// SPDX-License-Identifier: Apache-2.0
// Embedded: a node inside the caller's process. No ports, no gRPC, no copies through sockets; the same calls and the
// same bytes as a kvasird, so that an engine may begin with it and move to a cluster by changing SessionOptions only.
//
//   auto store = StartEmbedded({.dram_bytes = 1ull << 30});
//   SessionOptions options{...};
//   store->Attach(&options);
//   auto session = Session::Open(options);
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/session.h"
#include "store/node.h"

namespace kvasir {

struct Embedded {
  /// Shared because every Session attached to it holds it: the node ends with the last of them.
  std::shared_ptr<Node> node;
  std::string address;  ///< what Sessions call it; means nothing outside this process

  /// Points a Session at this node: sets nodes, dial and transports, and leaves the rest alone.
  void Attach(SessionOptions* options) const;
};

/// As Node::Start. Without a membership the node is a cluster of its own; with one it must be in it, and can be reached
/// from this process only. Data listeners are "loopback" whatever options.transports says.
absl::StatusOr<Embedded> StartEmbedded(NodeOptions options);

}  // namespace kvasir
