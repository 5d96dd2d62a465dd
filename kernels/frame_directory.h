// SPDX-License-Identifier: Apache-2.0
// FrameEntry: one line of a part's frame directory. Fixed width, little endian, as stored and sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/kv_layout.h"
#include "kernels/result.h"

namespace kvasir {

/// Where one frame lies in the frame area of its part, and what its bytes must sum to.
struct FrameEntry {
  uint32_t offset = 0;     ///< from the start of the frame area; a multiple of kFrameAlignment
  uint32_t length = 0;     ///< encoded bytes, without padding; 0 = no frame was written
  uint32_t crc32c = 0;     ///< of the `length` bytes
  uint32_t positions = 0;  ///< index of the positions list that says which tokens were kept; 0 = all
  friend bool operator==(const FrameEntry&, const FrameEntry&) = default;
};
static_assert(sizeof(FrameEntry) == 16 && alignof(FrameEntry) == 4);

inline constexpr uint32_t kFrameAlignment = 16;       ///< bytes; padding between frames is zero
inline constexpr uint32_t kFrameBytesMax = 1u << 30;  ///< of one encoded frame
inline constexpr uint32_t kFramesPerPartMax = 4096;   ///< entries a directory may have

constexpr uint64_t AlignFrame(uint64_t offset) {
  return (offset + kFrameAlignment - 1) & ~uint64_t{kFrameAlignment - 1};
}

/// True bytes up to the end of the last frame, padded. The entries must have been checked.
uint64_t FrameAreaBytes(std::span<const FrameEntry> directory);

/// Fails with kDataLoss, naming the entry and field, unless the frames lie in order, aligned, without overlap or gap
/// beyond padding, within `area_bytes`. Call it on every directory from outside before following an offset.
Result<bool> CheckDirectory(std::span<const FrameEntry> directory, uint64_t area_bytes);

/// CRC32C (Castagnoli, reflected, initial and final all-ones) of `bytes`, continuing from `crc` (0 to begin).
/// By the best body this CPU has; same value.
uint32_t Crc32c(std::span<const std::byte> bytes, uint32_t crc = 0);
/// The same value by the crc32 instruction (the table where there is none), and by the table: the reference.
uint32_t Crc32cByInstruction(std::span<const std::byte> bytes, uint32_t crc = 0);
uint32_t Crc32cByTable(std::span<const std::byte> bytes, uint32_t crc = 0);

}  // namespace kvasir
