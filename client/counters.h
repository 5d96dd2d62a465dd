// SPDX-License-Identifier: Apache-2.0
// What a Session counts. Relaxed atomics: any thread adds, any thread reads.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace kvasir::client {

/// In order of their names, which are in counters.cc.
enum class Counter : uint8_t {
  kAcquires,         ///< Acquire calls sent
  kExistedParts,     ///< pushed parts that another writer had sealed
  kFailovers,        ///< blocks asked of, or pushes given to, another node than the first
  kFetchedBlocks,
  kFetchedBytes,     ///< moved over the data connections
  kFetches,
  kHellos,
  kLeasesLost,       ///< ended by the node while a fetch still needed them
  kMatches,
  kMissAbsent,       ///< blocks no owner holds
  kMissCrc,          ///< blocks whose frames failed a check: damage that was kept from the engine
  kMissHeader,       ///< blocks whose header, directory or view was not what was asked for
  kMissLate,         ///< blocks that were not in place at the deadline
  kMissUnavailable,  ///< blocks whose owner was gone, refused or answered nonsense
  kNodeFailures,
  kOffers,           ///< Offer calls sent
  kPlanesMissed,     ///< upper planes that a fetch would have taken and were not held, damaged or of another write
  kPushFailures,
  kPushedBytes,      ///< stored bytes, over all replicas
  kPushedParts,      ///< over all replicas
  kPushes,
  kCount
};

class CounterSet {
 public:
  void Add(Counter counter, uint64_t by = 1) {
    values_[static_cast<size_t>(counter)].fetch_add(by, std::memory_order_relaxed);
  }
  /// Sorted by name.
  std::vector<std::pair<std::string, uint64_t>> Read() const;

 private:
  std::array<std::atomic<uint64_t>, static_cast<size_t>(Counter::kCount)> values_{};
};

}  // namespace kvasir::client
