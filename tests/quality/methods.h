// SPDX-License-Identifier: Apache-2.0
// The table of methods that are measured: methods.txt, one a line.
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
};

/// kInvalidArgument names the line: a field is missing, or the spec is none. `text` is that of methods.txt.
Result<std::vector<Method>> ParseMethods(std::string_view text);
Result<std::string> ReadText(const std::filesystem::path& path);

}  // namespace kvasir::quality
