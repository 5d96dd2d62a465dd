// SPDX-License-Identifier: Apache-2.0
// Memory that a transport may serve from or land in, and the rights to read it.
//
//   SharedMemory   bytes of our own: one sealed memfd, mapped writable once      (a slab, a staging ring)
//   MemoryRegion   bytes registered with one transport
//   RemoteSpan     a right to read {region, offset, length}, as it travels; there is no right to write, anywhere
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace kvasir {

enum class MemoryPlace : uint8_t { kHost = 0, kCuda = 1 };

/// Memory to register. The owner keeps it alive until the region is destroyed.
struct MemorySpan {
  std::byte* data = nullptr;
  uint64_t bytes = 0;
  MemoryPlace place = MemoryPlace::kHost;
  int device = 0;
  int fd = -1;         ///< sealed memfd behind it, offset 0 = data; -1 = none (then shm copies through its socket)
  int dmabuf_fd = -1;  ///< for device memory
};

/// What a memfd's pages are. Huge ones (2 MiB) are set aside by the operator, are taken at birth and never swapped.
enum class PageKind : uint8_t { kNormal = 0, kHuge = 1 };

/// A memfd mapped writable once and then sealed against shrinking, growing and any later writable mapping: the owner
/// writes, everybody else can only read. Zeroed at birth.
class SharedMemory {
 public:
  static constexpr uint64_t kHugePageBytes = 2ull << 20;
  /// kResourceExhausted names the size and what the system answered: too few huge pages is one of them. Huge memory is a
  /// multiple of kHugePageBytes.
  static absl::StatusOr<SharedMemory> Create(uint64_t bytes, const char* name, PageKind pages = PageKind::kNormal);
  SharedMemory() = default;
  SharedMemory(SharedMemory&& other) noexcept;
  SharedMemory& operator=(SharedMemory&& other) noexcept;
  ~SharedMemory();
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  int fd() const { return fd_; }
  MemorySpan span() const { return {data_, bytes_, MemoryPlace::kHost, 0, fd_, -1}; }

 private:
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
  int fd_ = -1;
};

/// A decoded grant. Encode() is what goes into an Offer or an Acquire answer: kRemoteSpanBytes opaque bytes.
struct RemoteSpan {
  static constexpr size_t kEncodedBytes = 40;
  uint64_t incarnation = 0;  ///< of the granting process; another process behind the same address refuses it
  uint64_t grant = 0;        ///< unguessable; names region, scope and limits at the granting side
  uint64_t offset = 0;       ///< inside the grant; Slice moves it
  uint64_t length = 0;
  uint64_t hint = 0;         ///< for a backend that needs more than the grant (a remote key); the ones here leave it 0

  std::string Encode() const;
  /// kInvalidArgument unless exactly kEncodedBytes.
  static absl::StatusOr<RemoteSpan> Decode(std::string_view bytes);
  /// The same right, narrowed. CHECKs the range.
  RemoteSpan Slice(uint64_t slice_offset, uint64_t slice_length) const;
};

/// Registered memory. Belongs to the Loop of its transport. Destroying it revokes every grant; CHECKs that none is
/// being read (revoke first, wait for quiet).
class MemoryRegion {
 public:
  virtual ~MemoryRegion() = default;
  virtual std::span<std::byte> memory() const = 0;
  /// Lets the connections of `scope` (a session) read [offset, offset + length). Any other scope is refused.
  virtual RemoteSpan Grant(uint64_t scope, uint64_t offset, uint64_t length) = 0;
  /// Ends a grant: reads that begin from now on are refused; `quiet` runs on the Loop, exactly once, when no read of it
  /// is under way any more. Where a backend cannot see reads (shm, verbs: `Capabilities::sees_reads`) honest peers are
  /// told and `quiet` runs at once: the caller has let the lease and its margin pass before. An unknown grant is quiet.
  virtual void Revoke(uint64_t grant, absl::AnyInvocable<void()> quiet) = 0;
};

}  // namespace kvasir
