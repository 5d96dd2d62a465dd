// SPDX-License-Identifier: Apache-2.0
// The plain body of DiskIo: pread, pwrite, fdatasync, and the handles the tier keeps.
#include "store/tiers/disk_io.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "transport/check.h"

namespace kvasir {
namespace {

constexpr int kInterruptedMax = 100;  ///< EINTR in a row before it is reported

int64_t RunOnce(const DiskOp& op) {
  const off_t offset = static_cast<off_t>(op.offset);
  switch (op.kind) {
    case DiskOp::Kind::kRead:
      return pread(op.fd, op.data, op.bytes, offset);
    case DiskOp::Kind::kWrite:
      return pwrite(op.fd, op.data, op.bytes, offset);
    case DiskOp::Kind::kSync:
      return fdatasync(op.fd);
    case DiskOp::Kind::kSyncDirectory:
      return fsync(op.fd);
    case DiskOp::Kind::kAllocate: {
      const int done = fallocate(op.fd, 0, offset, static_cast<off_t>(op.bytes));
      // A file system without fallocate: the size alone, space when it is written.
      if (done != 0 && (errno == EOPNOTSUPP || errno == ENOSYS)) {
        return ftruncate(op.fd, static_cast<off_t>(op.offset + op.bytes));
      }
      return done;
    }
  }
  errno = EINVAL;
  return -1;
}

class PwriteDisk final : public DiskIo {
 public:
  explicit PwriteDisk(std::string why) : name_("pread/pwrite" + (why.empty() ? "" : " (" + why + ")")) {}
  void Run(std::span<DiskOp> ops) override {
    for (DiskOp& op : ops) op.result = RunPlainly(op);
  }
  std::string Name() const override { return name_; }

 private:
  const std::string name_;
};

}  // namespace

int64_t RunPlainly(const DiskOp& op) {
  // A sync is repeated only after EINTR, which says that nothing was decided; any other answer stands.
  for (int attempt = 0;; ++attempt) {
    const int64_t result = RunOnce(op);
    if (result >= 0) return result;
    const int cause = errno;
    if (cause != EINTR || attempt >= kInterruptedMax) return -cause;
  }
}

std::unique_ptr<DiskIo> MakePwriteDisk(std::string why) { return std::make_unique<PwriteDisk>(std::move(why)); }

void CountingDisk::Run(std::span<DiskOp> ops) {
  disk_->Run(ops);
  for (const DiskOp& op : ops) {
    if (op.result >= 0) continue;
    (op.kind == DiskOp::Kind::kRead ? read_errors_ : write_errors_).fetch_add(1, std::memory_order_relaxed);
  }
}

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

AlignedBuffer::AlignedBuffer(uint64_t bytes)
    : bytes_(PadToBlock(bytes)), data_(static_cast<std::byte*>(std::aligned_alloc(kBlockBytes, bytes_))) {
  KVASIR_CHECK(data_ != nullptr, "no memory for the SSD tier's buffers");
}

void AlignedBuffer::Free::operator()(std::byte* data) const { std::free(data); }

}  // namespace kvasir
