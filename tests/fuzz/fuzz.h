// SPDX-License-Identifier: Apache-2.0
// What a fuzz target is: one function that must survive any bytes, and the good inputs to begin from. Built with clang
// and KVASIR_FUZZ it is a libFuzzer program; else a test that replays the seeds and 2,000 mutations of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <vector>

namespace kvasir::fuzzing {

/// Feeds one input to the parser. `input` is exactly as long as its memory.
void Run(std::span<const uint8_t> input);

/// Inputs that are right, so that mutation begins behind the first check.
std::vector<std::string> Seeds();

/// A property of what was accepted; a broken one is a finding.
inline void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: broken: %s\n", what);
  std::abort();
}

}  // namespace kvasir::fuzzing
