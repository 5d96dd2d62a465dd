// SPDX-License-Identifier: Apache-2.0
// LogSink: where the parts of a node say what an operator should know. Who writes it, and how, is deploy's business.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace kvasir {

enum class Severity : uint8_t { kInfo, kWarning, kError };
/// May be called from any thread.
using LogSink = std::function<void(Severity, const std::string& message)>;

}  // namespace kvasir
