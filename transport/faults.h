// SPDX-License-Identifier: Apache-2.0
// Faults: a decorator around any Transport that makes its pulls late, out of order, failed, endless or wrong, by a plan
// that repeats itself. For tests of everything above; the laws still hold.
#pragma once

#include <cstdint>
#include <memory>

#include "transport/transport.h"

namespace kvasir {

/// Counts run over all pulls of one transport, from 1: n = 3 means the 3rd, 6th, 9th ... 0 means never.
struct FaultPlan {
  uint64_t seed = 1;               ///< of delays and of the byte that flips
  Duration delay_min{};            ///< added to every completion,
  Duration delay_max{};            ///< evenly spread; completions overtake each other where the spread is wide
  uint32_t fail_every = 0;         ///< Unavailable, though the bytes may have landed
  uint32_t endless_every = 0;      ///< never answers: DeadlineExceeded at the deadline,
  Duration quarantine{};           ///< and where this is not 0, quarantined until so much later
  uint32_t flip_every = 0;         ///< one bit of the landed bytes is wrong, with an OK status
};

/// `loop` is the one of `inner` and outlives both.
std::unique_ptr<Transport> MakeFaultyTransport(Loop& loop, std::unique_ptr<Transport> inner, const FaultPlan& plan);

}  // namespace kvasir
