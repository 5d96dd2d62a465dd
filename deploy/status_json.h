// SPDX-License-Identifier: Apache-2.0
// A node's status as JSON: one form for `kvasir status -o json` and for /status.json.
#pragma once

#include <nlohmann/json.hpp>

#include "absl/status/status.h"
#include "store/api/admin_api.h"

namespace kvasir {

nlohmann::ordered_json StatusJson(const NodeStatus& status);
/// {"error": "..."}
nlohmann::ordered_json ErrorJson(const absl::Status& status);

}  // namespace kvasir
