// SPDX-License-Identifier: Apache-2.0
// The dialler a Session uses when its options name none. Two files hold it; CMake takes one.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "store/api/store_api.h"

namespace kvasir::client {

/// gRPC where this build has it; else Unimplemented, in words.
absl::StatusOr<std::function<std::shared_ptr<StoreApi>(const std::string& control_address)>> DefaultDial();

}  // namespace kvasir::client
