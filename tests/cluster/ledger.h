// SPDX-License-Identifier: Apache-2.0
// Ledger: what the store has promised and what came of it. It judges and moves no bytes.
//
//   acked     the push of a block was answered ok at its level: from then on every reader must find it
//   missed    a fetch brought fewer leading blocks than were acked when it began
//   error     what a client should not see: a failed push, a fetch that fell short for any reason but NotFound, a read
//             that was given up
//   wrong     a block that a fetch claimed to have brought has other bytes than it must have
//   lost      an acked block that patience does not bring back: only Verify (load.h) says so
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "transport/loop.h"
#include "transport/sync.h"

namespace kvasir::cluster {

/// What an ack promised.
enum class Level : uint8_t { kReplicated, kReplicatedDurable };
const char* Name(Level level);

struct Percentiles {
  uint64_t count = 0;
  double p50_ms = 0, p99_ms = 0, p999_ms = 0, max_ms = 0;
};
/// Nearest rank. Sorts its argument.
Percentiles PercentilesOf(std::vector<uint32_t>& microseconds);

/// One stretch of time, or the whole run.
struct Figures {
  static constexpr size_t kSamplesMax = 4'000'000;  ///< read times kept; of later ones only the longest
  static constexpr size_t kExamplesMax = 16;

  uint64_t pushes = 0, acked = 0, existed = 0;  ///< blocks
  uint64_t reads = 0, attempts = 0;             ///< a read is as many fetches as it takes to get what was acked
  uint64_t hits = 0, missed = 0, fetched = 0;   ///< blocks
  uint64_t wrong = 0, errors = 0, given_up = 0;
  std::map<std::string, uint64_t> statuses;  ///< "push Unavailable", "fetch NotFound": those that were not ok
  std::vector<uint32_t> read_us;
  uint64_t longest_outage_us = 0;     ///< longest read that failed at first
  std::vector<std::string> examples;  ///< of what went wrong, the first few
};

/// One fetch of a prompt's leading blocks.
struct Attempt {
  uint32_t prompt = 0;
  uint32_t expected = 0;  ///< leading blocks acked when it began
  uint32_t got = 0;
  absl::Status status;
  std::vector<std::string> wrong;  ///< where, one a wrong block
  bool again = false;              ///< of a read whose first attempt fell short: counted, but no example
};

/// Any thread.
class Ledger {
 public:
  explicit Ledger(uint32_t blocks_per_prompt) : blocks_per_prompt_(blocks_per_prompt) {}

  void Pushed(uint32_t prompt, uint32_t block, Level level, const absl::Status& status, bool existed);
  /// Promised to another process: nothing is counted.
  void Adopt(uint32_t prompt, uint32_t block, Level level);
  void Attempted(const Attempt& attempt);
  /// A read began at `begin` and got all that was acked at `end`, or was given up.
  void ReadEnded(uint32_t prompt, Instant begin, Instant end, bool satisfied, bool failed_first);

  /// Leading blocks of a prompt that are acked.
  uint32_t AckedPrefix(uint32_t prompt) const;
  /// All acked blocks of all prompts: level by block, by prompt.
  std::map<uint32_t, std::map<uint32_t, Level>> AckedBlocks() const;
  /// A prompt to read: one that nobody has read since Mark, or (odd `random`, or none left) any. False: nothing is
  /// acked.
  bool Choose(uint64_t random, uint32_t* prompt);

  /// Begins a new stretch at `now`; answers the one that ends.
  Figures Mark(Instant now);
  Figures Total() const;
  /// What must have happened since Mark.
  struct Progress {
    uint64_t reads = 0, acked = 0;
    bool sweep = false;  ///< every prompt known at Mark was read wholly by a read that began after it
  };
  /// True when it has happened; false when `patience` ended first.
  bool Await(const Progress& progress, Duration patience);

 private:
  struct Entry {
    std::map<uint32_t, Level> acked;
    bool given_up = false;  // not chosen any more, so that one lost prompt does not stop all readers
  };
  void Both(auto change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    change(total_);
    change(since_mark_);
  }
  void Example(const std::string& text) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Reached(const Progress& progress) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint32_t blocks_per_prompt_;
  mutable Mutex mutex_;
  CondVar changed_;
  std::map<uint32_t, Entry> prompts_ ABSL_GUARDED_BY(mutex_);
  std::vector<uint32_t> readable_ ABSL_GUARDED_BY(mutex_);  // prompts whose first block is acked
  std::set<uint32_t> unswept_ ABSL_GUARDED_BY(mutex_);
  uint32_t sweep_at_ ABSL_GUARDED_BY(mutex_) = 0;
  Instant marked_ ABSL_GUARDED_BY(mutex_){};
  Figures total_ ABSL_GUARDED_BY(mutex_), since_mark_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvasir::cluster
