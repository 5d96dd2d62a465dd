// SPDX-License-Identifier: Apache-2.0
// Methods: names of the literature for specs of this build. A name stands for its spec where people write; what is
// stored and sent is always the spec.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace kvasir {

struct Method {
  std::string_view name;   ///< a-z, 0-9, '-'; unique. Where it is a spec by itself, it means the same
  uint32_t row;            ///< in the project's table of 63 methods; 0 = a relative of one of them
  std::string_view spec;   ///< of the paper's main setting
  std::string_view title;  ///< of the paper
  std::string_view arxiv;  ///< "2402.02750"; empty where there is no paper there
};

/// Every method that the stages of this build can express, ascending by name.
std::span<const Method> Methods();
/// The method of that name; null when there is none.
const Method* FindMethod(std::string_view name);
/// The spec of the method of that name; anything else as it is.
std::string SpecOf(std::string_view name_or_spec);

}  // namespace kvasir
