// SPDX-License-Identifier: Apache-2.0
#include "store/meters.h"

#include <algorithm>

namespace kvasir {

void Histogram::Observe(Duration duration) {
  const double seconds = std::chrono::duration<double>(duration).count();
  const auto bound = std::lower_bound(kBounds.begin(), kBounds.end(), seconds);  // the first that is not below it
  counts_[static_cast<size_t>(bound - kBounds.begin())].fetch_add(1, std::memory_order_relaxed);
  sum_ns_.fetch_add(static_cast<uint64_t>(std::max<Duration::rep>(0, duration.count())), std::memory_order_relaxed);
}

Histogram::Snapshot Histogram::Read() const {
  Snapshot snapshot;
  uint64_t below = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    below += counts_[i].load(std::memory_order_relaxed);
    snapshot.cumulative[i] = below;
  }
  snapshot.sum_seconds = static_cast<double>(sum_ns_.load(std::memory_order_relaxed)) / 1e9;
  return snapshot;
}

const char* Name(StoreCall call) {
  static constexpr const char* kNames[] = {
#define KVASIR_CALL_NAME(id, name) name,
      KVASIR_MEASURED_CALLS(KVASIR_CALL_NAME)
#undef KVASIR_CALL_NAME
  };
  return kNames[static_cast<size_t>(call)];
}

const char* Name(CallOutcome outcome) {
  static constexpr const char* kNames[] = {"ok", "refused", "failed"};
  return kNames[static_cast<size_t>(outcome)];
}

CallOutcome OutcomeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return CallOutcome::kOk;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnavailable:
      return CallOutcome::kRefused;
    default:
      return CallOutcome::kFailed;
  }
}

Meters::Meters(std::vector<std::string> transports) : pulls_(transports.size()) {
  for (size_t i = 0; i < transports.size(); ++i) pulls_[i].transport = std::move(transports[i]);
}

void Meters::Answered(StoreCall call, const absl::Status& status, Duration duration) {
  CallMeter& meter = calls_[static_cast<size_t>(call)];
  meter.outcomes[static_cast<size_t>(OutcomeOf(status))].fetch_add(1, std::memory_order_relaxed);
  meter.duration.Observe(duration);
}

void Meters::Pulled(size_t transport, uint64_t bytes, Duration duration) {
  pulls_[transport].bytes.fetch_add(bytes, std::memory_order_relaxed);
  pulls_[transport].duration.Observe(duration);
}

void Meters::Mismatched(std::string_view field) {
  const std::string_view name = field.substr(0, field.find('['));
  const auto& fields = Namespace::kComparedFields;
  const auto found = std::find(fields.begin(), fields.end(), name);
  if (found != fields.end()) mismatches_[static_cast<size_t>(found - fields.begin())].fetch_add(1, std::memory_order_relaxed);
}

}  // namespace kvasir
