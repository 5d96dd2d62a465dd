// SPDX-License-Identifier: Apache-2.0
// FORMAT, LOCK and the subdirectories of an SSD tier.
#include "store/tiers/ssd_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace kvasir {
namespace {

constexpr char kFormatPrefix[] = "kvasir ssd ";
constexpr size_t kSmallFileBytesMax = 256;

/// The first bytes of a small file; errno as status code when it cannot be read.
absl::StatusOr<std::string> ReadSmallFile(const std::string& directory, const std::string& path) {
  FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.ok()) return SsdErrnoError(directory, absl::StrCat("cannot open ", path), errno);
  char text[kSmallFileBytesMax];
  const ssize_t bytes = pread(file.get(), text, sizeof text, 0);
  if (bytes < 0) return SsdErrnoError(directory, absl::StrCat("cannot read ", path), errno);
  return std::string(text, static_cast<size_t>(bytes));
}

bool HasFormat(const std::string& path) {
  return faccessat(AT_FDCWD, (path + "/FORMAT").c_str(), F_OK, 0) == 0 || errno != ENOENT;
}

absl::Status CheckFormat(const std::string& path) {
  absl::StatusOr<std::string> text = ReadSmallFile(path, path + "/FORMAT");
  if (!text.ok()) return text.status();
  absl::string_view rest = *text;
  int format = 0;
  const bool ours = absl::ConsumePrefix(&rest, kFormatPrefix) && absl::ConsumeSuffix(&rest, "\n") &&
                    absl::SimpleAtoi(rest, &format) && format > 0;
  if (!ours) {
    return absl::FailedPreconditionError(
        absl::StrCat("SSD directory ", path, ": its FORMAT file is not one of Kvasir's; give an empty directory"));
  }
  if (format == kSsdFormat) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "SSD directory ", path, ": it holds format ", format, ", this build reads and writes format ", kSsdFormat,
      format > kSsdFormat ? "; start the newer build that wrote it, or give an empty directory (the cache starts cold)"
                          : "; give an empty directory (the cache starts cold)"));
}

/// A directory without FORMAT may hold nothing but what an interrupted first start leaves: it could be somebody's home.
absl::Status CheckUnused(const std::string& path) {
  std::vector<std::string> foreign;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const std::string name = entry.path().filename();
    if (name != "LOCK" && name != "FORMAT.new" && name != "lost+found") foreign.push_back(name);
  }
  if (error) return SsdErrnoError(path, "cannot be listed", error.value());
  if (!foreign.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("SSD directory ", path,
                                                      ": it has no FORMAT file but other files (", foreign.front(),
                                                      "); give an empty directory, or one that Kvasir made"));
  }
  return absl::OkStatus();
}

absl::Status MakeFormat(const std::string& path) {
  const std::string text = absl::StrCat(kFormatPrefix, kSsdFormat, "\n");
  const std::string fresh = path + "/FORMAT.new";
  FileDescriptor file(open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.ok()) return SsdErrnoError(path, "cannot be written", errno);
  if (pwrite(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      fdatasync(file.get()) != 0 || rename(fresh.c_str(), (path + "/FORMAT").c_str()) != 0) {
    return SsdErrnoError(path, "cannot write FORMAT", errno);
  }
  return absl::OkStatus();
}

absl::StatusOr<FileDescriptor> Lock(const std::string& path, SsdDirectory::Access access) {
  const bool write = access == SsdDirectory::Access::kWrite;
  const std::string name = path + "/LOCK";
  FileDescriptor lock(open(name.c_str(), (write ? O_RDWR | O_CREAT : O_RDONLY) | O_CLOEXEC, 0644));
  if (!lock.ok()) return SsdErrnoError(path, absl::StrCat("cannot open ", name), errno);
  if (flock(lock.get(), (write ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return SsdErrnoError(path, absl::StrCat("cannot lock ", name), errno);
    absl::StatusOr<std::string> pid = ReadSmallFile(path, name);
    return absl::UnavailableError(
        absl::StrCat("SSD directory ", path, ": in use by ",
                     pid.ok() && !pid->empty() ? absl::StrCat("process ", absl::StripSuffix(*pid, "\n")) : "a process",
                     "; stop it first, or give another directory"));
  }
  if (write) {
    // For the message above only; the lock is the flock, and it ends with the process.
    const std::string pid = absl::StrCat(getpid(), "\n");
    if (ftruncate(lock.get(), 0) != 0 || pwrite(lock.get(), pid.data(), pid.size(), 0) < 0) {
      return SsdErrnoError(path, "cannot be written", errno);
    }
  }
  return lock;
}

absl::Status SyncDirectory(const std::string& path) {
  FileDescriptor directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.ok() || fsync(directory.get()) != 0) return SsdErrnoError(path, "cannot be synced", errno);
  return absl::OkStatus();
}

/// A directory that was just made is not to vanish with its name at a power loss. Best effort: not all may be opened.
void SyncAncestors(const std::string& path) {
  std::error_code error;
  std::filesystem::path above = std::filesystem::absolute(path, error);
  while (above.has_relative_path()) {
    above = above.parent_path();
    SyncDirectory(above).IgnoreError();
  }
}

absl::Status CheckIsDirectory(const std::string& path) {
  struct stat found {};
  if (stat(path.c_str(), &found) != 0) return SsdErrnoError(path, "cannot be found", errno);
  if (!S_ISDIR(found.st_mode)) return SsdErrnoError(path, "is a file", ENOTDIR);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SsdDirectory> SsdDirectory::Open(const std::string& path, Access access) {
  if (path.empty()) return absl::InvalidArgumentError("SSD directory: no path given");
  std::error_code error;
  if (access == Access::kWrite && std::filesystem::create_directories(path, error)) SyncAncestors(path);
  // What create_directories says of an existing file is less clear than what stat says.
  if (absl::Status status = CheckIsDirectory(path); !status.ok()) {
    return error && error.value() != EEXIST && error.value() != ENOTDIR
               ? SsdErrnoError(path, "cannot be made", error.value())
               : status;
  }
  // Before the lock file is made: what is not ours stays untouched.
  const bool fresh = access == Access::kWrite && !HasFormat(path);
  if (absl::Status status = fresh ? CheckUnused(path) : CheckFormat(path); !status.ok()) return status;
  absl::StatusOr<FileDescriptor> lock = Lock(path, access);
  if (!lock.ok()) return lock.status();
  SsdDirectory directory(path, *std::move(lock));
  if (access == Access::kRead) return directory;
  // Under the lock once more: another process may have come first, and gone.
  if (absl::Status status = HasFormat(path) ? CheckFormat(path) : MakeFormat(path); !status.ok()) return status;
  for (const std::string& part : {directory.segments(), directory.index()}) {
    if (mkdir(part.c_str(), 0755) != 0 && errno != EEXIST) {
      return SsdErrnoError(path, absl::StrCat("cannot make ", part), errno);
    }
  }
  if (absl::Status status = SyncDirectory(path); !status.ok()) return status;
  return directory;
}

absl::Status SsdErrnoError(const std::string& path, const std::string& what, int error) {
  const std::string message =
      absl::StrCat("SSD directory ", path, ": ", what, ": ", std::generic_category().message(error));
  switch (error) {
    case ENOTDIR:
    case ENOENT:
    case ENAMETOOLONG:
      return absl::InvalidArgumentError(absl::StrCat(message, "; give the path of a directory"));
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::FailedPreconditionError(
          absl::StrCat(message, "; give a directory that the user of this process may write"));
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; free space on that file system"));
    default:
      return absl::UnavailableError(absl::StrCat(message, "; look at the disk's health (kernel log)"));
  }
}

}  // namespace kvasir
