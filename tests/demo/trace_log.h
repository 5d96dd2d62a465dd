// SPDX-License-Identifier: Apache-2.0
// TraceLog: what happened when, for the timeline. Times are the machine's monotonic clock: engines of one machine agree.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/session.h"
#include "transport/sync.h"

namespace kvasir::demo {

/// Nanoseconds of the monotonic clock, as they travel in answers.
int64_t Nanoseconds(Instant at);

/// Collects spans from any thread.
class TraceLog {
 public:
  struct Span {
    std::string what;
    uint32_t block = 0, layer = 0;
    Instant begin, end;
    uint64_t bytes = 0;
  };
  void Add(Span span);
  /// For SessionOptions::trace.
  std::function<void(const TraceSpan&)> Sink();
  /// Everything since the last call, as [what, begin_ns, end_ns, block, layer, bytes], by begin.
  nlohmann::json Take();

 private:
  Mutex mutex_;
  std::vector<Span> spans_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvasir::demo
