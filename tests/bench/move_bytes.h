// SPDX-License-Identifier: Apache-2.0
// The limit of goals C1, C2 and C5: bytes moved without a look at them.
#pragma once

#include <cstddef>
#include <span>

namespace kvasir::bench {

/// Reads all of `in` and writes all of `out` (past the caches where the CPU can), both at the pace of their lengths, as
/// a codec of these lengths does at least. What `out` holds then is of no use. REQUIRES: both begin on a cache line.
void MoveBytes(std::span<const std::byte> in, std::span<std::byte> out);

}  // namespace kvasir::bench
