// SPDX-License-Identifier: Apache-2.0
// Codec::Parse: what it accepts has a canonical form that parses to itself.
#include "kernels/codec.h"
#include "tests/fuzz/fuzz.h"

namespace kvasir::fuzzing {

void Run(std::span<const uint8_t> input) {
  const auto codec = Codec::Parse({reinterpret_cast<const char*>(input.data()), input.size()});
  if (!codec.ok()) return Require(!codec.error().message.empty(), "a refusal says why");
  const std::string& canonical = (*codec)->spec();
  Require(canonical.size() <= kSpecBytesMax, "the canonical form is within the limit");
  const auto again = Codec::Parse(canonical);
  Require(again.ok() && (*again)->spec() == canonical, "the canonical form is canonical");
  Require((*again)->lossless() == (*codec)->lossless(), "and means the same");
}

std::vector<std::string> Seeds() {
  return {"raw", "P:raw", "splitexp", "int(8,tok)", "k:int(2,chan,32)|v:int(2,tok,32)|P:bits", "Q:int(4,tok,64,sym)"};
}

}  // namespace kvasir::fuzzing
