// SPDX-License-Identifier: Apache-2.0
// Meters: how long calls and pulls take, how they end. Relaxed atomics, added to from any thread, read from any thread; a call
// costs two clock reads and three additions.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "store/api/namespace.h"
#include "transport/loop.h"

namespace kvasir {

/// Counts of durations below bounds that fit calls of microseconds and disks of seconds.
class Histogram {
 public:
  /// Upper bounds in seconds, ascending; the last bucket, +Inf, is not among them.
  static constexpr std::array<double, 16> kBounds = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                                     0.05,   0.1,     0.25,   0.5,   1,      2.5,   5,    10};
  struct Snapshot {
    std::array<uint64_t, kBounds.size() + 1> cumulative{};  ///< of values <= the bound; the last one is the count
    double sum_seconds = 0;
  };

  void Observe(Duration duration);
  Snapshot Read() const;

 private:
  std::array<std::atomic<uint64_t>, kBounds.size() + 1> counts_{};  // each value in one of them
  std::atomic<uint64_t> sum_ns_{0};
};

/// Calls that are measured where they enter a node. One line a call.
#define KVASIR_MEASURED_CALLS(X) \
  X(kHello, "hello")             \
  X(kOffer, "offer")             \
  X(kAcquire, "acquire")         \
  X(kTouch, "touch")             \
  X(kObject, "object")           \
  X(kProbe, "probe")             \
  X(kInventory, "inventory")     \
  X(kSuggest, "suggest")

enum class StoreCall : uint8_t {
#define KVASIR_CALL_ID(id, name) id,
  KVASIR_MEASURED_CALLS(KVASIR_CALL_ID)
#undef KVASIR_CALL_ID
      kCount
};
const char* Name(StoreCall call);

/// How a call ended, as an operator sees it.
enum class CallOutcome : uint8_t {
  kOk,
  kRefused,  ///< the caller's fault, or it may try again, later or elsewhere (full, draining)
  kFailed,   ///< the node's trouble: Internal, DataLoss, DeadlineExceeded, ...
  kCount
};
const char* Name(CallOutcome outcome);
CallOutcome OutcomeOf(const absl::Status& status);

class Meters {
 public:
  /// `transports` as in NodeOptions, at most a handful.
  explicit Meters(std::vector<std::string> transports);

  struct CallMeter {
    std::array<std::atomic<uint64_t>, static_cast<size_t>(CallOutcome::kCount)> outcomes{};
    Histogram duration;
  };
  struct PullMeter {
    std::string transport;
    std::atomic<uint64_t> bytes{0};
    Histogram duration;
  };

  void Answered(StoreCall call, const absl::Status& status, Duration duration);
  const CallMeter& call(StoreCall call) const { return calls_[static_cast<size_t>(call)]; }
  /// `transport` is an index into those given.
  void Pulled(size_t transport, uint64_t bytes, Duration duration);
  const std::vector<PullMeter>& pulls() const { return pulls_; }

  /// A Hello was refused because of this field ("layout.kv_heads", "adapters[2]").
  void Mismatched(std::string_view field);
  uint64_t mismatches(size_t field) const { return mismatches_[field].load(std::memory_order_relaxed); }

 private:
  std::array<CallMeter, static_cast<size_t>(StoreCall::kCount)> calls_;
  std::vector<PullMeter> pulls_;
  std::array<std::atomic<uint64_t>, Namespace::kComparedFields.size()> mismatches_{};
};

}  // namespace kvasir
