// SPDX-License-Identifier: Apache-2.0
// SsdWriter: everything that changes the tier, in the order it was asked for. It gathers operations into a batch and
// commits it in these steps, each only after the one before:
//
//   1 payload written   2 fdatasync of the segment, if a part is durable   3 one RocksDB batch, synced if a part is
//   durable or a value is in it   4 the part is in memory's index   5 the answers
//
// A batch lies in one segment: the next segment is opened, and another evicted for it, between batches only. What fails
// before step 3 leaves no trace; the space it took is written again by the next batch.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "store/tiers/disk_io.h"
#include "store/tiers/ssd_health.h"
#include "store/tiers/ssd_index.h"
#include "store/tiers/ssd_ops.h"
#include "store/tiers/ssd_segments.h"

namespace kvasir {

/// Not thread safe: one thread at a time, the writer's; only parts() may be called from anywhere.
class SsdWriter {
 public:
  struct Context {
    SegmentLimits limits;
    bool sync = true;
    DiskIo* disk = nullptr;  ///< these four outlive the writer
    SsdHealth* health = nullptr;
    SsdIndex* index = nullptr;
    SegmentTable* segments = nullptr;
  };
  using Evicted = std::function<void(std::vector<PartId>)>;

  explicit SsdWriter(Context context);

  /// A part that was found at Open. Its bytes are counted as live already.
  void Adopt(const IndexedPart& part);
  /// After the last Adopt: goes on in the segment that was being written.
  void Resume() { open_ = context_.segments->FindUnfinished(); }
  void OnEvicted(Evicted callback) { evicted_ = std::move(callback); }

  /// Takes an operation into the batch; may commit, and answers at once what cannot succeed.
  void Take(WriteOp op);
  /// Commits the batch and answers all of it.
  void Commit();
  /// On a disk that was full: asks it for a block again, and leaves all that is stored alone. The outcome is in SsdHealth.
  void ProbeSpace();
  /// Something waits for its commit.
  bool gathers() const { return !pending_.empty() || !values_.empty(); }
  /// A durable append waits for its commit.
  bool gathers_durable() const { return !durable_.empty(); }
  /// The batch is as large as it may get: waiting for company gains nothing.
  bool full() const;
  /// Empties a segment: its parts are reported, then forgotten.
  absl::Status Evict(uint32_t segment);

  uint64_t parts() const { return part_count_.load(std::memory_order_relaxed); }

 private:
  struct Held {
    SsdLocation location;
    uint64_t padded = 0;
    bool durable = false;
  };
  struct Pending {
    AppendOp op;
    SsdLocation location;
    uint64_t end = 0;  ///< padded, in the segment
    absl::Status status;
  };

  void TakeAppend(AppendOp op);
  void TakeDrop(const DropOp& op);
  void TakeValue(ValueOp op);
  absl::Status CheckAppend(const AppendOp& op) const;
  absl::Status MakeRoom(uint64_t padded);
  void Copy(std::span<const std::byte> bytes);
  void Flush();
  void FailOverlapping(uint64_t begin, uint64_t end, const absl::Status& status);
  absl::Status SyncPayload();
  absl::Status WriteIndex();
  absl::Status IndexOutcome(absl::Status status);
  void Publish(const Pending& pending);
  void Forget(const PartId& id);
  bool IsHeldAt(const PartId& id, const SsdLocation& location) const;

  const Context context_;
  Evicted evicted_;
  absl::flat_hash_map<PartId, Held> held_;
  absl::flat_hash_map<uint32_t, std::vector<PartId>> written_;  ///< by segment; may name parts that moved on
  std::atomic<uint64_t> part_count_{0};

  // The batch.
  SegmentUse open_;  ///< being written; `tail` is where the next part goes
  std::vector<Pending> pending_;
  std::vector<ValueOp> values_;
  std::vector<PartId> erased_;
  uint64_t batch_bytes_ = 0;
  absl::flat_hash_set<PartId> durable_;  ///< parts of the batch that were asked to be durable
  AlignedBuffer bounce_;
  uint64_t bounce_begin_ = 0;  ///< where in the segment the bounce buffer begins
  uint64_t bounce_fill_ = 0;
};

}  // namespace kvasir
