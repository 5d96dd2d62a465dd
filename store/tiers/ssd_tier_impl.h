// SPDX-License-Identifier: Apache-2.0
// SsdTierImpl: the queues and threads of an SSD tier: one writer, disk_threads readers. A caller's thread only appends
// to a queue. Internal to store/tiers; its tests open it with a disk of their own.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "store/tiers/disk_io.h"
#include "store/tiers/ssd_directory.h"
#include "store/tiers/ssd_health.h"
#include "store/tiers/ssd_index.h"
#include "store/tiers/ssd_ops.h"
#include "store/tiers/ssd_segments.h"
#include "store/tiers/ssd_tier.h"
#include "store/tiers/ssd_writer.h"
#include "transport/sync.h"

namespace kvasir {

/// disk_threads within its limits.
uint32_t ReaderCount(const SsdOptions& options);

/// As SsdTier::Open, but every operation on segments goes through `disk`.
absl::StatusOr<std::unique_ptr<SsdTier>> OpenWithDisk(const SsdOptions& options, std::unique_ptr<DiskIo> disk,
                                                      SsdTier::Recovered* recovered);

class SsdTierImpl final : public SsdTier {
 public:
  /// What outlives the threads, in the order it is made. Held by pointers: the parts refer to each other.
  struct House {
    std::unique_ptr<SsdDirectory> directory;
    std::unique_ptr<CountingDisk> disk;
    std::unique_ptr<SsdHealth> health;
    std::unique_ptr<SsdIndex> index;
    std::unique_ptr<SegmentTable> segments;
    std::unique_ptr<SsdWriter> writer;
    bool direct = false;
    SegmentLimits limits;
  };

  SsdTierImpl(const SsdOptions& options, House house);
  /// Carries out what is begun and queued drops; answers Unavailable to the rest.
  ~SsdTierImpl() override;

  void Append(const PartMeta& meta, std::span<const std::byte> bytes, bool durable,
              absl::AnyInvocable<void(absl::StatusOr<SsdLocation>)> done) override;
  void Read(const SsdLocation& location, std::span<std::byte> into,
            absl::AnyInvocable<void(absl::Status)> done) override;
  void Drop(std::span<const std::pair<PartId, SsdLocation>> parts) override;
  void OnEvicted(std::function<void(std::vector<PartId>)> callback) override;
  void PutValue(NamedValue value, absl::AnyInvocable<void(absl::Status)> done) override;
  SsdStatus Status() const override;
  SsdVitals Vitals() const override;
  std::string Failure() const override { return house_.health->cause(); }

 private:
  template <class Op>
  struct Queued {
    Op op;
    Instant since;
  };
  /// What a thread shows of itself.
  struct Shown {
    std::atomic<bool> busy{false};
    std::atomic<uint64_t> progress{0};
    std::atomic<Duration::rep> oldest{Instant::max().time_since_epoch().count()};  ///< of what it took and did not answer
    void Step() { progress.fetch_add(1, std::memory_order_relaxed); }
    void Rest() {
      Step();
      Hold(Instant::max());
      busy = false;
    }
    void Hold(Instant since) { oldest.store(since.time_since_epoch().count(), std::memory_order_relaxed); }
    Instant held() const { return Instant(Duration(oldest.load(std::memory_order_relaxed))); }
  };

  bool EnqueueWrite(WriteOp& op);
  std::optional<WriteOp> NextWrite(bool wait);
  std::vector<ReadOp> NextReads(Shown& shown);
  void WriteLoop();
  void GatherCompany();
  void ReadLoop(Shown& shown);
  void TakeOrRefuse(WriteOp op);
  bool closing() const;
  bool ended() const;

  const SsdOptions options_;
  const uint32_t readers_;
  House house_;
  mutable Mutex mutex_;
  CondVar writes_ready_;
  CondVar reads_ready_;
  std::deque<Queued<WriteOp>> writes_ ABSL_GUARDED_BY(mutex_);
  std::deque<Queued<ReadOp>> reads_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  Shown writer_shown_;
  std::deque<Shown> readers_shown_;  // one a reader; a deque: they never move
  std::vector<std::thread> threads_;
};

}  // namespace kvasir
