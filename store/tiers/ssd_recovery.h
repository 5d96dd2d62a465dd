// SPDX-License-Identifier: Apache-2.0
// Recovery: what of the index is borne out by the segments. An entry stays when its segment is there, in that
// incarnation, long enough, and the part's header is the one the entry speaks of; all else is dropped, counted, and its
// space free.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "store/tiers/ssd_health.h"
#include "store/tiers/ssd_index.h"
#include "store/tiers/ssd_segments.h"

namespace kvasir {

inline constexpr uint64_t kPartHeadBytesMax = 160u << 10;  ///< header, spec and the largest directory, with room

struct RecoveryContext {
  std::string segments;  ///< directory
  SegmentLimits limits;
  SegmentAccess access = SegmentAccess::kBuffered;
  DiskIo* disk = nullptr;
  SsdHealth* health = nullptr;
  SsdIndex* index = nullptr;
};

struct RecoveredIndex {
  std::vector<IndexedPart> kept;  ///< by segment and offset
  uint64_t dropped = 0;
  uint64_t generation_max = 0;  ///< of every entry, kept or not
};

/// Adopts the segments into `table` and takes what is dropped out of the index. A disk that cannot be read is no reason
/// to forget what it holds: then nothing is removed or written, and the tier is read-only. Segments beyond bytes_max
/// (it may be lower than last time) are removed, least live first. An error means a file that cannot be opened.
absl::StatusOr<RecoveredIndex> RecoverSegments(const RecoveryContext& context, const SsdIndex::Contents& contents,
                                               SegmentTable& table);

/// Whether the first bytes of a part are those of `entry`. DataLoss names the difference.
absl::Status CheckPartHead(const IndexedPart& entry, std::span<const std::byte> head);

}  // namespace kvasir
