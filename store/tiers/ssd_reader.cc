// SPDX-License-Identifier: Apache-2.0
// Rounds of read operations for a set of parts.
#include "store/tiers/ssd_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace kvasir {
namespace {

constexpr uint64_t kBounceBytes = 4u << 20;
constexpr size_t kOpsMax = 64;  ///< operations of a round

bool IsAligned(const std::byte* data) { return reinterpret_cast<uintptr_t>(data) % kBlockBytes == 0; }

}  // namespace

SsdReader::SsdReader(bool direct, DiskIo& disk, SegmentTable& segments)
    : direct_(direct), disk_(disk), segments_(segments), bounce_(kBounceBytes) {}

void SsdReader::Run(std::vector<ReadOp> reads) {
  for (ReadOp& read : reads) {
    Job job;
    // To the end of the last block, which the file holds too.
    absl::StatusOr<int> fd = segments_.Pin(read.location, PadToBlock(read.into.size()));
    if (fd.ok()) job.fd = *fd;
    job.status = fd.status();
    job.read = std::move(read);
    jobs_.push_back(std::move(job));
  }
  for (;;) {
    for (size_t job = 0; job < jobs_.size(); ++job) {
      while (Plan(job)) {
      }
    }
    if (ops_.empty()) break;
    disk_.Run(ops_);
    Finish();
  }
  for (Job& job : jobs_) {
    if (job.fd >= 0) segments_.Unpin(job.read.location.segment);
    job.read.done(std::move(job.status));
  }
  jobs_.clear();
}

/// Adds the next piece of a job to the round. False: the job, or the round, has had enough.
bool SsdReader::Plan(size_t index) {
  Job& job = jobs_[index];
  const uint64_t left = job.read.into.size() - job.done;
  if (left == 0 || !job.status.ok() || ops_.size() == kOpsMax) return false;
  Piece piece{index, job.done, std::min(left, kDiskOpBytesMax), false};
  std::byte* target = job.read.into.data() + piece.at;
  uint64_t bytes = piece.bytes;
  if (direct_ && IsAligned(target) && bytes > kBlockBytes) {
    bytes = piece.bytes = bytes / kBlockBytes * kBlockBytes;  // whole blocks now; a rest is bounced next time
  } else if (direct_ && !(IsAligned(target) && bytes == kBlockBytes)) {
    bytes = PadToBlock(bytes);
    if (bounce_fill_ + bytes > bounce_.size()) return false;
    piece.bounced = true;
    target = bounce_.data() + bounce_fill_;
    bounce_fill_ += bytes;
  }
  ops_.push_back({DiskOp::Kind::kRead, job.fd, job.read.location.offset + piece.at, target, bytes, 0});
  pieces_.push_back(piece);
  job.done += piece.bytes;
  return true;
}

/// Takes the round's results, and empties it.
void SsdReader::Finish() {
  for (size_t i = 0; i < ops_.size(); ++i) {
    const Piece& piece = pieces_[i];
    Job& job = jobs_[piece.job];
    const absl::Status status = ReadOutcome(ops_[i]);
    if (!status.ok() && job.status.ok()) job.status = status;
    if (status.ok() && piece.bounced) std::memcpy(job.read.into.data() + piece.at, ops_[i].data, piece.bytes);
  }
  ops_.clear();
  pieces_.clear();
  bounce_fill_ = 0;
}

}  // namespace kvasir
