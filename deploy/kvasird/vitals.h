// SPDX-License-Identifier: Apache-2.0
// What can stall in a kvasird beside its node (gRPC's threads, the control group's memory, file descriptors, the lease that
// keeps it in the membership), and how the node's health reaches grpc.health.v1.
#pragma once

#include <functional>
#include <string>

#include "deploy/memory.h"
#include "store/health.h"
#include "store/wire/grpc_server.h"
#include "store/wire/grpc_stub.h"

namespace kvasir {

inline constexpr double kMemoryNear = 0.95;  ///< of the limit: the kernel may end the process at any moment

struct ProcessVitals {
  GrpcPing ping;                          ///< of the node's own port
  MemoryLimit memory;
  std::string memory_root = "/";          ///< another in tests
  std::function<std::string()> membership_source;  ///< as in NodeOptions; empty = static
};

/// Adds vitals and tells the server what is judged, until it is destroyed. Health and server outlive it.
class ServedHealth {
 public:
  ServedHealth(NodeHealth& health, GrpcServer& server, ProcessVitals vitals);
  ~ServedHealth();
  ServedHealth(const ServedHealth&) = delete;
  ServedHealth& operator=(const ServedHealth&) = delete;

 private:
  NodeHealth& health_;
};

}  // namespace kvasir
