// SPDX-License-Identifier: Apache-2.0
// The default dialler of a build without gRPC.
#include "client/dial.h"

namespace kvasir::client {

absl::StatusOr<std::function<std::shared_ptr<StoreApi>(const std::string&)>> DefaultDial() {
  return absl::UnimplementedError("this build has no gRPC (KVASIR_GRPC=OFF): set SessionOptions::dial");
}

}  // namespace kvasir::client
