// SPDX-License-Identifier: Apache-2.0
// DiskIo: the SSD tier's only way to the disk for payload: batches of reads, writes, syncs and allocations on open
// files. Two bodies (io_uring; pread/pwrite on the calling thread) and, in tests, one that fails where it is told to.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

namespace kvasir {

inline constexpr uint64_t kBlockBytes = 4096;  ///< alignment of payload, in files and in memory: what O_DIRECT asks for

constexpr uint64_t PadToBlock(uint64_t bytes) { return (bytes + kBlockBytes - 1) & ~(kBlockBytes - 1); }

/// One operation and, after Run, its outcome.
struct DiskOp {
  enum class Kind : uint8_t {
    kRead,
    kWrite,
    kSync,           ///< fdatasync: the bytes and what is needed to find them
    kSyncDirectory,  ///< fsync of a directory: its names
    kAllocate,       ///< space for [offset, offset + bytes), file grown to hold it
  };
  Kind kind = Kind::kRead;
  int fd = -1;
  uint64_t offset = 0;
  std::byte* data = nullptr;  ///< borrowed until Run returns
  uint64_t bytes = 0;         ///< of data; at most kDiskOpBytesMax for a read or write
  int64_t result = 0;         ///< bytes moved (0 for the others), or -errno. Fewer than asked = end of file or no space
};

inline constexpr uint64_t kDiskOpBytesMax = 1u << 20;  ///< larger moves are cut, so that a device sees them in parallel

class DiskIo {
 public:
  virtual ~DiskIo() = default;
  /// Carries out every operation, in no order, and returns when all have their result. Any thread, several at a time.
  virtual void Run(std::span<DiskOp> ops) = 0;
  /// "io_uring", "pread/pwrite": for the operator.
  virtual std::string Name() const = 0;
};

/// Plain system calls on the calling thread: the tier's disk threads are the pool. Always works. `why` there is nothing
/// better ("io_uring: EPERM") goes into its name.
std::unique_ptr<DiskIo> MakePwriteDisk(std::string why = "");
/// io_uring with one ring for each of `callers` threads. Null where the kernel, or seccomp, denies it; then `why` says so.
std::unique_ptr<DiskIo> MakeUringDisk(uint32_t callers, std::string* why);

/// Passes operations on, and counts those that the disk refused.
class CountingDisk final : public DiskIo {
 public:
  explicit CountingDisk(std::unique_ptr<DiskIo> disk) : disk_(std::move(disk)) {}
  void Run(std::span<DiskOp> ops) override;
  std::string Name() const override { return disk_->Name(); }
  uint64_t read_errors() const { return read_errors_.load(std::memory_order_relaxed); }
  uint64_t write_errors() const { return write_errors_.load(std::memory_order_relaxed); }  ///< writes, syncs, allocations

 private:
  const std::unique_ptr<DiskIo> disk_;
  std::atomic<uint64_t> read_errors_{0}, write_errors_{0};
};

/// Carries out one operation with a plain system call; what both bodies do with the rare kinds.
int64_t RunPlainly(const DiskOp& op);

/// An open file; closes it.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();
  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

/// Memory that O_DIRECT accepts. Ends the process where there is none: it is made once, at Open.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(uint64_t bytes);  ///< rounded up to whole blocks
  std::byte* data() { return data_.get(); }
  uint64_t size() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  uint64_t bytes_;
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace kvasir
