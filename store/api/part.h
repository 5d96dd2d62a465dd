// SPDX-License-Identifier: Apache-2.0
// The bytes of a part: header (256) | spec, padded to 16 | frame directory | frames. Little endian, on wire, in memory
// and on disk alike.
//
// In a view whose codec has planes, each plane of a cell is a part of its own: it holds that plane of every frame.
// Plane 0 decodes alone; plane i is of use only with all planes below it, of the same write: `planes_digest` says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/frame_directory.h"
#include "kernels/kv_layout.h"
#include "store/api/digest.h"
#include "store/api/namespace.h"
#include "store/api/view.h"

namespace kvasir {

/// One cell of a block's grid in one view, or one plane of it: the unit that is written, allocated, sealed, moved and
/// evicted.
struct PartId {
  BlockKey key;
  ViewDigest view;
  uint16_t layer_group = 0;
  uint16_t head_group = 0;
  uint16_t plane = 0;
  friend bool operator==(const PartId&, const PartId&) = default;
  friend auto operator<=>(const PartId&, const PartId&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const PartId& p) {
    return H::combine(std::move(h), p.key, p.view, p.layer_group, p.head_group, p.plane);
  }
};

/// As it lies in memory. Every field is checked by ParsePart.
struct PartHeader {
  static constexpr uint32_t kMagic = 0x5056'4b01;  ///< 01 'K' 'V' 'P'
  static constexpr uint16_t kVersion = 1;

  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t header_bytes = 256;
  uint8_t key[32] = {};              ///< BlockKey
  uint8_t namespace_digest[32] = {};
  uint8_t view_digest[32] = {};
  uint16_t first_layer = 0;
  uint16_t layers = 0;
  uint16_t first_head = 0;
  uint16_t heads = 0;
  uint32_t block_index = 0;          ///< position of the block in its chain
  uint32_t token_count = 0;          ///< tokens of the block
  uint32_t frame_count = 0;
  uint32_t spec_bytes = 0;           ///< without padding
  uint16_t layer_group = 0;
  uint16_t head_group = 0;
  uint16_t plane = 0;                ///< which plane of its cell this is
  uint16_t planes = 0;               ///< how many were written; 0 = the frames are not cut
  uint64_t frames_bytes = 0;         ///< length of the frame area
  uint64_t generation = 0;           ///< 0 from the writer; stamped by the store; not under the root
  uint64_t writer = 0;               ///< session that wrote it, for purge-by-writer
  uint8_t planes_digest[16] = {};    ///< of the frames that were cut, see ComputePlanesDigest; zero = not cut
  uint8_t artefact_digest[32] = {};  ///< codebooks and the like; zero = none
  uint8_t root[16] = {};             ///< XXH3-128, see ComputeRoot
  uint8_t tag[32] = {};              ///< optional MAC of a trust policy; zero = none; not under the root
};
static_assert(sizeof(PartHeader) == 256 && alignof(PartHeader) == 8);

/// Offsets that follow from a header.
constexpr uint64_t DirectoryOffset(uint32_t spec_bytes) { return 256 + ((uint64_t{spec_bytes} + 15) & ~uint64_t{15}); }
constexpr uint64_t FramesOffset(uint32_t spec_bytes, uint32_t frame_count) {
  return DirectoryOffset(spec_bytes) + uint64_t{frame_count} * sizeof(FrameEntry);
}
inline constexpr uint64_t kPartBytesMax = 1ull << 30;

/// What a reader or the store expects a part to be; what is not expected is not accepted.
struct PartExpectation {
  PartId id;
  NamespaceDigest ns;
  uint64_t generation = 0;  ///< 0 = as the writer left it; kAnyGeneration = do not look (recovery scan)
  static constexpr uint64_t kAnyGeneration = ~uint64_t{0};
};

/// A checked look at a part's bytes; points into them.
struct PartFrame {
  PartHeader header;
  std::string_view spec;
  std::vector<FrameEntry> directory;
  uint64_t frames_offset = 0;
  uint64_t total_bytes = 0;  ///< header to end of frame area
};

/// XXH3-128 over the header (generation, root and tag as zero), the spec and the directory. Frames are under their CRCs.
void ComputeRoot(const PartHeader& header, std::string_view spec, std::span<const FrameEntry> directory,
                 std::span<uint8_t, 16> out);

/// XXH3-128 over the directories of all planes, lowest first: the same in every plane of one write. Writers whose
/// frames have the same bytes have the same digest; planes of different digests never make one frame.
void ComputePlanesDigest(std::span<const std::vector<FrameEntry>> directories, std::span<uint8_t, 16> out);

/// Writes header, spec and directory in front of the frames: `part` begins with FramesOffset() bytes of room, the frame
/// area follows. Fills every derived field and the root. CHECKs the room.
void SealHeader(PartHeader header, std::string_view spec, std::span<const FrameEntry> directory, uint64_t area_bytes,
                std::span<std::byte> part);

/// Reads header, spec and directory from the first bytes of a part (at least FramesOffset of them; frames need not be
/// there). DataLoss with the field's name on anything that is not exactly as expected.
absl::StatusOr<PartFrame> ParsePart(std::span<const std::byte> bytes, const PartExpectation& expect);
/// The same without knowing whose part it is: for `kvasir inspect` and the recovery scan.
absl::StatusOr<PartFrame> ParseAnyPart(std::span<const std::byte> bytes);
PartId IdOf(const PartHeader& header);

/// DataLoss unless `upper` is a plane of the very frames that `base` is plane 0 of.
absl::Status CheckSameWrite(const PartHeader& base, const PartHeader& upper);

/// CRC32C of every frame of a whole part. DataLoss names the frame.
absl::Status CheckFrames(std::span<const std::byte> part, const PartFrame& frame);

/// Writes the generation into a landed part's header (the store, at Reserve).
void StampGeneration(std::span<std::byte> part, uint64_t generation);

}  // namespace kvasir
