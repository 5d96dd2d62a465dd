// SPDX-License-Identifier: Apache-2.0
// The io_uring body of DiskIo. A ring serves one thread at a time: Run borrows one from a pool as large as its callers.
#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "store/tiers/disk_io.h"
#include "transport/check.h"
#include "transport/sync.h"

namespace kvasir {
namespace {

constexpr unsigned kRingEntries = 64;  ///< operations in flight a ring
constexpr int kOpcodes[] = {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FSYNC};

class Ring {
 public:
  Ring() : error_(-io_uring_queue_init(kRingEntries, &ring_, 0)) {}
  ~Ring() {
    if (error_ == 0) io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /// "" when it was made and the kernel knows the operations used here, else why not.
  std::string Trouble() {
    if (error_ != 0) return strerrorname_np(error_);
    io_uring_probe* probe = io_uring_get_probe_ring(&ring_);
    if (probe == nullptr) return "the kernel is too old";
    bool all = true;
    for (int opcode : kOpcodes) all = all && io_uring_opcode_supported(probe, opcode) != 0;
    io_uring_free_probe(probe);
    return all ? "" : "the kernel is too old";
  }

  /// At most kRingEntries operations.
  void Run(std::span<DiskOp> ops) {
    unsigned waiting = 0;
    for (DiskOp& op : ops) waiting += Prepare(op) ? 1 : 0;
    while (waiting > 0) {
      const int submitted = io_uring_submit_and_wait(&ring_, 1);
      // The kernel holds our buffers: nothing but completions may end this loop.
      KVASIR_CHECK(
          submitted >= 0 || submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY || submitted == -ENOMEM,
          "io_uring_submit failed with operations in flight");
      waiting -= Reap();
    }
  }

 private:
  /// False: the operation is done already, the plain way.
  bool Prepare(DiskOp& op) {
    io_uring_sqe* entry = nullptr;
    if (op.kind != DiskOp::Kind::kAllocate) entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
      op.result = RunPlainly(op);
      return false;
    }
    const unsigned bytes = static_cast<unsigned>(op.bytes);
    switch (op.kind) {
      case DiskOp::Kind::kRead:
        io_uring_prep_read(entry, op.fd, op.data, bytes, op.offset);
        break;
      case DiskOp::Kind::kWrite:
        io_uring_prep_write(entry, op.fd, op.data, bytes, op.offset);
        break;
      default:
        io_uring_prep_fsync(entry, op.fd, op.kind == DiskOp::Kind::kSync ? IORING_FSYNC_DATASYNC : 0);
    }
    io_uring_sqe_set_data(entry, &op);
    return true;
  }

  unsigned Reap() {
    unsigned count = 0;
    io_uring_cqe* done = nullptr;
    while (io_uring_peek_cqe(&ring_, &done) == 0 && done != nullptr) {
      DiskOp& op = *static_cast<DiskOp*>(io_uring_cqe_get_data(done));
      op.result = done->res;
      io_uring_cqe_seen(&ring_, done);
      // Interrupted, or no worker free: nothing was done, so the plain call decides.
      if (op.result == -EINTR || op.result == -EAGAIN) op.result = RunPlainly(op);
      ++count;
    }
    return count;
  }

  io_uring ring_{};
  const int error_;  // errno of its making
};

class UringDisk final : public DiskIo {
 public:
  explicit UringDisk(std::vector<std::unique_ptr<Ring>> rings) : free_(std::move(rings)) {}

  void Run(std::span<DiskOp> ops) override {
    std::unique_ptr<Ring> ring = Borrow();
    while (!ops.empty()) {
      const size_t count = std::min<size_t>(ops.size(), kRingEntries);
      ring->Run(ops.first(count));
      ops = ops.subspan(count);
    }
    GiveBack(std::move(ring));
  }
  std::string Name() const override { return "io_uring"; }

 private:
  std::unique_ptr<Ring> Borrow() {
    MutexLock lock(mutex_);
    while (free_.empty()) returned_.Wait(mutex_);
    std::unique_ptr<Ring> ring = std::move(free_.back());
    free_.pop_back();
    return ring;
  }
  void GiveBack(std::unique_ptr<Ring> ring) {
    MutexLock lock(mutex_);
    free_.push_back(std::move(ring));
    returned_.NotifyOne();
  }

  Mutex mutex_;
  CondVar returned_;
  std::vector<std::unique_ptr<Ring>> free_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

std::unique_ptr<DiskIo> MakeUringDisk(uint32_t callers, std::string* why) {
  std::vector<std::unique_ptr<Ring>> rings;
  for (uint32_t i = 0; i < std::max(callers, 1u); ++i) {
    rings.push_back(std::make_unique<Ring>());
    const std::string trouble = rings.back()->Trouble();
    if (trouble.empty()) continue;
    *why = "io_uring: " + trouble;
    return nullptr;
  }
  return std::make_unique<UringDisk>(std::move(rings));
}

}  // namespace kvasir
