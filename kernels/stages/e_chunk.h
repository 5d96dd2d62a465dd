// SPDX-License-Identifier: Apache-2.0
// E:chunk. Tokens are kept by whole chunks, and the heads of a layer keep the same ones: the score of a token becomes
// the mean over its c tokens and over the heads of its layer (ChunkKV: Semantic-Preserving KV Cache Compression for
// Efficient Long-Context LLM Inference, arXiv 2502.00299). Where the budget ends within a chunk, its earlier tokens are
// kept.
// Layer-wise index reuse, N_reuse of the paper: of every `layers` neighbouring layers the first one's chunk scores
// count for all, so that they keep the same tokens under a budget that gives them the same number. 1 = every layer its
// own.
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct ChunkScores {
  struct Args {
    uint32_t tokens = 10;
    uint32_t layers = 1;  ///< that share the scores of the first of them
  };
  static constexpr uint32_t kLayersMax = 4096;
  static constexpr StageRole kRole = StageRole::kReshape;
  static constexpr StageInfo kInfo = {"E", "chunk", "chunk(tokens[,layers])",
                                      "Scores become those of whole chunks, for all heads of a layer, or of so many "
                                      "layers (ChunkKV, arXiv 2502.00299); after a scorer"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    const Result<uint32_t> tokens = in.Number(0, 10, 1, kGroupMax, "tokens of a chunk");
    if (!tokens.ok()) return tokens.error();
    const Result<uint32_t> layers = in.Number(1, 1, 1, kLayersMax, "layers that keep the same tokens");
    if (!layers.ok()) return layers.error();
    return Args{*tokens, *layers};
  }
  static std::string Print(const Args& a) {
    std::string printed = std::to_string(a.tokens);
    if (a.layers != 1) printed.append(1, ',').append(std::to_string(a.layers));
    return printed;
  }

  static Result<bool> Reshape(const Args& a, const SelectionContext& context, std::vector<float>& scores) {
    const uint64_t n = context.tokens, heads = context.layout.kv_heads;
    for (uint64_t layer = 0; layer < context.layout.layers; ++layer) {
      const std::span<float> of_layer = std::span(scores).subspan(layer * heads * n, heads * n);
      if (layer % a.layers != 0) {
        std::copy_n(of_layer.data() - heads * n, heads * n, of_layer.data());
        continue;
      }
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
