// SPDX-License-Identifier: Apache-2.0
// Spans under one lock: a few thousand a run, so one vector does.
#include "tests/demo/trace_log.h"

#include <algorithm>
#include <utility>

namespace kvasir::demo {

int64_t Nanoseconds(Instant at) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(at.time_since_epoch()).count();
}

void TraceLog::Add(Span span) {
  MutexLock lock(mutex_);
  spans_.push_back(std::move(span));
}

std::function<void(const TraceSpan&)> TraceLog::Sink() {
  return [this](const TraceSpan& span) {
    Add({span.what, span.block, span.layer, span.begin, span.end, span.bytes});
  };
}

nlohmann::json TraceLog::Take() {
  std::vector<Span> spans;
  {
    MutexLock lock(mutex_);
    spans.swap(spans_);
  }
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return a.begin < b.begin; });
  nlohmann::json out = nlohmann::json::array();
  for (const Span& s : spans) {
    out.push_back({s.what, Nanoseconds(s.begin), Nanoseconds(s.end), s.block, s.layer, s.bytes});
  }
  return out;
}

}  // namespace kvasir::demo
