// SPDX-License-Identifier: Apache-2.0
// Queues and threads of the SSD tier.
#include "store/tiers/ssd_tier_impl.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/tiers/ssd_reader.h"

namespace kvasir {
namespace {

constexpr size_t kReadsAtOnce = 16;  ///< a reader takes no more than its share, and at most this
constexpr uint32_t kDiskThreadsMax = 64;

absl::Status QueueFull(const SsdOptions& options, const char* what) {
  return absl::ResourceExhaustedError(absl::StrCat("SSD: queued_max: ", options.queued_max, " ", what, " wait"));
}
absl::Status Closing() { return absl::UnavailableError("SSD tier is closing"); }

}  // namespace

uint32_t ReaderCount(const SsdOptions& options) { return std::clamp(options.disk_threads, 1u, kDiskThreadsMax); }

SsdTierImpl::SsdTierImpl(const SsdOptions& options, House house)
    : options_(options), readers_(ReaderCount(options)), house_(std::move(house)) {
  readers_shown_.resize(readers_);
  threads_.emplace_back([this] { WriteLoop(); });
  pthread_setname_np(threads_.back().native_handle(), "kvasir-ssd-w");
  for (uint32_t i = 0; i < readers_; ++i) {
    threads_.emplace_back([this, i] { ReadLoop(readers_shown_[i]); });
    pthread_setname_np(threads_.back().native_handle(), "kvasir-ssd-r");
  }
}

SsdTierImpl::~SsdTierImpl() {
  {
    MutexLock lock(mutex_);
    closing_ = true;
    writes_ready_.NotifyAll();
    reads_ready_.NotifyAll();
  }
  for (std::thread& thread : threads_) thread.join();
}

void SsdTierImpl::Append(const PartMeta& meta, std::span<const std::byte> bytes, bool durable,
                         absl::AnyInvocable<void(absl::StatusOr<SsdLocation>)> done) {
  WriteOp op = AppendOp{meta, bytes, durable, std::move(done)};
  if (EnqueueWrite(op)) return;
  std::get<AppendOp>(op).done(QueueFull(options_, "writes"));
}

void SsdTierImpl::Read(const SsdLocation& location, std::span<std::byte> into,
                       absl::AnyInvocable<void(absl::Status)> done) {
  {
    MutexLock lock(mutex_);
    if (reads_.size() < options_.queued_max) {
      reads_.push_back({ReadOp{location, into, std::move(done)}, std::chrono::steady_clock::now()});
      reads_ready_.NotifyOne();
      return;
    }
  }
  done(QueueFull(options_, "reads"));
}

void SsdTierImpl::Drop(std::span<const std::pair<PartId, SsdLocation>> parts) {
  if (parts.empty()) return;
  MutexLock lock(mutex_);
  // Drops have no answer to refuse with: they join the one before, and are bounded by the parts there are.
  DropOp* last = writes_.empty() ? nullptr : std::get_if<DropOp>(&writes_.back().op);
  if (last == nullptr) {
    writes_.push_back({DropOp{}, std::chrono::steady_clock::now()});
    last = &std::get<DropOp>(writes_.back().op);
  }
  last->parts.insert(last->parts.end(), parts.begin(), parts.end());
  writes_ready_.NotifyOne();
}

void SsdTierImpl::OnEvicted(std::function<void(std::vector<PartId>)> callback) {
  house_.writer->OnEvicted(std::move(callback));
}

void SsdTierImpl::PutValue(NamedValue value, absl::AnyInvocable<void(absl::Status)> done) {
  WriteOp op = ValueOp{std::move(value), std::move(done)};
  if (EnqueueWrite(op)) return;
  std::get<ValueOp>(op).done(QueueFull(options_, "writes"));
}

SsdStatus SsdTierImpl::Status() const {
  const SegmentTable::Totals totals = house_.segments->totals();
  SsdStatus status;
  status.capacity = house_.limits.bytes_max;
  status.used = totals.used;
  status.live = totals.live;
  status.parts = house_.writer->parts();
  status.segments = totals.count;
  status.cause = house_.health->cause();
  status.read_only = !status.cause.empty();
  status.io = house_.disk->Name() + (house_.direct ? ", O_DIRECT" : ", buffered");
  status.read_errors = house_.disk->read_errors();
  status.write_errors = house_.disk->write_errors();
  return status;
}

SsdVitals SsdTierImpl::Vitals() const {
  SsdVitals vitals;
  vitals.writer = {writer_shown_.busy, writer_shown_.progress};
  vitals.oldest_write = writer_shown_.held();
  for (const Shown& reader : readers_shown_) {
    vitals.readers.push_back({reader.busy, reader.progress});
    vitals.oldest_read = std::min(vitals.oldest_read, reader.held());
  }
  vitals.out_of_space = house_.health->out_of_space();
  MutexLock lock(mutex_);  // of the queues: nobody holds it while the disk works
  if (!writes_.empty()) vitals.oldest_write = std::min(vitals.oldest_write, writes_.front().since);
  if (!reads_.empty()) vitals.oldest_read = std::min(vitals.oldest_read, reads_.front().since);
  return vitals;
}

/// False: the queue is full, and `op` still the caller's.
bool SsdTierImpl::EnqueueWrite(WriteOp& op) {
  MutexLock lock(mutex_);
  if (writes_.size() >= options_.queued_max) return false;
  writes_.push_back({std::move(op), std::chrono::steady_clock::now()});
  writes_ready_.NotifyOne();
  return true;
}

/// The next operation; none when the queue is empty and, with `wait`, the tier closes or a full disk is to be asked again.
std::optional<WriteOp> SsdTierImpl::NextWrite(bool wait) {
  MutexLock lock(mutex_);
  while (wait && writes_.empty() && !closing_) {
    if (!house_.health->out_of_space()) {
      writes_ready_.Wait(mutex_);
    } else if (!writes_ready_.WaitFor(mutex_, options_.space_probe)) {
      break;
    }
  }
  if (writes_.empty()) return std::nullopt;
  Queued<WriteOp> next = std::move(writes_.front());
  writes_.pop_front();
  writer_shown_.busy = true;
  writer_shown_.Step();
  writer_shown_.Hold(std::min(writer_shown_.held(), next.since));
  return std::move(next.op);
}

/// Some of the waiting reads; none only when the tier closes.
std::vector<ReadOp> SsdTierImpl::NextReads(Shown& shown) {
  MutexLock lock(mutex_);
  while (reads_.empty() && !closing_) reads_ready_.Wait(mutex_);
  const size_t share = (reads_.size() + readers_ - 1) / readers_;
  std::vector<ReadOp> taken;
  if (!reads_.empty()) {
    shown.busy = true;
    shown.Step();
    shown.Hold(reads_.front().since);
  }
  for (size_t count = std::min(share, kReadsAtOnce); count > 0; --count) {
    taken.push_back(std::move(reads_.front().op));
    reads_.pop_front();
  }
  return taken;
}

void SsdTierImpl::WriteLoop() {
  for (;;) {
    std::optional<WriteOp> op = NextWrite(true);
    if (op.has_value()) {
      TakeOrRefuse(*std::move(op));
    } else if (ended()) {
      return;
    } else {
      writer_shown_.busy = true;
      house_.writer->ProbeSpace();
    }
    GatherCompany();
    const bool may_wait = options_.group_commit > Duration::zero() && !closing();
    if (may_wait && house_.writer->gathers_durable() && !house_.writer->full()) {
      // One sync for all that arrives meanwhile; callers of durable appends asked for safety, not for haste.
      std::this_thread::sleep_for(options_.group_commit);
      GatherCompany();
    }
    house_.writer->Commit();
    writer_shown_.Rest();
  }
}

void SsdTierImpl::GatherCompany() {
  while (std::optional<WriteOp> op = NextWrite(false)) TakeOrRefuse(*std::move(op));
}

void SsdTierImpl::TakeOrRefuse(WriteOp op) {
  if (!closing() || std::holds_alternative<DropOp>(op)) {
    house_.writer->Take(std::move(op));
  } else if (auto* append = std::get_if<AppendOp>(&op)) {
    append->done(Closing());
  } else {
    std::get<ValueOp>(op).done(Closing());
  }
  if (!house_.writer->gathers()) writer_shown_.Hold(Instant::max());  // it committed on its way
}

void SsdTierImpl::ReadLoop(Shown& shown) {
  SsdReader reader(house_.direct, *house_.disk, *house_.segments);
  for (;;) {
    std::vector<ReadOp> reads = NextReads(shown);
    if (reads.empty()) return;
    if (closing()) {
      for (ReadOp& read : reads) read.done(Closing());
    } else {
      reader.Run(std::move(reads));
    }
    shown.Rest();
  }
}

bool SsdTierImpl::closing() const {
  MutexLock lock(mutex_);
  return closing_;
}

bool SsdTierImpl::ended() const {
  MutexLock lock(mutex_);
  return closing_ && writes_.empty();
}

}  // namespace kvasir
