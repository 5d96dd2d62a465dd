// SPDX-License-Identifier: Apache-2.0
// E:span. Tokens are kept by whole spans of the prompt, such as the examples of a few-shot prompt (ShotKV: Can LLMs
// Maintain Fundamental Abilities under KV Cache Compression?, arXiv 2502.01941): the score of a token becomes the mean
// over its span and over the heads of its layer. Tokens outside of all spans keep the mean over the heads. Where the
// budget ends within a span, its earlier tokens are kept.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct SpanScores {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kReshape;
  static constexpr StageInfo kInfo = {"E", "span", "span",
                                      "Scores become those of whole spans, for all heads of a layer (ShotKV, arXiv "
                                      "2502.01941); after a scorer",
                                      "spans"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
    return Args{};
  }
  static std::string Print(const Args&) { return ""; }

  static Result<bool> Reshape(const Args&, const SelectionContext& context, std::vector<float>& scores) {
    const std::span<const TokenSpan> spans = context.inputs.spans;
    if (spans.empty()) return MissingInput("E:span", "spans");
    uint32_t before = 0;
    for (const TokenSpan& span : spans) {
      if (span.begin < before || span.end <= span.begin || span.end > context.tokens) {
        return Error{ErrorCode::kInvalidArgument,
                     "E:span: the input spans must ascend, not overlap, not be empty and lie within the chain"};
      }
      before = span.end;
    }
    const uint64_t heads = context.layout.kv_heads;
    for (uint64_t layer = 0; layer < context.layout.layers; ++layer) {
      const std::span<float> of_layer =
          std::span(scores).subspan(layer * heads * context.tokens, heads * context.tokens);
      uint32_t token = 0;
      for (const TokenSpan& span : spans) {
        for (; token < span.begin; ++token) Level(of_layer, heads, context.tokens, token, token + 1);
        Level(of_layer, heads, context.tokens, span.begin, span.end);
        token = span.end;
      }
      for (; token < context.tokens; ++token) Level(of_layer, heads, context.tokens, token, token + 1);
    }
    return true;
  }

 private:
  /// Tokens [begin, end) of all heads take their mean; sums in float64, head after head.
  static void Level(std::span<float> scores, uint64_t heads, uint64_t tokens, uint64_t begin, uint64_t end) {
    double sum = 0;
    for (uint64_t head = 0; head < heads; ++head) {
      for (uint64_t t = begin; t < end; ++t) sum += scores[head * tokens + t];
    }
    const float mean = static_cast<float>(sum / static_cast<double>(heads * (end - begin)));
    for (uint64_t head = 0; head < heads; ++head) {
      for (uint64_t t = begin; t < end; ++t) scores[head * tokens + t] = mean;
    }
  }
};

}  // namespace kvasir
