// SPDX-License-Identifier: Apache-2.0
// What a kvasird says of itself when it begins: the configuration in force, and why anything is off.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "deploy/kvasird/options.h"

namespace kvasir {

/// What the process can and cannot do, beside what the node finds out itself: name, "on" or "off: why".
std::vector<std::pair<std::string, std::string>> ProcessFeatures(const DaemonOptions& options);

/// Two log lines: the configuration, and the features as the node knows them now.
void LogBanner(const DaemonOptions& options, const std::vector<std::pair<std::string, std::string>>& features);

}  // namespace kvasir
