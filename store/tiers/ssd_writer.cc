// SPDX-License-Identifier: Apache-2.0
// Batches of appends, drops and values; see the steps in the header.
#include "store/tiers/ssd_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvasir {
namespace {

constexpr uint64_t kBounceBytes = 8u << 20;  ///< copied to alignment here, then written as one
constexpr uint64_t kBatchBytesMax = 32u << 20;
constexpr size_t kBatchOpsMax = 1024;

}  // namespace

SsdWriter::SsdWriter(Context context)
    : context_(context), bounce_(std::min(kBounceBytes, context.limits.segment_bytes)) {}

void SsdWriter::Adopt(const IndexedPart& part) {
  held_[part.meta.id] = Held{part.location, PadToBlock(part.meta.bytes), part.durable};
  written_[part.location.segment].push_back(part.meta.id);
  part_count_.store(held_.size(), std::memory_order_relaxed);
}

void SsdWriter::Take(WriteOp op) {
  if (auto* append = std::get_if<AppendOp>(&op)) TakeAppend(std::move(*append));
  if (auto* drop = std::get_if<DropOp>(&op)) TakeDrop(*drop);
  if (auto* value = std::get_if<ValueOp>(&op)) TakeValue(std::move(*value));
  if (full()) Commit();
}

bool SsdWriter::full() const {
  return batch_bytes_ >= kBatchBytesMax || pending_.size() + values_.size() + erased_.size() >= kBatchOpsMax;
}

void SsdWriter::Commit() {
  Flush();
  absl::Status payload = SyncPayload();
  if (payload.ok()) payload = WriteIndex();
  uint64_t tail = pending_.empty() ? 0 : pending_.front().location.offset;
  for (Pending& pending : pending_) {
    if (pending.status.ok()) pending.status = payload;
    if (!pending.status.ok()) continue;
    Publish(pending);
    tail = pending.end;
  }
  if (!pending_.empty()) {
    open_.tail = tail;  // behind the last part that counts: a failed one leaves no hole at the end
    context_.segments->SetTail(open_.id, tail);
  }
  // Answers last, from locals: a callback sees the tier as it now is.
  std::vector<Pending> appended = std::exchange(pending_, {});
  std::vector<ValueOp> values = std::exchange(values_, {});
  erased_.clear();
  batch_bytes_ = 0;
  durable_.clear();
  for (Pending& pending : appended) {
    if (pending.status.ok()) {
      pending.op.done(pending.location);
    } else {
      pending.op.done(std::move(pending.status));
    }
  }
  for (ValueOp& value : values) value.done(payload);
}

absl::Status SsdWriter::Evict(uint32_t segment) {
  std::vector<PartId> gone;
  for (const PartId& id : written_[segment]) {
    const auto found = held_.find(id);
    if (found != held_.end() && found->second.location.segment == segment) gone.push_back(id);
  }
  std::sort(gone.begin(), gone.end());
  gone.erase(std::unique(gone.begin(), gone.end()), gone.end());
  written_.erase(segment);
  if (gone.empty()) return absl::OkStatus();
  if (evicted_) evicted_(gone);
  for (const PartId& id : gone) Forget(id);
  SsdIndex::Batch batch;
  batch.erased = std::move(gone);
  // Not synced: the segment's next incarnation, which is, makes the entries void should they come back.
  return IndexOutcome(context_.index->Write(batch, false));
}

/// An index without space has it again some day; one that failed is written no more.
absl::Status SsdWriter::IndexOutcome(absl::Status status) {
  context_.health->NoteIndexSpace(absl::IsResourceExhausted(status));
  if (status.ok() || absl::IsResourceExhausted(status)) return status;
  context_.health->Fail(std::string(status.message()));
  return context_.health->Check();
}

void SsdWriter::TakeAppend(AppendOp op) {
  absl::Status status = CheckAppend(op);
  const uint64_t padded = PadToBlock(op.bytes.size());
  if (status.ok()) status = MakeRoom(padded);
  if (!status.ok()) {
    op.done(status);
    return;
  }
  // A durable promise outlives a careless copy: what takes a durable part's place is durable too.
  const auto older = held_.find(op.meta.id);
  op.durable = op.durable || (older != held_.end() && older->second.durable) || durable_.contains(op.meta.id);
  if (op.durable) durable_.insert(op.meta.id);
  batch_bytes_ += padded;

  if (bounce_fill_ == 0) bounce_begin_ = open_.tail;
  const SsdLocation location{open_.id, open_.incarnation, open_.tail};
  open_.tail += padded;
  const std::span<const std::byte> bytes = op.bytes;
  pending_.push_back({std::move(op), location, open_.tail, absl::OkStatus()});
  Copy(bytes);
}

void SsdWriter::TakeDrop(const DropOp& op) {
  for (const auto& [id, location] : op.parts) {
    if (!IsHeldAt(id, location)) continue;
    Forget(id);
    erased_.push_back(id);
  }
}

void SsdWriter::TakeValue(ValueOp op) {
  absl::Status status = context_.health->Check();
  if (op.value.name.size() > kNameBytesMax || op.value.value.size() > kNamedValueBytesMax) {
    status = absl::InvalidArgumentError(absl::StrCat("SSD: a named value of ", op.value.name.size(), " + ",
                                                     op.value.value.size(), " bytes; at most ", kNameBytesMax, " + ",
                                                     kNamedValueBytesMax));
  }
  if (!status.ok()) {
    op.done(status);
    return;
  }
  batch_bytes_ += op.value.value.size();
  values_.push_back(std::move(op));
}

absl::Status SsdWriter::CheckAppend(const AppendOp& op) const {
  if (absl::Status status = context_.health->Check(); !status.ok()) return status;
  const uint64_t bytes = op.bytes.size();
  if (bytes != op.meta.bytes || bytes < sizeof(PartHeader) || op.meta.frames_offset > bytes) {
    return absl::InvalidArgumentError(absl::StrCat("SSD: a part of ", bytes, " bytes whose meta says bytes ",
                                                   op.meta.bytes, ", frames_offset ", op.meta.frames_offset));
  }
  if (PadToBlock(bytes) > context_.limits.part_bytes_max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("SSD: a part of ", bytes, " bytes; segment_bytes allows ", context_.limits.part_bytes_max()));
  }
  return absl::OkStatus();
}

absl::Status SsdWriter::MakeRoom(uint64_t padded) {
  if (open_.id != 0 && open_.room() >= padded) return absl::OkStatus();
  Commit();
  if (absl::Status status = context_.health->Check(); !status.ok()) return status;
  // The commit may have given room back.
  if (open_.id != 0 && open_.room() >= padded) return absl::OkStatus();
  absl::StatusOr<SegmentUse> next =
      context_.segments->Next(open_.id, [this](uint32_t segment) { return Evict(segment); });
  open_ = next.ok() ? *next : SegmentUse{};
  if (next.ok()) written_[open_.id].clear();
  return next.status();
}

void SsdWriter::ProbeSpace() {
  Commit();
  if (!context_.health->Check().ok() || !IndexOutcome(context_.index->TryAgain()).ok()) return;
  if (open_.id == 0 || open_.room() < kBlockBytes) {
    const auto keep = [](uint32_t) { return absl::ResourceExhaustedError("SSD: nothing is evicted for a question"); };
    absl::StatusOr<SegmentUse> next = context_.segments->Next(open_.id, keep);
    if (!next.ok()) return;
    open_ = *next;
    written_[open_.id].clear();
  }
  // Free space behind the last part: the next one is written over it.
  std::memset(bounce_.data(), 0, kBlockBytes);
  DiskOp write{DiskOp::Kind::kWrite, open_.fd, open_.tail, bounce_.data(), kBlockBytes, 0};
  context_.disk->Run({&write, 1});
  (void)WriteOutcome(write, *context_.health);
}

/// Into the bounce buffer, padded with zeros, flushing whenever it is full.
void SsdWriter::Copy(std::span<const std::byte> bytes) {
  const uint64_t padding = PadToBlock(bytes.size()) - bytes.size();
  while (!bytes.empty()) {
    const uint64_t count = std::min<uint64_t>(bytes.size(), bounce_.size() - bounce_fill_);
    std::memcpy(bounce_.data() + bounce_fill_, bytes.data(), count);
    bounce_fill_ += count;
    bytes = bytes.subspan(count);
    if (bytes.empty()) {
      // Room for the padding: the buffer is whole blocks, and so is what lies before this part.
      std::memset(bounce_.data() + bounce_fill_, 0, padding);
      bounce_fill_ += padding;
    }
    if (bounce_fill_ == bounce_.size()) Flush();
  }
}

void SsdWriter::Flush() {
  if (bounce_fill_ == 0) return;
  std::vector<DiskOp> ops;
  for (uint64_t at = 0; at < bounce_fill_; at += kDiskOpBytesMax) {
    ops.push_back({DiskOp::Kind::kWrite, open_.fd, bounce_begin_ + at, bounce_.data() + at,
                   std::min(kDiskOpBytesMax, bounce_fill_ - at), 0});
  }
  context_.disk->Run(ops);
  for (const DiskOp& op : ops) {
    const absl::Status status = WriteOutcome(op, *context_.health);
    if (!status.ok()) FailOverlapping(op.offset, op.offset + op.bytes, status);
  }
  bounce_begin_ += bounce_fill_;
  bounce_fill_ = 0;
}

void SsdWriter::FailOverlapping(uint64_t begin, uint64_t end, const absl::Status& status) {
  for (Pending& pending : pending_) {
    const bool touched = pending.location.offset < end && begin < pending.end;
    if (touched && pending.status.ok()) pending.status = status;
  }
}

absl::Status SsdWriter::SyncPayload() {
  const bool needed =
      std::any_of(pending_.begin(), pending_.end(), [](const Pending& p) { return p.op.durable && p.status.ok(); });
  if (!needed || !context_.sync) return absl::OkStatus();
  DiskOp sync{DiskOp::Kind::kSync, open_.fd, 0, nullptr, 0, 0};
  context_.disk->Run({&sync, 1});
  return WriteOutcome(sync, *context_.health);
}

absl::Status SsdWriter::WriteIndex() {
  SsdIndex::Batch batch;
  batch.erased = erased_;
  bool promised = !values_.empty();
  for (const Pending& pending : pending_) {
    if (!pending.status.ok()) continue;
    batch.put.push_back({pending.op.meta, pending.location, pending.op.durable});
    promised = promised || pending.op.durable;
  }
  for (const ValueOp& value : values_) batch.values.push_back(value.value);
  if (batch.empty()) return absl::OkStatus();
  return IndexOutcome(context_.index->Write(batch, promised && context_.sync));
}

void SsdWriter::Publish(const Pending& pending) {
  const PartId& id = pending.op.meta.id;
  Forget(id);
  const uint64_t padded = PadToBlock(pending.op.meta.bytes);
  held_[id] = Held{pending.location, padded, pending.op.durable};
  written_[pending.location.segment].push_back(id);
  context_.segments->AddLive(pending.location.segment, padded);
  part_count_.store(held_.size(), std::memory_order_relaxed);
}

/// In memory only.
void SsdWriter::Forget(const PartId& id) {
  const auto found = held_.find(id);
  if (found == held_.end()) return;
  context_.segments->SubtractLive(found->second.location.segment, found->second.padded);
  held_.erase(found);
  part_count_.store(held_.size(), std::memory_order_relaxed);
}

bool SsdWriter::IsHeldAt(const PartId& id, const SsdLocation& location) const {
  const auto found = held_.find(id);
  return found != held_.end() && found->second.location == location;
}

}  // namespace kvasir
