// SPDX-License-Identifier: Apache-2.0
// SegmentTable: the segments of a tier: which may be read, which is written next, what must be emptied for it.
//
//   free (no live part) --Next--> written, until full --> full --Drop, replaced--> fewer live bytes --> free
//                                                          \--Next, when room is short: evicted ------^
//   A segment that is read is pinned; it is not written again before its last reader is gone.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/tiers/ssd_health.h"
#include "store/tiers/ssd_segment_file.h"
#include "store/tiers/ssd_tier.h"

namespace kvasir {

inline constexpr uint64_t kSegmentsMax = 1024;  ///< a segment is an open file: larger tiers take larger segments

struct SegmentLimits {
  uint64_t bytes_max = 0;
  uint64_t segment_bytes = 0;
  /// Whole blocks, at least 4 segments, at most kSegmentsMax. InvalidArgument names the option that cannot be.
  static absl::StatusOr<SegmentLimits> From(const SsdOptions& options);
  uint64_t part_bytes_max() const { return segment_bytes - kBlockBytes; }
};

struct SegmentUse {
  uint32_t id = 0;  ///< 0 = none
  uint32_t incarnation = 0;
  int fd = -1;
  uint64_t bytes = 0;  ///< of the file
  uint64_t tail = 0;   ///< where free space begins
  uint64_t live = 0;   ///< padded bytes of the parts the index knows
  uint64_t room() const { return tail == 0 || tail > bytes ? 0 : bytes - tail; }
};

/// Any thread may pin; all else belongs to the writer's thread (and to Open, before there is one).
class SegmentTable {
 public:
  struct Context {
    std::string directory;
    SegmentLimits limits;
    SegmentAccess access = SegmentAccess::kBuffered;
    bool sync = true;
    DiskIo* disk = nullptr;       ///< outlives the table
    SsdHealth* health = nullptr;  ///< outlives the table
  };
  /// Empties a segment: reports its parts, takes them out of the index, and subtracts their live bytes.
  using Evict = std::function<absl::Status(uint32_t segment)>;

  explicit SegmentTable(Context context) : context_(std::move(context)) {}

  /// Holds the segment for one read. DataLoss when the location is no longer, or never was, a part's.
  absl::StatusOr<int> Pin(const SsdLocation& location, uint64_t bytes);
  void Unpin(uint32_t segment);

  /// Takes over a file found at Open. One whose size is not segment_bytes is read, and removed when it is empty.
  void Adopt(SegmentFile file, uint64_t tail, uint64_t live);
  /// The next new segment gets a number above `id`.
  void SkipTo(uint32_t id);
  /// The segment that was being written when the tier closed, if it has room.
  SegmentUse FindUnfinished() const;

  /// A segment to write from its beginning: a free one, else a new one, else the one with the fewest live bytes (not
  /// `current`, unless it is alone) after `evict`. Its new incarnation is on disk when this returns.
  absl::StatusOr<SegmentUse> Next(uint32_t current, const Evict& evict);

  void SetTail(uint32_t segment, uint64_t tail);
  void AddLive(uint32_t segment, uint64_t bytes);
  void SubtractLive(uint32_t segment, uint64_t bytes);

  struct Totals {
    uint64_t count = 0, bytes = 0, used = 0, live = 0;
  };
  Totals totals() const;

 private:
  struct Segment {
    SegmentFile file;
    uint64_t tail = 0;
    uint64_t live = 0;
    uint32_t pins = 0;
  };

  SegmentUse UseOf(const Segment& segment) const;
  Segment& At(uint32_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint32_t FindFree() const;
  uint32_t FindLeastLive(uint32_t current) const;
  bool MayGrow() const;
  void Condemn(uint32_t id);
  absl::StatusOr<SegmentUse> Make();
  absl::StatusOr<SegmentUse> Renew(uint32_t id);
  absl::Status Remove(uint32_t id);

  const Context context_;
  uint32_t next_id_ = 1;
  mutable Mutex mutex_;
  CondVar unpinned_;
  std::map<uint32_t, Segment> segments_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvasir
