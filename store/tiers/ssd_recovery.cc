// SPDX-License-Identifier: Apache-2.0
// Holding the index against the segments.
#include "store/tiers/ssd_recovery.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/tiers/ssd_directory.h"

namespace kvasir {
namespace {

constexpr uint64_t kRoundBytes = 4u << 20;  ///< of part heads read at once
constexpr size_t kRoundOps = 64;

struct Found {
  FoundSegment segment;
  uint64_t live = 0;
  uint64_t tail = kBlockBytes;
  uint32_t incarnation_named = 0;  ///< highest that an entry names
};

/// One recovery. Steps in the order of Run.
class Recovery {
 public:
  Recovery(const RecoveryContext& context, const SsdIndex::Contents& contents, SegmentTable& table)
      : context_(context), contents_(contents), table_(table) {}

  absl::StatusOr<RecoveredIndex> Run() {
    if (absl::Status status = FindSegments(); !status.ok()) return status;
    std::vector<const IndexedPart*> plausible = CheckPlaces();
    CheckHeads(plausible);
    if (absl::Status status = RemoveSegments(); !status.ok()) return status;
    EraseDropped();
    Adopt();
    result_.dropped += erased_.erased_keys.size();
    return std::move(result_);
  }

 private:
  absl::Status FindSegments();
  std::vector<const IndexedPart*> CheckPlaces();
  bool PlaceIsPlausible(const IndexedPart& entry);
  void CheckHeads(const std::vector<const IndexedPart*>& entries);
  void Keep(const IndexedPart& entry);
  void Drop(const IndexedPart& entry);
  absl::Status RemoveSegments();
  absl::Status Remove(uint32_t id);
  void EraseDropped();
  void Adopt();

  const RecoveryContext& context_;
  const SsdIndex::Contents& contents_;
  SegmentTable& table_;
  std::map<uint32_t, Found> found_;
  SsdIndex::Batch erased_;
  RecoveredIndex result_;
};

absl::Status Recovery::FindSegments() {
  absl::StatusOr<std::vector<uint32_t>> ids = ListSegments(context_.segments);
  if (!ids.ok()) return ids.status();
  for (uint32_t id : *ids) {
    absl::StatusOr<FoundSegment> segment = OpenSegment(context_.segments, id, context_.access, *context_.disk);
    if (!segment.ok()) return segment.status();
    if (absl::IsUnavailable(segment->header)) context_.health->Fail(std::string(segment->header.message()));
    found_[id].segment = *std::move(segment);
  }
  return absl::OkStatus();
}

/// Entries whose place exists, in the order of the disk.
std::vector<const IndexedPart*> Recovery::CheckPlaces() {
  std::vector<const IndexedPart*> plausible;
  for (const IndexedPart& entry : contents_.parts) {
    result_.generation_max = std::max(result_.generation_max, entry.meta.generation);
    table_.SkipTo(entry.location.segment);
    if (PlaceIsPlausible(entry)) {
      plausible.push_back(&entry);
    } else {
      Drop(entry);
    }
  }
  std::sort(plausible.begin(), plausible.end(), [](const IndexedPart* a, const IndexedPart* b) {
    return std::tie(a->location.segment, a->location.offset) < std::tie(b->location.segment, b->location.offset);
  });
  return plausible;
}

bool Recovery::PlaceIsPlausible(const IndexedPart& entry) {
  const auto found = found_.find(entry.location.segment);
  if (found == found_.end()) return false;
  Found& segment = found->second;
  segment.incarnation_named = std::max(segment.incarnation_named, entry.location.incarnation);
  const uint64_t file_bytes = segment.segment.file.bytes;
  const uint64_t offset = entry.location.offset;
  return segment.segment.header.ok() && segment.segment.file.incarnation == entry.location.incarnation &&
         offset >= kBlockBytes && offset % kBlockBytes == 0 && offset <= file_bytes &&
         entry.meta.bytes <= kPartBytesMax && PadToBlock(entry.meta.bytes) <= file_bytes - offset &&
         entry.meta.frames_offset >= sizeof(PartHeader) && entry.meta.frames_offset <= entry.meta.bytes &&
         entry.meta.frames_offset <= kPartHeadBytesMax;
}

void Recovery::CheckHeads(const std::vector<const IndexedPart*>& entries) {
  AlignedBuffer buffer(kRoundBytes);
  size_t next = 0;
  while (next < entries.size()) {
    const size_t first = next;
    std::vector<DiskOp> ops;
    for (uint64_t fill = 0; next < entries.size() && ops.size() < kRoundOps; ++next) {
      const uint64_t bytes = PadToBlock(entries[next]->meta.frames_offset);
      if (fill + bytes > buffer.size()) break;
      const SsdLocation& location = entries[next]->location;
      ops.push_back({DiskOp::Kind::kRead, found_[location.segment].segment.file.fd.get(), location.offset,
                     buffer.data() + fill, bytes, 0});
      fill += bytes;
    }
    context_.disk->Run(ops);
    for (size_t i = 0; i < ops.size(); ++i) {
      const IndexedPart& entry = *entries[first + i];
      const absl::Status read = ReadOutcome(ops[i]);
      if (ops[i].result < 0) context_.health->Fail(std::string(read.message()));
      const bool good = read.ok() && CheckPartHead(entry, {ops[i].data, ops[i].bytes}).ok();
      good ? Keep(entry) : Drop(entry);
    }
  }
}

void Recovery::Keep(const IndexedPart& entry) {
  Found& segment = found_[entry.location.segment];
  const uint64_t padded = PadToBlock(entry.meta.bytes);
  segment.live += padded;
  segment.tail = std::max(segment.tail, entry.location.offset + padded);
  result_.kept.push_back(entry);
}

void Recovery::Drop(const IndexedPart& entry) {
  erased_.erased.push_back(entry.meta.id);
  ++result_.dropped;
}

/// Files of another size that hold nothing, then whatever exceeds bytes_max.
absl::Status Recovery::RemoveSegments() {
  if (!context_.health->Check().ok()) return absl::OkStatus();
  uint64_t total = 0;
  std::vector<std::pair<uint64_t, uint32_t>> by_live;
  std::vector<uint32_t> removed;
  for (const auto& [id, found] : found_) {
    const uint64_t bytes = found.segment.file.bytes;
    if (found.live == 0 && bytes != context_.limits.segment_bytes) {
      removed.push_back(id);
      continue;
    }
    total += bytes;
    by_live.emplace_back(found.live, id);
  }
  std::sort(by_live.begin(), by_live.end());
  for (auto least = by_live.begin(); total > context_.limits.bytes_max; ++least) {
    total -= found_[least->second].segment.file.bytes;
    removed.push_back(least->second);
  }
  for (uint32_t id : removed) {
    if (absl::Status status = Remove(id); !status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Recovery::Remove(uint32_t id) {
  std::vector<IndexedPart> kept;
  for (IndexedPart& entry : result_.kept) {
    if (entry.location.segment == id) {
      Drop(entry);
    } else {
      kept.push_back(std::move(entry));
    }
  }
  result_.kept = std::move(kept);
  found_.erase(id);
  table_.SkipTo(id);
  const std::string path = SegmentPath(context_.segments, id);
  if (unlink(path.c_str()) == 0 || errno == ENOENT) return absl::OkStatus();
  return SsdErrnoError(context_.segments, absl::StrCat("cannot remove ", path), errno);
}

void Recovery::EraseDropped() {
  erased_.erased_keys = contents_.malformed;
  if (erased_.empty() || !context_.health->Check().ok()) return;
  // Synced: their space is written again, perhaps before the next sync.
  absl::Status status = context_.index->Write(erased_, true);
  if (!status.ok()) context_.health->Fail(std::string(status.message()));
}

void Recovery::Adopt() {
  for (auto& [id, found] : found_) {
    SegmentFile& file = found.segment.file;
    // Nothing in it counts: its next incarnation must be above any that was ever spoken of.
    if (found.live == 0) file.incarnation = std::max(file.incarnation, found.incarnation_named);
    const uint64_t tail = found.live == 0 ? 0 : found.tail;
    table_.Adopt(std::move(file), tail, found.live);
  }
}

}  // namespace

absl::StatusOr<RecoveredIndex> RecoverSegments(const RecoveryContext& context, const SsdIndex::Contents& contents,
                                               SegmentTable& table) {
  return Recovery(context, contents, table).Run();
}

absl::Status CheckPartHead(const IndexedPart& entry, std::span<const std::byte> head) {
  absl::StatusOr<PartFrame> part = ParsePart(head.first(std::min<size_t>(head.size(), entry.meta.bytes)),
                                             {entry.meta.id, entry.meta.ns, entry.meta.generation});
  if (!part.ok()) return part.status();
  if (part->total_bytes != entry.meta.bytes) return absl::DataLossError("part: length is not the index's");
  if (part->frames_offset != entry.meta.frames_offset) {
    return absl::DataLossError("part: frames_offset is not the index's");
  }
  return absl::OkStatus();
}

}  // namespace kvasir
