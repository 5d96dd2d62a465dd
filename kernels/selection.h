// SPDX-License-Identifier: Apache-2.0
// Selection: which tokens of a chain each head keeps. Stages B (how many), E (which), M (what becomes of the others)
// and R:sink, R:win (which in any case), computed once over the whole chain, after prefill; every block stores its
// share.
//
// A spec that selects, for example SnapKV at a quarter of the tokens:
//   B:uni(0.25)|E:win(32,7)|R:sink(4)|R:win(32)|raw
// What is not kept is dropped, or with E:...,demote goes through the stages marked d: (fewer bits).
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/stages/stage.h"

namespace kvasir {

inline constexpr uint32_t kScoreStagesMax = 4;

/// The selecting stages of a spec, as plain data; StageCall::stage indexes SelectStages.
struct SelectionSpec {
  bool has_budget = false;
  StageCall budget;
  uint32_t score_count = 0;
  StageCall scores[kScoreStagesMax];  ///< a scorer, and what reshapes its scores (E:chunk)
  bool has_merge = false;
  StageCall merge;
  uint32_t sink_tokens = 0;    ///< of the beginning of the chain: always kept, exactly
  uint32_t window_tokens = 0;  ///< of its end: the same
  bool demote = false;
  bool selects() const { return has_budget || score_count > 0; }
};

}  // namespace kvasir
