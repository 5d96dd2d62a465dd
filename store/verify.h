// SPDX-License-Identifier: Apache-2.0
// Verify: do landed bytes say what was claimed of them? The last look before a part is published or promoted.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "absl/status/statusor.h"
#include "store/events.h"

namespace kvasir {

/// Checks header, spec, directory, root (when `root` is not empty) and every frame's CRC of a whole part in our own memory,
/// then stamps `generation` into it. Answers the offset of the frame area. DataLoss names what was wrong; then the bytes
/// are unchanged. Any thread; reads every byte.
absl::StatusOr<uint32_t> VerifyAndStamp(std::span<std::byte> part, const PartClaim& claim, std::string_view root,
                                        uint64_t generation);

}  // namespace kvasir
