// SPDX-License-Identifier: Apache-2.0
// Small files, written beside and renamed over, so that a power loss leaves the old one or the new one.
#include "store/membership/state_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>
#include <span>
#include <system_error>
#include <utility>

#include "kernels/frame_directory.h"
#include "store/membership/records.h"

namespace kvasir {
namespace {

constexpr int kIdentityFormat = 1;
constexpr size_t kIdentityFileBytesMax = 4096;
constexpr size_t kViewFileBytesMax = Membership::kMembersMax * kRecordBytesMax;

absl::Status Refusal(const std::string& directory, const std::string& what, int error) {
  const std::string message =
      "state directory " + directory + ": " + what + ": " + std::generic_category().message(error);
  switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::FailedPreconditionError(message + "; give a directory that the user of this process may write");
    case ENOTDIR:
    case ENAMETOOLONG:
      return absl::InvalidArgumentError(message + "; give the path of a directory");
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(message + "; free space on that file system");
    default:
      return absl::UnavailableError(message + "; look at the disk's health (kernel log)");
  }
}

/// The whole file; "" when there is none.
absl::StatusOr<std::string> Read(const std::string& directory, const std::string& name, size_t bytes_max) {
  const std::string path = directory + "/" + name;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0 && errno == ENOENT) return std::string();
  if (fd < 0) return Refusal(directory, "cannot open " + name, errno);
  struct stat found {};
  const bool sized = fstat(fd, &found) == 0;
  std::string bytes(std::min<size_t>(sized ? static_cast<size_t>(found.st_size) : bytes_max, bytes_max) + 1, '\0');
  size_t length = 0;
  ssize_t got = 0;
  while (length < bytes.size() && (got = read(fd, &bytes[length], bytes.size() - length)) > 0)
    length += static_cast<size_t>(got);
  const int error = errno;
  close(fd);
  if (got < 0) return Refusal(directory, "cannot read " + name, error);
  bytes.resize(length);
  return bytes;
}

absl::Status Replace(const std::string& directory, const std::string& name, const std::string& bytes) {
  const std::string path = directory + "/" + name;
  const std::string fresh = path + ".new";
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return Refusal(directory, "cannot write " + name, errno);
  const bool written =
      write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()) && fdatasync(fd) == 0;
  const int error = errno == 0 ? ENOSPC : errno;
  close(fd);
  if (!written) return Refusal(directory, "cannot write " + name, error);
  if (rename(fresh.c_str(), path.c_str()) != 0) return Refusal(directory, "cannot write " + name, errno);
  const int at = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (at >= 0) {
    fsync(at);  // best effort: the rename is kept or not, never half
    close(at);
  }
  return absl::OkStatus();
}

std::string Checksum(std::string_view text) {
  std::array<char, 16> digits{};
  std::snprintf(digits.data(), digits.size(), "%08x", Crc32c(std::as_bytes(std::span(text.data(), text.size()))));
  return digits.data();
}

}  // namespace

std::string NewUuid() {
  std::random_device device;
  std::string text = "xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx";
  for (char& c : text) {
    if (c == 'x') c = "0123456789abcdef"[device() & 15];
  }
  return text;
}

absl::StatusOr<std::unique_ptr<StateDirectory>> StateDirectory::Open(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error && !std::filesystem::is_directory(path)) return Refusal(path, "cannot be made", error.value());
  if (!std::filesystem::is_directory(path)) return Refusal(path, "is a file", ENOTDIR);
  const int lock = open((path + "/LOCK").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock < 0) return Refusal(path, "cannot open LOCK", errno);
  std::unique_ptr<StateDirectory> directory(new StateDirectory(path, lock));
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Refusal(path, "cannot lock LOCK", errno);
    return absl::UnavailableError("state directory " + path +
                                  ": in use by another process; stop it first, or give another directory");
  }
  if (absl::Status status = directory->LoadIdentity(); !status.ok()) return status;
  return directory;
}

StateDirectory::~StateDirectory() { close(lock_); }

absl::Status StateDirectory::LoadIdentity() {
  const auto text = Read(path_, "identity", kIdentityFileBytesMax);
  if (!text.ok()) return text.status();
  if (text->empty()) {
    node_identity_ = NewUuid();
    return SaveIdentity();
  }
  const auto document = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  const auto field = [&](const char* name) -> std::string {
    const bool there = document.is_object() && document.contains(name) && document[name].is_string();
    return there ? document[name].get<std::string>() : "";
  };
  const bool known = document.is_object() && document.contains("format") && document["format"] == kIdentityFormat;
  node_identity_ = field("node");
  cluster_id_ = field("cluster");
  if (known && !node_identity_.empty() && node_identity_.size() <= kIdentityBytesMax &&
      cluster_id_.size() <= kIdentityBytesMax) {
    return absl::OkStatus();
  }
  // To guess would let a foreign directory in.
  return absl::FailedPreconditionError(
      "state directory " + path_ + ": its file identity is damaged or of a later version; give an empty directory, " +
      "or remove that file if the directory belongs to this cluster for sure");
}

absl::Status StateDirectory::SaveIdentity() const {
  const nlohmann::ordered_json document = {
      {"format", kIdentityFormat}, {"node", node_identity_}, {"cluster", cluster_id_}};
  return Replace(path_, "identity", document.dump(1) + "\n");
}

absl::Status StateDirectory::Claim(const std::string& cluster_id) {
  if (cluster_id == cluster_id_) return absl::OkStatus();
  if (!cluster_id_.empty() && cluster_id_ != kUnnamedCluster) {
    return absl::FailedPreconditionError(
        "state directory " + path_ + " belongs to cluster " + cluster_id_ + ", but this node joins cluster " +
        cluster_id +
        ". Give it the directory of this cluster or an empty one; to move it over for good, "
        "remove the file identity in it");
  }
  const std::string before = std::exchange(cluster_id_, cluster_id);
  absl::Status saved = SaveIdentity();
  if (!saved.ok()) cluster_id_ = before;
  return saved;
}

absl::Status StateDirectory::SaveView(const Membership& view) {
  const std::string text = FormatView(view);
  return Replace(path_, "view", Checksum(text) + "\n" + text);
}

std::optional<Membership> StateDirectory::LoadView(std::string* note) const {
  const auto bytes = Read(path_, "view", kViewFileBytesMax);
  if (bytes.ok() && bytes->empty()) return std::nullopt;
  const auto ignored = [&](const std::string& why) {
    *note = "the cached view in " + path_ + " is not used: " + why;
    return std::nullopt;
  };
  if (!bytes.ok()) return ignored(std::string(bytes.status().message()));
  constexpr size_t kChecksumBytes = 9;  // and its line's end
  if (bytes->size() < kChecksumBytes) return ignored("it is cut short");
  const std::string_view text = std::string_view(*bytes).substr(kChecksumBytes);
  if (bytes->substr(0, kChecksumBytes) != Checksum(text) + "\n") return ignored("its checksum differs");
  auto view = ParseView(text);
  if (!view.ok()) return ignored(std::string(view.status().message()));
  return *std::move(view);
}

}  // namespace kvasir
