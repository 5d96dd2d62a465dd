// SPDX-License-Identifier: Apache-2.0
// VerifySsdDirectory: every byte of a tier that is not running, against its checksums.
#include <algorithm>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "store/tiers/ssd_directory.h"
#include "store/tiers/ssd_index.h"
#include "store/tiers/ssd_recovery.h"
#include "store/tiers/ssd_segment_file.h"
#include "store/tiers/ssd_tier.h"

namespace kvasir {
namespace {

class Verifier {
 public:
  explicit Verifier(std::string segments) : segments_(std::move(segments)), disk_(MakePwriteDisk()) {}

  absl::Status Check(const IndexedPart& entry) {
    const FoundSegment& segment = Segment(entry.location.segment);
    if (!segment.header.ok()) return segment.header;
    if (segment.file.incarnation != entry.location.incarnation) {
      return absl::DataLossError(absl::StrCat("segment ", entry.location.segment, ": incarnation is ",
                                              segment.file.incarnation, ", the index says ",
                                              entry.location.incarnation));
    }
    const uint64_t offset = entry.location.offset;
    if (offset < kBlockBytes || offset > segment.file.bytes || entry.meta.bytes > segment.file.bytes - offset) {
      return absl::DataLossError(absl::StrCat("segment ", entry.location.segment, ": the part lies beyond its end"));
    }
    bytes_.resize(entry.meta.bytes);
    if (absl::Status status = ReadWhole(segment.file.fd.get(), offset); !status.ok()) return status;
    if (absl::Status status = CheckPartHead(entry, bytes_); !status.ok()) return status;
    absl::StatusOr<PartFrame> part = ParseAnyPart(bytes_);
    return part.ok() ? CheckFrames(bytes_, *part) : part.status();
  }

 private:
  const FoundSegment& Segment(uint32_t id) {
    const auto [entry, fresh] = found_.try_emplace(id);
    if (!fresh) return entry->second;
    absl::StatusOr<FoundSegment> found = OpenSegment(segments_, id, SegmentAccess::kRead, *disk_);
    if (found.ok()) {
      entry->second = *std::move(found);
    } else {
      entry->second.header = absl::DataLossError(std::string(found.status().message()));
    }
    return entry->second;
  }

  absl::Status ReadWhole(int fd, uint64_t offset) {
    std::vector<DiskOp> ops;
    for (uint64_t at = 0; at < bytes_.size(); at += kDiskOpBytesMax) {
      ops.push_back({DiskOp::Kind::kRead, fd, offset + at, bytes_.data() + at,
                     std::min<uint64_t>(kDiskOpBytesMax, bytes_.size() - at), 0});
    }
    disk_->Run(ops);
    for (const DiskOp& op : ops) {
      if (absl::Status status = ReadOutcome(op); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  std::string segments_;
  std::unique_ptr<DiskIo> disk_;
  std::map<uint32_t, FoundSegment> found_;
  std::vector<std::byte> bytes_;
};

}  // namespace

absl::Status VerifySsdDirectory(const std::string& directory,
                                const std::function<void(const VerifiedPart&, uint64_t done, uint64_t total)>& report) {
  absl::StatusOr<SsdDirectory> opened = SsdDirectory::Open(directory, SsdDirectory::Access::kRead);
  if (!opened.ok()) return opened.status();
  SsdIndex::Contents contents;
  absl::StatusOr<std::unique_ptr<SsdIndex>> index = SsdIndex::Open(opened->index(), SsdIndex::Access::kRead, &contents);
  if (!index.ok()) return index.status();
  std::sort(contents.parts.begin(), contents.parts.end(), [](const IndexedPart& a, const IndexedPart& b) {
    return std::tie(a.location.segment, a.location.offset) < std::tie(b.location.segment, b.location.offset);
  });
  uint64_t total = 0;
  for (const IndexedPart& entry : contents.parts) total += entry.meta.bytes;

  Verifier verifier(opened->segments());
  uint64_t done = 0;
  for (const IndexedPart& entry : contents.parts) {
    const VerifiedPart part{entry.meta, entry.location, verifier.Check(entry)};
    done += entry.meta.bytes;
    report(part, done, total);
  }
  if (contents.malformed.empty()) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("SSD directory ", directory, ": ", contents.malformed.size(),
                                          " entries of the index cannot be read; the next start drops them"));
}

}  // namespace kvasir
