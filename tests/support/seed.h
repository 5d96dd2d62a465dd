// SPDX-License-Identifier: Apache-2.0
// The one source of randomness in tests: KVASIR_SEED=N repeats a run; the seed is printed before the first test.
#pragma once

#include <cstdint>
#include <random>

namespace kvasir::testing {

/// The run's seed: from the environment variable KVASIR_SEED, else fixed at 20261121 so that CI repeats itself.
uint64_t Seed();

/// A generator for one test: same seed and same salt, same numbers.
inline std::mt19937_64 Rng(uint64_t salt) { return std::mt19937_64(Seed() * 0x9E3779B97F4A7C15ull + salt); }

}  // namespace kvasir::testing
