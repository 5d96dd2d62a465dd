// SPDX-License-Identifier: Apache-2.0
// SelectBench: what methods that choose tokens cost the reference model, against codecs of all tokens in the same way.
// A case is a text of kPrefixTokens + a tail. The prefix is computed exactly, once its last token is known the spec
// chooses (after prefill, with all that the engine brings), its blocks are encoded and decoded; then the model computes
// the tail over the rows that came back. The tail's own K and V are exact: they are the engine's.
//
// Two turns: two named passkeys are told in the prefix, whose end is the question for one. Its answer and the question
// for the other follow in the tail: over the same stored context, after a choice that did not know it (SCBench: A KV
// Cache-Centric Analysis of Long-Context Methods, arXiv 2412.10319).
#pragma once

#include <filesystem>
#include <memory>

#include "kernels/codec.h"
#include "kernels/result.h"

namespace kvasir::quality {

struct SelectOptions {
  uint32_t texts = 12;
  uint32_t turns = 24;  ///< cases of two turns
  uint32_t threads = 1;
};

struct SelectFigures {
  double bits = 0;  ///< encoded bytes of the prefixes of the texts, times 8, over their values, kept or not
  double kept = 0;  ///< share of the tokens of these prefixes that are stored
  double perplexity = 0, change = 0, attention_error = 0;  ///< as in Figures (bench.h), of the tails
  double first_turn = 0;   ///< share of first questions answered: all five digits are the model's first choice
  double second_turn = 0;  ///< the same of second questions
};

class SelectBench {
 public:
  static Result<std::unique_ptr<SelectBench>> Make(const std::filesystem::path& model, const SelectOptions& options);
  virtual ~SelectBench() = default;
  virtual const SelectFigures& exact() const = 0;
  /// kInvalidArgument: the spec cannot take such frames, or needs what is not brought.
  virtual Result<SelectFigures> Measure(const Codec& codec) = 0;
};

}  // namespace kvasir::quality
