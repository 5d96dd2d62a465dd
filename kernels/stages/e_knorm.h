// SPDX-License-Identifier: Apache-2.0
// E:knorm. Tokens whose keys are short matter most: score = -|k| (A Simple and Effective L2 Norm-Based Strategy for KV
// Cache Compression, arXiv 2406.11430). Needs nothing but K, so its views are good for any query.
#pragma once

#include <cmath>

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct KeyNormScorer : ActionOnly {
  static constexpr StageRole kRole = StageRole::kScorer;
  static constexpr StageInfo kInfo = {"E", "knorm", "knorm[(drop|demote)]",
                                      "Tokens with short keys are kept (L2 norm strategy, arXiv 2406.11430)"};

  static Result<bool> Score(const Args&, const SelectionContext& context, std::vector<float>& scores) {
    const uint32_t dim = context.layout.key_dim;
    std::vector<float> keys(uint64_t{context.tokens} * dim);
    uint64_t at = 0;
    for (uint32_t layer = 0; layer < context.layout.layers; ++layer) {
      for (uint32_t head = 0; head < context.layout.kv_heads; ++head) {
        context.rows.Load(layer, head, KvTensor::kKey, keys);
        for (uint32_t token = 0; token < context.tokens; ++token, ++at) {
          float squares = 0;
          for (uint32_t c = 0; c < dim; ++c)
            squares += keys[uint64_t{token} * dim + c] * keys[uint64_t{token} * dim + c];
          scores[at] = -std::sqrt(squares);
        }
      }
    }
    return true;
  }
};

}  // namespace kvasir
