// SPDX-License-Identifier: Apache-2.0
// The table of the 63 methods: rows.txt, one a line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/result.h"

namespace kvasir::seeds {

inline constexpr uint32_t kRows = 63;

/// What becomes of a row when it is run.
enum class Fate : uint8_t { kPass, kFails, kLater };
std::string_view NameOf(Fate fate);

struct Row {
  uint32_t number = 0;
  uint32_t step = 0;  ///< of the build order
  Fate expected = Fate::kLater;
  std::string method;
  std::string spec;   ///< empty where the row is for later
  double bits = 0;    ///< stated; 0 = they depend on the data
  std::string check;  ///< what must hold beside the common gate, or why later
};

/// kInvalidArgument names the line. Rows are 1 to kRows, ascending.
Result<std::vector<Row>> ParseRows(std::string_view text);

}  // namespace kvasir::seeds
