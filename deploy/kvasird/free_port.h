// SPDX-License-Identifier: Apache-2.0
// Asks the system about a port before anything is opened or recovered.
#pragma once

#include "absl/status/statusor.h"
#include "deploy/flags.h"

namespace kvasir {

/// The port one may listen at: `address.port`, or a free one for 0. Nothing is held: whoever listens next may still
/// lose a race, and says so. InvalidArgument for an unknown host or one that is not this machine's, Unavailable for a
/// port in use. `flag` is the one to correct.
absl::StatusOr<uint16_t> FindPort(const HostPort& address, const char* flag = "--listen");

}  // namespace kvasir
