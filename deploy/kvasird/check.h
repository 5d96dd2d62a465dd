// SPDX-License-Identifier: Apache-2.0
// --check, and the first lines of the log: what a kvasird is told to do, in one list.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "deploy/kvasird/options.h"

namespace kvasir {

/// What flags alone cannot tell: directories to be written are there, or can be made. Opens and makes nothing. The error
/// names the flag, the path and what to do.
absl::Status CheckDirectories(const DaemonOptions& options);

/// Every setting as it will be in force: names as the flags are called, sizes in bytes.
std::vector<std::pair<std::string, std::string>> EffectiveConfiguration(const DaemonOptions& options);

}  // namespace kvasir
