// SPDX-License-Identifier: Apache-2.0
// Paired measurement: ours and the reference alternate in one process, the median of the paired ratios is the result.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace kvasir::bench {

/// Where a result stands against its goal.
struct Goal {
  std::string goal;  ///< "C1"
  std::string what;  ///< "encode"
  double must = 0;
  double moonshot = 0;
  bool smaller_is_better = false;
  /// The ratio that merely moving the same bytes reaches, measured in this run; 0 = none was. Where a machine's limit
  /// is below the must, `share` of the limit is what must hold: nothing can be faster than its memory.
  double limit = 0;
  double share = 0;
};

struct PairOptions {
  int rounds = 9;  ///< at least 7 for a result that counts
};

/// Median and spread of reference time / our time, by the CPU time of this thread.
struct Ratios {
  double median = 0, low = 0, high = 0;
  double our_seconds = 0, reference_seconds = 0;  ///< medians
};

/// Runs both once to warm up, then alternates them.
Ratios MeasurePairs(const PairOptions& options, const std::function<void()>& reference,
                    const std::function<void()>& ours);

/// One JSON line on stdout. Answers whether the must holds.
bool Report(const Goal& goal, const Ratios& ratios);

/// Keeps this thread on the last CPU it may use. Says so on stderr when the system refuses.
void PinToOneCpu();

/// Keeps the optimiser from dropping what `p` points to.
inline void Keep(const void* p) { asm volatile("" : : "r"(p) : "memory"); }

}  // namespace kvasir::bench
