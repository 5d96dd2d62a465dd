// SPDX-License-Identifier: Apache-2.0
// How much memory this process may have, and how near it is to that: the machine's, or what its control groups (version 2 and
// version 1, each with its parents) leave of it.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvasir {

/// The smallest limit that holds.
struct MemoryLimit {
  uint64_t bytes = 0;     ///< 0 = could not be read
  std::string source;     ///< "the machine's memory", "the limit of this container or control group"
  std::string directory;  ///< of the control group that states it; "" = the machine
};
/// `root` is "/" but in tests.
MemoryLimit ReadMemoryLimit(const std::string& root = "/");
/// What is in use of it, without pages of files that can go at any time. 0 = could not be read.
uint64_t ReadMemoryUsed(const MemoryLimit& limit, const std::string& root = "/");

/// InvalidArgument with both numbers when `dram` does not fit.
absl::Status CheckMemory(uint64_t dram, const MemoryLimit& limit);

inline constexpr uint64_t kMemoryReserve = 128ull << 20;  ///< of the limit: code, buffers of disk and sockets, RocksDB, gRPC
inline constexpr double kDramShare = 0.8;                 ///< of what is left
/// `--dram auto`: kDramShare of the limit without kMemoryReserve, in whole MiB. InvalidArgument when no limit could be read
/// or nothing is left.
absl::StatusOr<uint64_t> AutoDram(const MemoryLimit& limit);

}  // namespace kvasir
