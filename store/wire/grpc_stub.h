// SPDX-License-Identifier: Apache-2.0
// The client half: a node at an address, as the plain calls of store/api. No gRPC type is seen here.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "store/api/admin_api.h"
#include "store/api/peer_api.h"
#include "store/api/store_api.h"

namespace kvasir {

/// Never blocks, never fails: a node that cannot be reached answers Unavailable at once, and is tried again at least
/// once a second. Thread safe. Answers come exactly once, on gRPC's threads, also after the object is gone. A Watcher
/// may be destroyed from inside its own callback. shared_ptr, because sessions to one node share it.
std::shared_ptr<StoreApi> MakeGrpcStore(const std::string& address);
/// The same for operators; each call has a deadline of kAdminDeadline (Drain: beside its wait).
std::shared_ptr<AdminApi> MakeGrpcAdmin(const std::string& address);
/// What another node asks of one.
std::shared_ptr<PeerApi> MakeGrpcPeer(const std::string& address);
inline constexpr Duration kAdminDeadline = std::chrono::seconds(10);

/// Asks the health service at `address` whether it answers at all, as a load balancer would; a node asks itself so, to learn
/// whether its gRPC threads run. Never blocks; the answer comes on a gRPC thread, false after kPingDeadline.
using GrpcPing = std::function<void(std::function<void(bool well)> answered)>;
GrpcPing MakeGrpcPing(const std::string& address);
inline constexpr Duration kPingDeadline = std::chrono::seconds(2);

}  // namespace kvasir
