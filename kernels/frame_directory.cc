// SPDX-License-Identifier: Apache-2.0
// The checks that every frame directory from outside must pass before one of its offsets is followed.
#include "kernels/frame_directory.h"

#include <string>

namespace kvasir {
namespace {

Error Damaged(size_t entry, const char* field, const std::string& why) {
  return {ErrorCode::kDataLoss, "frame directory entry " + std::to_string(entry) + ": " + field + " " + why};
}

}  // namespace

uint64_t FrameAreaBytes(std::span<const FrameEntry> directory) {
  if (directory.empty()) return 0;
  return AlignFrame(uint64_t{directory.back().offset} + directory.back().length);
}

Result<bool> CheckDirectory(std::span<const FrameEntry> directory, uint64_t area_bytes) {
  if (directory.size() > kFramesPerPartMax) {
    return Error{ErrorCode::kDataLoss, "frame directory has " + std::to_string(directory.size()) +
                                           " entries, at most " + std::to_string(kFramesPerPartMax) + " are allowed"};
  }
  uint64_t next = 0;  // where this frame must begin
  for (size_t i = 0; i < directory.size(); ++i) {
    const FrameEntry& entry = directory[i];
    if (entry.offset != next) {
      return Damaged(i, "offset", "is " + std::to_string(entry.offset) + ", must be " + std::to_string(next));
    }
    if (entry.length > kFrameBytesMax) {
      return Damaged(i, "length", "is " + std::to_string(entry.length) + ", above the limit of one frame");
    }
    if (next + entry.length > area_bytes) {
      return Damaged(
          i, "length",
          "ends at " + std::to_string(next + entry.length) + ", the area has " + std::to_string(area_bytes) + " bytes");
    }
    if (entry.length == 0 && entry.crc32c != 0) return Damaged(i, "crc32c", "is not 0 for a frame that is not there");
    next = AlignFrame(next + entry.length);
  }
  if (next != area_bytes) {
    return Error{ErrorCode::kDataLoss, "frame directory ends at " + std::to_string(next) + ", the area has " +
                                           std::to_string(area_bytes) + " bytes"};
  }
  return true;
}

}  // namespace kvasir
