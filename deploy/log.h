// SPDX-License-Identifier: Apache-2.0
// The one log of a program: one line an event on stderr, each written whole, so that threads never mix.
//
//   2025-01-31T09:00:00.123Z  warning  not ready  vital=shard.0.loop cause="the Loop of shard 0 does not answer, for 3.1s"
//   {"time":"2025-...","level":"warning","node":"a","message":"not ready","vital":"shard.0.loop","cause":"..."}
//
// A message that repeats is written kRepeatsMax times in kRepeatWindow; the rest is counted, and the count is told (repeated=N)
// as soon as the window is over and anything is logged, at the latest when the sink ends.
#pragma once

#include <cstdio>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "store/api/log_sink.h"
#include "transport/loop.h"

namespace kvasir {

inline constexpr uint32_t kRepeatsMax = 5;
inline constexpr Duration kRepeatWindow = std::chrono::seconds(10);
inline constexpr size_t kMessagesTracked = 256;  ///< messages whose repeats are counted at a time; more are all written

struct LogOptions {
  Severity level = Severity::kInfo;  ///< less is not written
  bool json = false;
  std::string node = "";             ///< written with each JSON line
  std::FILE* out = stderr;
  std::function<Instant()> clock = nullptr;  ///< for repeats; empty = steady_clock
};

/// A sink that any thread may call. Control characters (messages and fields may come from outside) are written as \xNN, in
/// JSON as \u00NN.
LogSink MakeLog(LogOptions options);

/// "info", "warning", "error". InvalidArgument lists them.
absl::StatusOr<Severity> ParseSeverity(std::string_view text);

}  // namespace kvasir
