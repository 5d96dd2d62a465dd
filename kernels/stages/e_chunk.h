// SPDX-License-Identifier: Apache-2.0
// E:chunk. Tokens are kept by whole chunks, and the heads of a layer keep the same ones: the score of a token becomes
// the mean over its c tokens and over the heads of its layer (ChunkKV: Semantic-Preserving KV Cache Compression for
// Efficient Long-Context LLM Inference, arXiv 2502.00299). Where the budget ends within a chunk, its earlier tokens are
// kept.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct ChunkScores {
  struct Args {
    uint32_t tokens = 10;
  };
  static constexpr StageRole kRole = StageRole::kReshape;
  static constexpr StageInfo kInfo = {"E", "chunk", "chunk(tokens)",
                                      "Scores become those of whole chunks, for all heads of a layer (ChunkKV, arXiv "
                                      "2502.00299); after a scorer"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> tokens = in.Number(0, 10, 1, kGroupMax, "tokens of a chunk");
    if (!tokens.ok()) return tokens.error();
    return Args{*tokens};
  }
  static std::string Print(const Args& a) { return std::to_string(a.tokens); }

  static Result<bool> Reshape(const Args& a, const SelectionContext& context, std::vector<float>& scores) {
    const uint64_t n = context.tokens, heads = context.layout.kv_heads;
    for (uint64_t layer = 0; layer < context.layout.layers; ++layer) {
      const std::span<float> of_layer = std::span(scores).subspan(layer * heads * n, heads * n);
      for (uint64_t begin = 0; begin < n; begin += a.tokens) {
        const uint64_t end = std::min<uint64_t>(begin + a.tokens, n);
        double sum = 0;
        for (uint64_t head = 0; head < heads; ++head) {
          for (uint64_t t = begin; t < end; ++t) sum += of_layer[head * n + t];
        }
        const float mean = static_cast<float>(sum / static_cast<double>(heads * (end - begin)));
        for (uint64_t head = 0; head < heads; ++head) {
          std::fill_n(of_layer.begin() + static_cast<ptrdiff_t>(head * n + begin), end - begin, mean);
        }
      }
    }
    return true;
  }
};

}  // namespace kvasir
