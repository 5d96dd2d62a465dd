// SPDX-License-Identifier: Apache-2.0
// From results of disk operations to Status.
#include "store/tiers/ssd_health.h"

#include <cerrno>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvasir {
namespace {

const char* NameOf(DiskOp::Kind kind) {
  switch (kind) {
    case DiskOp::Kind::kRead:
      return "read";
    case DiskOp::Kind::kWrite:
      return "write";
    case DiskOp::Kind::kSync:
      return "fdatasync";
    case DiskOp::Kind::kSyncDirectory:
      return "fsync of the directory";
    case DiskOp::Kind::kAllocate:
      return "fallocate";
  }
  return "operation";
}

std::string Describe(const DiskOp& op) {
  return absl::StrCat(NameOf(op.kind), " failed: ", std::generic_category().message(static_cast<int>(-op.result)));
}

}  // namespace

void SsdHealth::Fail(std::string cause) {
  MutexLock lock(mutex_);
  if (cause_.empty()) cause_ = std::move(cause);
}

absl::Status SsdHealth::Check() const {
  MutexLock lock(mutex_);
  if (cause_.empty()) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("SSD tier is read-only: ", cause_));
}

std::string SsdHealth::cause() const {
  MutexLock lock(mutex_);
  return cause_;
}

absl::Status WriteOutcome(const DiskOp& op, SsdHealth& health) {
  const bool moves = op.kind == DiskOp::Kind::kWrite;
  const bool takes_space = moves || op.kind == DiskOp::Kind::kAllocate;
  if (op.result >= 0 && (!moves || static_cast<uint64_t>(op.result) == op.bytes)) {
    if (takes_space && health.out_of_space()) health.NoteSpace(false);
    return absl::OkStatus();
  }
  if (op.result >= 0) {
    health.NoteSpace(true);
    return absl::ResourceExhaustedError(absl::StrCat("SSD: ", op.result, " of ", op.bytes, " bytes were written"));
  }
  const bool sync = op.kind == DiskOp::Kind::kSync || op.kind == DiskOp::Kind::kSyncDirectory;
  const bool space = op.result == -ENOSPC || op.result == -EDQUOT || op.result == -EFBIG;
  // No space at fsync is a lost write like any other.
  if (space && !sync) {
    health.NoteSpace(true);
    return absl::ResourceExhaustedError(absl::StrCat("SSD: ", Describe(op)));
  }
  health.Fail(Describe(op));
  return health.Check();
}

absl::Status ReadOutcome(const DiskOp& op) {
  if (op.result < 0) return absl::DataLossError(absl::StrCat("SSD: ", Describe(op)));
  if (static_cast<uint64_t>(op.result) == op.bytes) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("SSD: the segment ends after ", op.result, " of ", op.bytes, " bytes"));
}

}  // namespace kvasir
