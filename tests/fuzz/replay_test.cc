// SPDX-License-Identifier: Apache-2.0
// Goal: the fuzz targets stay alive in builds without libFuzzer. Method: every seed, every prefix of the short ones,
// and 2,000 mutations from the run's seed, each in memory of exactly its length.
#include <gtest/gtest.h>

#include "tests/fuzz/fuzz.h"
#include "tests/support/seed.h"

namespace kvasir::fuzzing {
namespace {

constexpr int kMutations = 2000;
constexpr size_t kPrefixesOf = 600;  ///< bytes: of longer seeds only the whole

void RunExact(const std::string& input) {
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  Run(bytes);
}

void MutateOnce(std::string& bytes, const std::string& other, std::mt19937_64& rng) {
  const auto below = [&rng](size_t n) { return n == 0 ? size_t{0} : static_cast<size_t>(rng() % n); };
  const size_t at = below(bytes.size());
  switch (rng() % 7) {
    case 0:
      if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
      break;
    case 1:
      if (!bytes.empty()) bytes[at] = static_cast<char>(rng());
      break;
    case 2: bytes.resize(at); break;
    case 3: bytes.insert(at, 1 + below(8), static_cast<char>(rng())); break;
    case 4: bytes.erase(at, 1 + below(8)); break;
    case 5: bytes.insert(at, bytes.substr(below(bytes.size()), below(64))); break;
    case 6: bytes = bytes.substr(0, at).append(other.substr(below(other.size()))); break;
  }
}

TEST(FuzzReplay, SeedsAndTheirPrefixes) {
  RunExact("");
  const std::vector<std::string> seeds = Seeds();
  ASSERT_FALSE(seeds.empty());
  for (const std::string& seed : seeds) {
    RunExact(seed);
    for (size_t length = 0; length < seed.size() && seed.size() <= kPrefixesOf; ++length) {
      RunExact(seed.substr(0, length));
    }
  }
}

TEST(FuzzReplay, Mutations) {
  auto rng = testing::Rng(1);
  const std::vector<std::string> seeds = Seeds();
  for (int i = 0; i < kMutations; ++i) {
    std::string bytes = seeds[rng() % seeds.size()];
    for (uint64_t n = 1 + rng() % 4; n > 0; --n) MutateOnce(bytes, seeds[rng() % seeds.size()], rng);
    RunExact(bytes);
  }
}

}  // namespace
}  // namespace kvasir::fuzzing
