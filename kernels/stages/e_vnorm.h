// SPDX-License-Identifier: Apache-2.0
// E:vnorm. A token matters by what attention brings of it: score_t := score_t * |v_t|_1 (Attention Score is not All You
// Need for Token Importance Indicator in KV Cache Reduction: Value Also Matters, arXiv 2406.12335).
#pragma once

#include "kernels/stages/select_stage.h"

namespace kvasir {

struct ValueNormScores {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kReshape;
  static constexpr bool kByHead = true;
  static constexpr StageInfo kInfo = {"E", "vnorm", "vnorm",
                                      "Scores times the L1 norm of the value (VATP, arXiv 2406.12335); after a scorer"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
    return Args{};
  }
  static std::string Print(const Args&) { return ""; }

  static Result<bool> Reshape(const Args&, const SelectionContext& context, std::vector<float>& scores) {
    const uint32_t dim = context.layout.value_dim, heads = context.layout.kv_heads;
    if (dim == 0) return Error{ErrorCode::kInvalidArgument, "E:vnorm: a latent layout has no values; leave it out"};
    std::vector<float> values(uint64_t{context.tokens} * dim);
    for (uint64_t i = 0; i < context.heads(); ++i) {
      context.rows.Load(static_cast<uint32_t>(i / heads), static_cast<uint32_t>(i % heads), KvTensor::kValue, values);
      for (uint64_t t = 0; t < context.tokens; ++t) {
        float norm = 0;
        for (uint64_t c = 0; c < dim; ++c) norm += std::fabs(values[t * dim + c]);
        float& score = scores[i * context.tokens + t];
        if (score != kKeepFirst) score *= norm;
      }
    }
    return true;
  }
};

}  // namespace kvasir
