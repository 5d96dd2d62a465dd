// SPDX-License-Identifier: Apache-2.0
// Herd: very many clients that want one block at the same moment, or that all computed it and push it at once.
#pragma once

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "tests/cluster/load.h"

namespace kvasir::cluster {

struct HerdOptions {
  uint32_t prompt = 0;  ///< its first block
  uint32_t clients = 10'000;
  uint32_t sessions = 32;  ///< that the clients share
  bool push = false;       ///< else fetch
};
/// All calls are made before any is waited for: {"clients", "succeeded", "existed", "wrong", "ms", "statuses": {...}}.
absl::StatusOr<nlohmann::json> RunHerd(const LoadOptions& load, const HerdOptions& herd);

}  // namespace kvasir::cluster
