// SPDX-License-Identifier: Apache-2.0
// Counters of a node: every rescue is counted. Atomics, added to from any Loop, read from any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace kvasir {

// One line a counter: identifier, name for people and metrics.
#define KVASIR_COUNTERS(X)                              \
  X(kSessionsOpened, "sessions_opened")                 \
  X(kSessionsExpired, "sessions_expired")               \
  X(kHelloRefused, "hello_refused")                     \
  X(kOffers, "offers")                                  \
  X(kPartsOffered, "parts_offered")                     \
  X(kPartsSealed, "parts_sealed")                       \
  X(kPartsExisted, "parts_existed")                     \
  X(kPartsRefusedFull, "parts_refused_full")            \
  X(kPullsFailed, "pulls_failed")                       \
  X(kPulledBytes, "pulled_bytes")                       \
  X(kAcquires, "acquires")                              \
  X(kBlocksHit, "blocks_hit")                           \
  X(kBlocksPending, "blocks_pending")                   \
  X(kBlocksMissed, "blocks_missed")                     \
  X(kGrants, "grants")                                  \
  X(kLeasesExpired, "leases_expired")                   \
  X(kPersisted, "parts_persisted")                      \
  X(kPersistFailed, "persist_failed")                   \
  X(kDemoted, "parts_demoted")                          \
  X(kPromoted, "parts_promoted")                        \
  X(kPromoteFailed, "promote_failed")                   \
  X(kEvicted, "parts_evicted")                          \
  X(kEvictedUnsaved, "parts_evicted_unsaved")           \
  X(kPlanesEvicted, "planes_evicted")                   \
  X(kSsdEvicted, "parts_ssd_evicted")                   \
  X(kUnfinishedDropped, "parts_unfinished_dropped")     \
  X(kRecovered, "parts_recovered")                      \
  X(kRecoveryDropped, "parts_recovery_dropped")         \
  X(kWrongPreventedSeal, "wrong_prevented_seal")        \
  X(kWrongPreventedSsd, "wrong_prevented_ssd")          \
  X(kStaleEpoch, "stale_epoch")                         \
  X(kMembershipChanges, "membership_changes")           \
  X(kRunsHot, "runs_hot")                               \
  X(kDamageReports, "damage_reports")                   \
  X(kWrongPreventedDram, "wrong_prevented_dram")        \
  X(kGatheredBlocks, "gathered_blocks")                 \
  X(kGatheredBytes, "gathered_bytes")                   \
  X(kGatherFailed, "gather_failed_blocks")              \
  X(kFills, "fills")                                    \
  X(kFillsEmpty, "fills_empty")                         \
  X(kSuggested, "runs_suggested")                       \
  X(kInventories, "inventories")                        \
  X(kProbes, "probes")                                  \
  X(kProbesSilent, "probes_silent")

enum class Counter : uint32_t {
#define KVASIR_COUNTER_ID(id, name) id,
  KVASIR_COUNTERS(KVASIR_COUNTER_ID)
#undef KVASIR_COUNTER_ID
      kCount
};

class Counters {
 public:
  void Add(Counter counter, uint64_t n = 1) { At(counter).fetch_add(n, std::memory_order_relaxed); }
  uint64_t Get(Counter counter) const { return values_[static_cast<size_t>(counter)].load(std::memory_order_relaxed); }
  std::vector<std::pair<std::string, uint64_t>> Snapshot() const;  ///< sorted by name

 private:
  std::atomic<uint64_t>& At(Counter counter) { return values_[static_cast<size_t>(counter)]; }
  std::array<std::atomic<uint64_t>, static_cast<size_t>(Counter::kCount)> values_{};
};

}  // namespace kvasir
