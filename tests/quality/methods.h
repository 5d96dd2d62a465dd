// SPDX-License-Identifier: Apache-2.0
// The tables of methods that are measured: methods.txt, and selecting.txt for those that choose tokens; one a line.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/result.h"

namespace kvasir::quality {

struct Method {
  std::string family;
  std::string spec;
  uint32_t planes = 0;  ///< that are read; 0 = all
  std::string name;
  std::string budget;  ///< of selecting.txt: what stands for '*'; empty where there is none
};

/// kInvalidArgument names the line: a field is missing, or the spec is none. `text` is that of methods.txt.
Result<std::vector<Method>> ParseMethods(std::string_view text);
/// The same of selecting.txt: a line with '*' in its spec stands for one method a budget.
Result<std::vector<Method>> ParseSelecting(std::string_view text, const std::vector<std::string>& budgets);
Result<std::string> ReadText(const std::filesystem::path& path);

}  // namespace kvasir::quality
