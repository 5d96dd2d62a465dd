// SPDX-License-Identifier: Apache-2.0
// Planes of a part: cutting packed frames into them, and making frames of them again.
//
//   frames as packed   | frame 0: planes 0 1 | frame 1: planes 0 1 | ...
//   plane p            | plane p of frame 0 | plane p of frame 1 | ...      each aligned as in any frame area
//
// Plane p of a frame is its bytes [PlaneEnd(p - 1), PlaneEnd(p)), as far as it has them: frames of a tensor whose codec
// is not cut lie in plane 0 as they are, and have no bytes in the planes above.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/codec.h"
#include "kernels/frame_directory.h"

namespace kvasir {

/// Upper bound of the frame area of one plane, alignment counted.
uint64_t MaxPlaneAreaBytes(const Codec& codec, const KvLayout& layout, const PartGeometry& part, uint32_t plane);

/// One plane of all frames of a part.
struct CutPlane {
  std::vector<FrameEntry> directory;
  uint64_t area_bytes = 0;
};
/// Copies plane `plane` of the frames that `directory` (as a PackJob left it) names in `area` to `out`, which has
/// MaxPlaneAreaBytes, and checksums it.
CutPlane CutOutPlane(const Codec& codec, const KvLayout& layout, const PartGeometry& part, uint32_t plane,
                     std::span<const FrameEntry> directory, std::span<const std::byte> area, std::span<std::byte> out);

/// A plane as it came: `frames` holds the bytes from offset `frames_offset` of its frame area on.
struct LandedPlane {
  std::span<const FrameEntry> directory;  ///< of all frames, checked by CheckDirectory
  std::span<const std::byte> frames;
  uint64_t frames_offset = 0;
};
/// How many of the leading planes answer to their checksums in frames [first, first + count), all of which lie in
/// `frames`.
uint32_t SoundPlanes(std::span<const LandedPlane> planes, uint32_t first, uint32_t count);

/// Bytes that JoinPlanes writes at most.
uint64_t JoinedBytes(std::span<const LandedPlane> planes, uint32_t first, uint32_t count);
/// Frames [first, first + count) made of all `planes`, one behind the other in `out`. Fills the directory of all
/// frames; only those that were asked for have bytes and checksums. Answers the offset in the frame area at which `out`
/// begins. REQUIRES: all planes have as many frames, and are sound there.
uint64_t JoinPlanes(std::span<const LandedPlane> planes, uint32_t first, uint32_t count,
                    std::vector<FrameEntry>& directory, std::span<std::byte> out);

}  // namespace kvasir
