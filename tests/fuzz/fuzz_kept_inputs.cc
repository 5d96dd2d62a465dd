// SPDX-License-Identifier: Apache-2.0
// KeptInputs::Decode: what it accepts is what Encode writes.
#include "client/kept_inputs.h"
#include "tests/fuzz/fuzz.h"

namespace kvasir::fuzzing {

void Run(std::span<const uint8_t> input) {
  const std::string_view bytes(reinterpret_cast<const char*>(input.data()), input.size());
  const auto kept = KeptInputs::Decode(bytes);
  if (!kept.ok()) return Require(!kept.status().message().empty(), "a refusal says why");
  Require(KeptInputs::Encode((*kept)->inputs()) == bytes, "one form only");
}

std::vector<std::string> Seeds() {
  const std::vector<float> floats = {0.5f, -1.0f, 3e30f, 0.0f, 7.0f};
  const std::vector<TokenSpan> spans = {{0, 3, TokenSpan::Kind::kImage}, {3, 9, TokenSpan::Kind::kSpecial}};
  SelectInputs some;
  some.attention_sums = floats;
  some.head_scores = std::span(floats).first(2);
  some.attention_peak = floats;
  some.query_heads = 8;
  some.window = 32;
  some.spans = spans;
  return {KeptInputs::Encode({}), KeptInputs::Encode(some)};
}

}  // namespace kvasir::fuzzing
