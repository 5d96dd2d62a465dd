// SPDX-License-Identifier: Apache-2.0
// The default dialler of a build with gRPC.
#include "client/dial.h"
#include "store/wire/grpc_stub.h"

namespace kvasir::client {

absl::StatusOr<std::function<std::shared_ptr<StoreApi>(const std::string&)>> DefaultDial() {
  return [](const std::string& control_address) { return std::shared_ptr<StoreApi>(MakeGrpcStore(control_address)); };
}

}  // namespace kvasir::client
