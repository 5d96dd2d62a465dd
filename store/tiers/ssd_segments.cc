// SPDX-License-Identifier: Apache-2.0
// Pins, and the choice of the segment that is written next.
#include "store/tiers/ssd_segments.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/tiers/ssd_directory.h"
#include "transport/check.h"

namespace kvasir {
namespace {

constexpr uint64_t kSegmentsMin = 4;                    ///< evicting one leaves most of the cache
constexpr uint64_t kSegmentBytesMin = 4 * kBlockBytes;  ///< header, and room worth a file

}  // namespace

absl::StatusOr<SegmentLimits> SegmentLimits::From(const SsdOptions& options) {
  const uint64_t largest = options.bytes_max / kSegmentsMin / kBlockBytes * kBlockBytes;
  if (largest < kSegmentBytesMin) {
    return absl::InvalidArgumentError(absl::StrCat("SSD directory ", options.directory, ": bytes_max ",
                                                   options.bytes_max, " is too little; give at least ",
                                                   kSegmentsMin * kSegmentBytesMin));
  }
  const uint64_t smallest = std::max(kSegmentBytesMin, PadToBlock(options.bytes_max / kSegmentsMax));
  const uint64_t wanted = options.segment_bytes / kBlockBytes * kBlockBytes;
  return SegmentLimits{options.bytes_max, std::min(std::max(wanted, smallest), largest)};
}

absl::StatusOr<int> SegmentTable::Pin(const SsdLocation& location, uint64_t bytes) {
  MutexLock lock(mutex_);
  const auto found = segments_.find(location.segment);
  if (found == segments_.end()) return absl::DataLossError(absl::StrCat("SSD: no segment ", location.segment));
  Segment& segment = found->second;
  if (segment.file.incarnation != location.incarnation) {
    return absl::DataLossError(absl::StrCat("SSD: segment ", location.segment, " was reused (incarnation ",
                                            segment.file.incarnation, ", asked for ", location.incarnation, ")"));
  }
  const bool inside = location.offset >= kBlockBytes && location.offset % kBlockBytes == 0 &&
                      location.offset <= segment.tail && bytes <= segment.tail - location.offset;
  if (!inside) {
    return absl::DataLossError(absl::StrCat("SSD: segment ", location.segment, ": ", bytes, " bytes at ",
                                            location.offset, " are not a part's: it ends at ", segment.tail));
  }
  ++segment.pins;
  return segment.file.fd.get();
}

void SegmentTable::Unpin(uint32_t segment) {
  MutexLock lock(mutex_);
  Segment& found = At(segment);
  KVASIR_CHECK(found.pins > 0, "unpinned more often than pinned");
  if (--found.pins == 0) unpinned_.NotifyAll();
}

void SegmentTable::Adopt(SegmentFile file, uint64_t tail, uint64_t live) {
  SkipTo(file.id);
  MutexLock lock(mutex_);
  const uint32_t id = file.id;
  segments_[id] = Segment{std::move(file), tail, live, 0};
}

void SegmentTable::SkipTo(uint32_t id) { next_id_ = std::max(next_id_, id + 1); }

SegmentUse SegmentTable::FindUnfinished() const {
  MutexLock lock(mutex_);
  SegmentUse best;
  for (const auto& [id, segment] : segments_) {
    const SegmentUse use = UseOf(segment);
    // Written in part, and whole: a free one is renewed instead, an odd one goes away.
    const bool fits = segment.live > 0 && segment.file.bytes == context_.limits.segment_bytes;
    if (fits && use.room() > best.room()) best = use;
  }
  return best;
}

absl::StatusOr<SegmentUse> SegmentTable::Next(uint32_t current, const Evict& evict) {
  // Each turn uses, removes or makes a segment; odd-sized files are all that makes it turn again.
  for (uint64_t turn = 0; turn <= 2 * kSegmentsMax; ++turn) {
    uint32_t id = FindFree();
    if (id == 0 && MayGrow()) {
      absl::StatusOr<SegmentUse> made = Make();
      // A full disk is no reason to fail while something can be evicted.
      if (made.ok() || !absl::IsResourceExhausted(made.status())) return made;
    }
    if (id == 0) {
      id = FindLeastLive(current);
      if (id == 0) return absl::ResourceExhaustedError("SSD: no space for a segment, and none to evict");
      if (absl::Status status = evict(id); !status.ok()) return status;
    }
    Condemn(id);
    uint64_t bytes = 0;
    {
      MutexLock lock(mutex_);
      bytes = At(id).file.bytes;
    }
    if (bytes == context_.limits.segment_bytes) return Renew(id);
    if (absl::Status status = Remove(id); !status.ok()) return status;
  }
  return absl::ResourceExhaustedError("SSD: no segment could be freed");
}

void SegmentTable::SetTail(uint32_t segment, uint64_t tail) {
  MutexLock lock(mutex_);
  At(segment).tail = tail;
}

void SegmentTable::AddLive(uint32_t segment, uint64_t bytes) {
  MutexLock lock(mutex_);
  At(segment).live += bytes;
}

void SegmentTable::SubtractLive(uint32_t segment, uint64_t bytes) {
  MutexLock lock(mutex_);
  Segment& found = At(segment);
  KVASIR_CHECK(found.live >= bytes, "more bytes dropped than were live");
  found.live -= bytes;
}

SegmentTable::Totals SegmentTable::totals() const {
  MutexLock lock(mutex_);
  Totals totals;
  for (const auto& [id, segment] : segments_) {
    ++totals.count;
    totals.bytes += segment.file.bytes;
    totals.used += segment.live > 0 ? segment.tail : 0;
    totals.live += segment.live;
  }
  return totals;
}

SegmentUse SegmentTable::UseOf(const Segment& segment) const {
  return {segment.file.id, segment.file.incarnation, segment.file.fd.get(), segment.file.bytes, segment.tail,
          segment.live};
}

SegmentTable::Segment& SegmentTable::At(uint32_t id) {
  const auto found = segments_.find(id);
  KVASIR_CHECK(found != segments_.end(), "a segment that is not in the table");
  return found->second;
}

uint32_t SegmentTable::FindFree() const {
  MutexLock lock(mutex_);
  for (const auto& [id, segment] : segments_) {
    if (segment.live == 0 && segment.pins == 0) return id;
  }
  return 0;
}

uint32_t SegmentTable::FindLeastLive(uint32_t current) const {
  MutexLock lock(mutex_);
  uint32_t best = segments_.count(current) == 1 ? current : 0;
  for (const auto& [id, segment] : segments_) {
    if (id == current) continue;
    if (best == 0 || best == current || segment.live < segments_.at(best).live) best = id;
  }
  return best;
}

bool SegmentTable::MayGrow() const {
  const Totals now = totals();
  return now.bytes + context_.limits.segment_bytes <= context_.limits.bytes_max;
}

/// From here on no location in the segment can be read; returns when the reads under way are done.
void SegmentTable::Condemn(uint32_t id) {
  MutexLock lock(mutex_);
  Segment& segment = At(id);
  KVASIR_CHECK(segment.live == 0, "a segment with live parts is not reused");
  ++segment.file.incarnation;
  segment.tail = 0;
  while (segment.pins > 0) unpinned_.Wait(mutex_);
}

absl::StatusOr<SegmentUse> SegmentTable::Make() {
  const uint32_t id = next_id_++;
  absl::StatusOr<SegmentFile> file = MakeSegment(context_.directory, id, context_.limits.segment_bytes, context_.access,
                                                 *context_.disk, *context_.health);
  if (!file.ok()) return file.status();
  Adopt(*std::move(file), 0, 0);
  return Renew(id);
}

absl::StatusOr<SegmentUse> SegmentTable::Renew(uint32_t id) {
  SegmentFile* file = nullptr;
  {
    MutexLock lock(mutex_);
    Segment& segment = At(id);
    if (segment.file.incarnation == 0) segment.file.incarnation = 1;
    file = &segment.file;
  }
  // Unlocked: nobody but the writer changes a file's facts, and a map keeps its elements in place.
  absl::Status status = WriteSegmentHeader(*file, context_.sync, *context_.disk, *context_.health);
  if (!status.ok()) return status;
  MutexLock lock(mutex_);
  Segment& segment = At(id);
  segment.tail = kBlockBytes;
  return UseOf(segment);
}

absl::Status SegmentTable::Remove(uint32_t id) {
  const std::string path = SegmentPath(context_.directory, id);
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    const absl::Status status = SsdErrnoError(context_.directory, absl::StrCat("cannot remove ", path), errno);
    context_.health->Fail(std::string(status.message()));
    return status;
  }
  MutexLock lock(mutex_);
  segments_.erase(id);
  return absl::OkStatus();
}

}  // namespace kvasir
