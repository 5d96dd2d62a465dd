// SPDX-License-Identifier: Apache-2.0
// Parsing of what people type, and files.
#include "deploy/flags.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <span>
#include <utility>

#include "absl/strings/cord.h"
#include "deploy/term.h"
#include "deploy/text.h"
#include "kernels/near_words.h"

namespace kvasir {
namespace {

struct Unit {
  std::string_view name;  ///< lower case
  double factor;
};
constexpr const char* kPartialPayload = "kvasir/partial";
constexpr double kKi = 1024, kMi = kKi * 1024, kGi = kMi * 1024, kTi = kGi * 1024;
constexpr Unit kSizeUnits[] = {{"", 1},     {"b", 1},     {"k", kKi},   {"kib", kKi}, {"kb", 1e3},
                               {"m", kMi},  {"mib", kMi}, {"mb", 1e6},  {"g", kGi},   {"gib", kGi},
                               {"gb", 1e9}, {"t", kTi},   {"tib", kTi}, {"tb", 1e12}};
constexpr Unit kDurationUnits[] = {{"ns", 1},   {"us", 1e3},   {"ms", 1e6},   {"s", 1e9},
                                   {"m", 60e9}, {"h", 3600e9}, {"d", 86400e9}};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

/// Number and unit to units of the smallest; -1 when it is no such text.
double ParseQuantity(std::string_view text, std::span<const Unit> units) {
  text = Trim(text);
  size_t digits = 0;
  while (digits < text.size() && (IsDigit(text[digits]) || text[digits] == '.')) ++digits;
  double number = 0;
  if (digits == 0 || !ParseNumber(text.substr(0, digits), &number)) return -1;
  const std::string name = Lower(Trim(text.substr(digits)));
  for (const Unit& unit : units) {
    if (unit.name != name) continue;
    const double value = number * unit.factor;
    return unit.factor == 1 && value != std::floor(value) ? -1 : value;
  }
  return -1;
}

absl::Status FileError(const std::string& path, int error, std::string_view doing) {
  const std::string cause = Cat("cannot ", doing, " ", path, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
      return absl::InvalidArgumentError(Cat(cause, ". Check the path"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(Cat(cause, ". Change its owner or mode, or run as its owner"));
    case EISDIR:
      return absl::FailedPreconditionError(Cat(cause, ". Name a file"));
    case ENOSPC:
      return absl::ResourceExhaustedError(Cat(cause, ". Free some space there"));
    default:
      return absl::UnavailableError(cause);
  }
}

}  // namespace

absl::StatusOr<uint64_t> ParseSize(std::string_view text) {
  const double value = ParseQuantity(text, kSizeUnits);
  if (value < 0) {
    return absl::InvalidArgumentError(
        Cat("'", text, "' is not a size. Write a number and a unit, like 2GiB, 500MB or 4096"));
  }
  if (value > static_cast<double>(kSizeMax)) {
    return absl::InvalidArgumentError(Cat("'", text, "' is more than ", HumanBytes(kSizeMax)));
  }
  return static_cast<uint64_t>(value);
}

absl::StatusOr<Duration> ParseDuration(std::string_view text) {
  const double value = ParseQuantity(text, kDurationUnits);
  if (value < 0) {
    return absl::InvalidArgumentError(
        Cat("'", text, "' is not a duration. Write a number and a unit, like 10s, 500ms or 2m"));
  }
  if (value > static_cast<double>(kDurationMax.count())) {
    return absl::InvalidArgumentError(Cat("'", text, "' is more than 366d"));
  }
  return Duration(static_cast<int64_t>(value));
}

std::string HostPort::Text() const {
  const bool v6 = host.find(':') != std::string::npos;
  return Cat(v6 ? "[" : "", host, v6 ? "]" : "", ":", port);
}

absl::StatusOr<HostPort> ParseHostPort(std::string_view text) {
  const auto refuse = [&](std::string_view why) {
    return absl::InvalidArgumentError(
        Cat("'", text, "' is not an address: ", why, ". Write HOST:PORT, like ", kDefaultControl));
  };
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return refuse("it has no port");
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  if (host.empty()) return refuse("it has no host");
  if (host.front() == '[') {
    if (host.size() < 3 || host.back() != ']') return refuse("the bracket is not closed");
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return refuse("an IPv6 address stands in brackets, like [::1]:7070");
  }
  uint32_t number = 0;
  const bool digits = !port.empty() && std::all_of(port.begin(), port.end(), IsDigit);
  if (!digits || !ParseNumber(port, &number) || number > 65535) {
    return refuse(Cat("'", port, "' is not a port (0 to 65535)"));
  }
  return HostPort{std::string(host), static_cast<uint16_t>(number)};
}

bool IsLoopback(std::string_view host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t max) {
  const int fd = path == "-" ? dup(STDIN_FILENO) : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return FileError(path, errno, "read");
  std::string bytes;
  std::string buffer(64 << 10, '\0');
  ssize_t got = 0;
  while ((got = read(fd, buffer.data(), buffer.size())) > 0 && bytes.size() <= max) bytes.append(buffer.data(), got);
  const int error = errno;
  close(fd);
  if (got < 0) return FileError(path, error, "read");
  if (bytes.size() > max) {
    return absl::ResourceExhaustedError(Cat(path, " is longer than ", HumanBytes(max), ", the most that is read"));
  }
  return bytes;
}

absl::Status WriteFileAtOnce(const std::string& path, std::string_view bytes) {
  const std::string temporary = Cat(path, ".", getpid(), ".tmp");
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(path, errno, "write");
  const bool written = write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
  const int error = written ? 0 : errno;
  close(fd);
  if (written && std::rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  const absl::Status status = FileError(path, written ? errno : error, "write");
  unlink(temporary.c_str());
  return status;
}

absl::Status PartialError(std::string_view message) {
  absl::Status status = absl::UnavailableError(absl::string_view(message.data(), message.size()));
  status.SetPayload(kPartialPayload, absl::Cord());
  return status;
}

int ExitStatusOf(const absl::Status& status) {
  if (status.GetPayload(kPartialPayload).has_value()) return kExitPartial;
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return kExitOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return kExitBadInput;
    default:
      return kExitFailure;
  }
}

std::string_view Nearest(std::string_view word, const std::vector<std::string>& words) {
  const std::vector<std::string_view> near = NearWords(word, words);
  return near.empty() ? std::string_view() : near.front();
}

}  // namespace kvasir
