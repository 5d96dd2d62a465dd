// SPDX-License-Identifier: Apache-2.0
// The one log of a program: lines on stderr, each written whole, so that threads never mix.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "store/api/log_sink.h"

namespace kvasir {

struct LogOptions {
  Severity level = Severity::kInfo;  ///< less is not written
  bool json = false;                 ///< {"time":...,"level":...,"node":...,"message":...} instead of words
  std::string node;                  ///< written with each JSON line
  std::FILE* out = stderr;
};

/// A sink that any thread may call. Control characters in messages (they may come from outside) are written as \xNN.
LogSink MakeLog(LogOptions options);

/// "info", "warning", "error". InvalidArgument lists them.
absl::StatusOr<Severity> ParseSeverity(std::string_view text);

}  // namespace kvasir
