// SPDX-License-Identifier: Apache-2.0
// SharedMemory (one sealed memfd) and the travelling form of RemoteSpan.
#include "transport/memory_region.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/check.h"

namespace kvasir {
namespace {

absl::Status CannotShare(uint64_t bytes, const char* step) {
  return absl::ResourceExhaustedError(
      absl::StrCat("shared memory of ", bytes, " bytes: ", step, ": ", std::strerror(errno)));
}

constexpr unsigned kHugePagesOf2MiB = 21u << 26;  ///< MFD_HUGE_2MB, which the C library's headers lack
static_assert(SharedMemory::kHugePageBytes == 1u << 21);
static_assert(std::endian::native == std::endian::little, "grants travel as the little-endian machine holds them");
static_assert(RemoteSpan::kEncodedBytes == 5 * sizeof(uint64_t));

}  // namespace

absl::StatusOr<SharedMemory> SharedMemory::Create(uint64_t bytes, const char* name, PageKind pages) {
  if (bytes == 0) return absl::InvalidArgumentError("shared memory of 0 bytes");
  const bool huge = pages == PageKind::kHuge;
  if (huge && bytes % kHugePageBytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("shared memory of ", bytes, " bytes is no whole number of huge pages"));
  }
  SharedMemory memory;
  memory.fd_ = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | (huge ? MFD_HUGETLB | kHugePagesOf2MiB : 0u));
  if (memory.fd_ < 0) return CannotShare(bytes, "memfd_create");
  if (ftruncate(memory.fd_, static_cast<off_t>(bytes)) != 0) return CannotShare(bytes, "ftruncate");
  // Now, where running out is an error. Later, at the first touch, it would be a SIGBUS.
  if (huge && fallocate(memory.fd_, 0, 0, static_cast<off_t>(bytes)) != 0) return CannotShare(bytes, "fallocate of huge pages");
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory.fd_, 0);
  if (data == MAP_FAILED) return CannotShare(bytes, "mmap");
  memory.data_ = static_cast<std::byte*>(data);
  memory.bytes_ = bytes;
  // From here on ours is the only writable mapping there can ever be, and no reader can be hit by SIGBUS.
  if (fcntl(memory.fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0) {
    return CannotShare(bytes, "F_ADD_SEALS");
  }
  return memory;
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept { *this = std::move(other); }

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  std::swap(fd_, other.fd_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) munmap(data_, bytes_);
  if (fd_ >= 0) close(fd_);
}

std::string RemoteSpan::Encode() const {
  const uint64_t fields[] = {incarnation, grant, offset, length, hint};
  return std::string(reinterpret_cast<const char*>(fields), sizeof fields);
}

absl::StatusOr<RemoteSpan> RemoteSpan::Decode(std::string_view bytes) {
  if (bytes.size() != kEncodedBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a remote span is ", kEncodedBytes, " bytes, this has ", bytes.size()));
  }
  uint64_t fields[5];
  std::memcpy(fields, bytes.data(), sizeof fields);
  return RemoteSpan{fields[0], fields[1], fields[2], fields[3], fields[4]};
}

RemoteSpan RemoteSpan::Slice(uint64_t slice_offset, uint64_t slice_length) const {
  KVASIR_CHECK(slice_offset <= length, "a slice begins inside its span");
  KVASIR_CHECK(slice_length <= length - slice_offset, "a slice ends inside its span");
  RemoteSpan slice = *this;
  slice.offset += slice_offset;
  slice.length = slice_length;
  return slice;
}

}  // namespace kvasir
