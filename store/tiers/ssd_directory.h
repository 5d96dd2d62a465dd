// SPDX-License-Identifier: Apache-2.0
// SsdDirectory: the directory of an SSD tier: its format, its lock, the paths in it. Every refusal names the directory,
// the cause and what to do.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/tiers/disk_io.h"

namespace kvasir {

/// Written to FORMAT; raised when an older build could no longer read the directory.
inline constexpr int kSsdFormat = 1;

/// Holds the lock of a directory while it lives.
class SsdDirectory {
 public:
  enum class Access { kWrite, kRead };

  /// Makes the directory (kWrite) or finds it, checks its format before anything in it is touched, and locks it:
  /// alone for kWrite, beside other readers for kRead. A directory that holds something else is refused.
  static absl::StatusOr<SsdDirectory> Open(const std::string& path, Access access);

  const std::string& path() const { return path_; }
  std::string index() const { return path_ + "/index"; }
  std::string segments() const { return path_ + "/segments"; }

 private:
  SsdDirectory(std::string path, FileDescriptor lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  FileDescriptor lock_;
};

/// "SSD directory /x: " + what, with errno's text and the status code it deserves.
absl::Status SsdErrnoError(const std::string& path, const std::string& what, int error);

}  // namespace kvasir
