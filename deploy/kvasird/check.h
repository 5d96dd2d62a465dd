// SPDX-License-Identifier: Apache-2.0
// --check: what a kvasird would do, said without doing it.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "deploy/kvasird/options.h"

namespace kvasir {

/// What flags alone cannot tell: directories to be written are there, or can be made. Opens and makes nothing. The error
/// names the flag, the path and what to do.
absl::Status CheckDirectories(const DaemonOptions& options);

/// Every setting as it will be in force, one "name = value" a line, names as the flags are called.
std::string EffectiveConfiguration(const DaemonOptions& options);

}  // namespace kvasir
