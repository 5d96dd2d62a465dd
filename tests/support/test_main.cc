// SPDX-License-Identifier: Apache-2.0
// main() of every test: prints the seed, then runs.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "tests/support/seed.h"

namespace kvasir::testing {
uint64_t Seed() {
  static const uint64_t seed = [] {
    const char* text = std::getenv("KVASIR_SEED");
    return text != nullptr ? std::strtoull(text, nullptr, 10) : 20261121ull;
  }();
  return seed;
}
}  // namespace kvasir::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  std::printf("seed: %llu (repeat with KVASIR_SEED=N)\n",
              static_cast<unsigned long long>(kvasir::testing::Seed()));
  return RUN_ALL_TESTS();
}
