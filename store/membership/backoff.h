// SPDX-License-Identifier: Apache-2.0
// Backoff: pauses between attempts that double up to a limit, each shortened by up to half at random, so that a
// thousand nodes that lost the same etcd do not come back in the same instant.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>

#include "transport/loop.h"

namespace kvasir {

class Backoff {
 public:
  Backoff(Duration first, Duration last, uint64_t seed) : first_(first), last_(last), pause_(first), random_(seed) {}
  /// The pause before the next attempt.
  Duration Next() {
    const Duration full = pause_;
    pause_ = std::min(pause_ * 2, last_);
    return full / 2 + Duration(static_cast<int64_t>(random_() % static_cast<uint64_t>(full.count() / 2 + 1)));
  }
  void Reset() { pause_ = first_; }

 private:
  const Duration first_, last_;
  Duration pause_;
  std::mt19937_64 random_;
};

}  // namespace kvasir
