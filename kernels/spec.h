// SPDX-License-Identifier: Apache-2.0
// The grammar of codec specs, before any stage has looked at its arguments.
//   spec  = stage *("|" stage)
//   stage = [("k" / "v" / "d" / "kd" / "vd") ":"] [LETTER ":"] name ["(" argument *("," argument) ")"]
// LETTER is A-Z; a name is a-z0-9; an argument is a-z0-9.+-. No blanks.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/result.h"
#include "kernels/stages/table.h"

namespace kvasir {

inline constexpr uint8_t kSpecKey = 1;
inline constexpr uint8_t kSpecValue = 2;
inline constexpr uint32_t kSpecStagesMax = 32;
inline constexpr uint32_t kSpecArgumentsMax = 8;

/// One stage as written; views into the spec.
struct SpecStage {
  uint32_t position = 0;  ///< of its first byte
  uint8_t tensors = kSpecKey | kSpecValue;
  bool demoted = false;     ///< for demoted tokens only
  std::string_view letter;  ///< empty when left out
  std::string_view name;
  std::vector<SpecArgument> arguments;
};

/// kInvalidArgument names the position, what was met and what is allowed there.
Result<std::vector<SpecStage>> ParseSpec(std::string_view spec);

/// The table's line for a stage; kInvalidArgument lists the names there are.
Result<const StageEntry*> FindStage(const SpecStage& stage);

}  // namespace kvasir
