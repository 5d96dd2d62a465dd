// SPDX-License-Identifier: Apache-2.0
// ReadMapping: another process's memory, mapped read-only, after proof that it cannot shrink under us (that would be
// SIGBUS in the middle of a copy).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"

namespace kvasir {

class ReadMapping {
 public:
  /// Maps the first `bytes` of `fd`, which the caller keeps. PermissionDenied where shrinking is not sealed off,
  /// InvalidArgument where the file is shorter, ResourceExhausted where the system has no room for it.
  static absl::StatusOr<ReadMapping> Map(int fd, uint64_t bytes);
  ReadMapping() = default;
  ReadMapping(ReadMapping&& other) noexcept;
  ReadMapping& operator=(ReadMapping&& other) noexcept;
  ~ReadMapping();
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace kvasir
