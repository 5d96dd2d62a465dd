// SPDX-License-Identifier: Apache-2.0
// The check of seals, and the mapping.
#include "transport/backends/shm_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvasir {

absl::StatusOr<ReadMapping> ReadMapping::Map(int fd, uint64_t bytes) {
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return absl::PermissionDeniedError("shared memory that is not sealed against shrinking");
  }
  struct stat file;
  if (fstat(fd, &file) != 0 || bytes == 0 || static_cast<uint64_t>(file.st_size) < bytes) {
    return absl::InvalidArgumentError("shared memory shorter than its announcement");
  }
  void* data = mmap(nullptr, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("mapping ", bytes, " bytes: ", std::strerror(errno)));
  }
  ReadMapping mapping;
  mapping.bytes_ = {static_cast<const std::byte*>(data), bytes};
  return mapping;
}

ReadMapping::ReadMapping(ReadMapping&& other) noexcept { std::swap(bytes_, other.bytes_); }

ReadMapping& ReadMapping::operator=(ReadMapping&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

ReadMapping::~ReadMapping() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace kvasir
