// SPDX-License-Identifier: Apache-2.0
// The life of a kvasird: port, node, gRPC, ready; then a signal, drain, end.
#pragma once

#include "absl/status/status.h"
#include "deploy/kvasird/options.h"

namespace kvasir {

/// Serves until SIGTERM or SIGINT and answers ok then; a second signal ends the process at once. An error says why it
/// could not begin. REQUIRES: called once, from main, before any other thread: it blocks the two signals.
absl::Status Serve(DaemonOptions options);

}  // namespace kvasir
