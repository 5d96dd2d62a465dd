// SPDX-License-Identifier: Apache-2.0
// How many huge pages a node may use: they are set aside when the machine starts, and a container has a limit of its own.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace kvasir {

/// Bytes of huge pages of 2 MiB: what the machine has set aside, or less, by this process's control group.
/// InvalidArgument when there are none, with what to do. `root` is "/" but in tests.
absl::StatusOr<uint64_t> HugePageBytes(const std::string& root = "/");

/// InvalidArgument with both numbers when `dram` does not fit.
absl::Status CheckHugePages(uint64_t dram, uint64_t limit);

}  // namespace kvasir
