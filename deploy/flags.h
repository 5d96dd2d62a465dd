// SPDX-License-Identifier: Apache-2.0
// What kvasird and kvasir read from people: sizes, durations, addresses, files; how they end.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/loop.h"

namespace kvasir {

/// Exit statuses of both programs.
inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;   ///< it ran and something went wrong (a node is gone, a part is damaged)
inline constexpr int kExitBadInput = 2;  ///< a flag, a file or a directory is not as it must be; nothing was touched
inline constexpr int kExitPartial = 4;   ///< some nodes did not answer; what the others said was shown

inline constexpr std::string_view kDefaultControl = "127.0.0.1:7070";
inline constexpr uint64_t kSizeMax = uint64_t{1} << 60;  ///< 1 EiB
inline constexpr Duration kDurationMax = std::chrono::hours(24 * 366);

/// "2GiB", "500MB", "64k", "4096": a number (with a unit it may have a fraction) and B, K, KiB, KB, ... T, TiB or TB.
/// The letter alone and "iB" mean powers of 1024, "B" after the letter powers of 1000. Case does not matter.
absl::StatusOr<uint64_t> ParseSize(std::string_view text);
/// "10s", "500ms", "2m", "1h", "1.5s", also us, ns, d. A unit is needed: "10" alone is refused.
absl::StatusOr<Duration> ParseDuration(std::string_view text);

struct HostPort {
  std::string host;  ///< without the brackets of an IPv6 address
  uint16_t port = 0;
  std::string Text() const;
};
/// "127.0.0.1:7070", "[::1]:7070", "name:7070". Port 0 means any free one.
absl::StatusOr<HostPort> ParseHostPort(std::string_view text);
bool IsLoopback(std::string_view host);

/// The file's bytes. InvalidArgument (there is none), PermissionDenied, FailedPrecondition (a directory) or
/// ResourceExhausted (more than `max` bytes) name the file and what to do. "-" reads standard input.
absl::StatusOr<std::string> ReadFile(const std::string& path, uint64_t max);
/// Writes a file so that a reader sees all of it or none: a temporary one beside it, then rename.
absl::Status WriteFileAtOnce(const std::string& path, std::string_view bytes);

/// kExitPartial for a PartialError, kExitBadInput for statuses that the caller cures by changing what he gave,
/// kExitFailure for the others.
int ExitStatusOf(const absl::Status& status);
/// Unavailable: the command did what it could without those that were silent.
absl::Status PartialError(std::string_view message);
/// The word of `words` nearest to `word`, if near enough to be a slip of the fingers; else "".
std::string_view Nearest(std::string_view word, const std::vector<std::string>& words);

}  // namespace kvasir
