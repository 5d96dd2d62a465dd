// SPDX-License-Identifier: Apache-2.0
// GrpcServer: a node's calls behind one gRPC port, with health and reflection. No gRPC type is seen here.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "store/api/admin_api.h"
#include "store/api/peer_api.h"
#include "store/api/store_api.h"

namespace kvasir {

struct GrpcServerOptions {
  std::string address = "127.0.0.1:0";        ///< "host:port", port 0 = any; "[::]:7007"; "unix:/path"
  size_t message_bytes_max = 64ull << 20;     ///< longer messages are ResourceExhausted, either way
  uint32_t streams_max = 1024;                ///< calls at once on one connection
  uint32_t watch_events_max = 1024;           ///< waiting for one watcher; more end its stream with ResourceExhausted
  Duration deadline_default = std::chrono::seconds(60);  ///< of calls that come without one
};

/// What is served. They outlive the server; a null one is not there.
struct GrpcServices {
  StoreApi* store = nullptr;
  AdminApi* admin = nullptr;
  PeerApi* peer = nullptr;
};

class GrpcServer {
 public:
  /// Names that load balancers and Kubernetes ask the health service for. "" (the whole server) is the same as readiness.
  static constexpr const char* kLiveness = "liveness";
  static constexpr const char* kReadiness = "readiness";

  /// `store` is never null.
  GrpcServer(GrpcServices services, GrpcServerOptions options);
  /// Shutdown without patience.
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  /// Binds and serves: alive and not ready. Answers the bound address. Unavailable names the address and what to do; a
  /// port in use is never shared. Once.
  absl::StatusOr<std::string> Start();
  /// Any thread, after Start. Other names may be made up: a tier's, for example.
  void SetHealth(const std::string& service, bool serving);
  /// Refuses new calls, ends every Watch with Unavailable, lets other calls finish for at most `patience`, cancels the
  /// rest, and returns when the last has been answered by the store. Idempotent.
  void Shutdown(Duration patience);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace kvasir
