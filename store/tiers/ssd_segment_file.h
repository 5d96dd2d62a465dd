// SPDX-License-Identifier: Apache-2.0
// SegmentFile: one file of payload: a header block that says which segment and which incarnation it is, then parts,
// each padded to kBlockBytes. The incarnation on disk is raised, and synced, before the space is written again: an
// entry of the index that names an older one points to nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/tiers/disk_io.h"
#include "store/tiers/ssd_health.h"

namespace kvasir {

/// As it lies at the beginning of the first block; the rest of the block is zero. Little endian.
struct SegmentHeader {
  static constexpr uint32_t kMagic = 0x5347'4501;  ///< 01 'E' 'G' 'S'
  static constexpr uint16_t kVersion = 1;

  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t header_bytes = 40;
  uint32_t id = 0;           ///< as in the file's name: files that changed places are found out
  uint32_t incarnation = 0;  ///< from 1
  uint64_t bytes = 0;        ///< of the file
  uint64_t reserved0 = 0;    ///< zero
  uint32_t reserved1 = 0;    ///< zero
  uint32_t crc32c = 0;       ///< of all before it
};
static_assert(sizeof(SegmentHeader) == 40 && alignof(SegmentHeader) == 8);

struct SegmentFile {
  uint32_t id = 0;
  uint32_t incarnation = 0;
  uint64_t bytes = 0;  ///< of the file as found
  FileDescriptor fd;
};

struct FoundSegment {
  SegmentFile file;
  absl::Status header;  ///< DataLoss: not this segment's; Unavailable: could not be read, so nothing is known
};

enum class SegmentAccess { kRead, kBuffered, kDirect };  ///< kRead is buffered too

std::string SegmentPath(const std::string& directory, uint32_t id);

/// Ids of the segment files, ascending. Other files are not ours and stay.
absl::StatusOr<std::vector<uint32_t>> ListSegments(const std::string& directory);

/// Whether files of this directory take O_DIRECT in blocks of kBlockBytes; tmpfs, for one, may not.
bool DirectWorks(const std::string& directory);

/// Opens a file and reads its header. An error is one of opening, and names the file.
absl::StatusOr<FoundSegment> OpenSegment(const std::string& directory, uint32_t id, SegmentAccess access, DiskIo& disk);

/// Makes a file of `bytes`, allocated, without a header yet. Nothing is left behind on failure.
absl::StatusOr<SegmentFile> MakeSegment(const std::string& directory, uint32_t id, uint64_t bytes, SegmentAccess access,
                                        DiskIo& disk, SsdHealth& health);

/// Writes the header for `file`'s incarnation; synced when this returns OK, unless `sync` is false.
absl::Status WriteSegmentHeader(const SegmentFile& file, bool sync, DiskIo& disk, SsdHealth& health);

}  // namespace kvasir
