// SPDX-License-Identifier: Apache-2.0
// LinkDesk: what the links of one asker share: a Session of the client, or a node that asks its peers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "store/api/store_api.h"
#include "store/link/mailbox.h"
#include "transport/loop.h"
#include "transport/transport.h"

namespace kvasir {

/// What a link did, for counters.
enum class LinkNews : uint8_t { kHello, kOffer, kAcquire, kNodeFailure, kLeaseLost };

/// Borrowed by every link and outlives them. The Loop only.
struct LinkDesk {
  Loop& loop;
  std::shared_ptr<Mailbox> mailbox;
  HelloRequest hello;                   ///< who asks, about what
  std::vector<std::string> transports;  ///< best first
  Duration call_deadline{};             ///< of small calls; a silent node is given up after it
  Duration retry_pause{};               ///< a node that failed is not dialled for this long, but by kTry
  std::function<std::shared_ptr<StoreApi>(const std::string& control)> dial;
  /// Null when this asker has none of that name.
  std::function<Transport*(const std::string& name)> transport;
  std::function<void(LinkNews)> count;
  std::function<void(const std::string& node, const std::string& warning)> warn;  ///< may be empty
  uint64_t next_scope = 1;              ///< every data connection has a scope of its own: grants die with it
};

}  // namespace kvasir
