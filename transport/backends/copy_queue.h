// SPDX-License-Identifier: Apache-2.0
// CopyQueue: pulls whose bytes are within reach of memcpy, copied on the Loop in turns short enough for everything else
// on it. Pulls take equal slices one after another, so a small one ends beside a large one.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "transport/backends/link.h"

namespace kvasir {

class CopyQueue {
 public:
  static constexpr uint64_t kSliceBytes = 1 << 20;  ///< of one pull before the next one's turn; 256 KiB halves the rate
  static constexpr uint64_t kTurnBytes = 1 << 20;   ///< before the Loop's other work: about 0.1 ms

  /// `pull.sources` is filled, one address a piece. The pull stays valid until it ends or is removed.
  void Add(PullState& pull) { pulls_.push_back(&pull); }
  void Remove(PullState& pull) { std::erase(pulls_, &pull); }
  bool empty() const { return pulls_.empty(); }
  /// Copies for one turn; answers the pulls that are complete, which have left the queue. Good until the next turn.
  const std::vector<PullState*>& Turn();

 private:
  std::deque<PullState*> pulls_;
  std::vector<PullState*> complete_;
};

}  // namespace kvasir
