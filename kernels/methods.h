// SPDX-License-Identifier: Apache-2.0
// Methods: names of the literature for specs of this build. A name stands for its spec where people write; what is
// stored and sent is always the spec.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "kernels/codec.h"
#include "kernels/result.h"

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
/// Compiles what people write: a method's name or a spec. kInvalidArgument: as Codec::Parse, or the methods that a word
/// which is neither is near to.
Result<std::shared_ptr<const Codec>> CodecNamed(std::string_view name_or_spec);

}  // namespace kvasir
