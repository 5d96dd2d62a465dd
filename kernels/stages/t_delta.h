// SPDX-License-Identifier: Apache-2.0
// T:delta. Groups of neighbouring tokens keep the difference to their first token, the anchor: neighbours are alike, so
// the differences are small and entropy coding has something to save (CacheGen, arXiv 2310.07240).
//
//   a = the first row of the group in 8 bits: s = max|x_c| / 127, up to fp16; code_c = round(x_c * (1 / s)); a_c =
//   code_c * s y_t = x_t - a for every token of the group, the anchor too: what its 8 bits lost goes on with the others
// Section: for each head and group, s fp16 | codes int8 [dim].
#pragma once

#include "kernels/number_formats.h"
#include "kernels/stages/stage.h"

namespace kvasir {

struct DeltaStage {
  struct Args {
    uint32_t group = 10;  ///< tokens; CacheGen's
  };
  static constexpr StageRole kRole = StageRole::kTransform;
  static constexpr StageInfo kInfo = {
      "T", "delta", "delta[(tokens)]",
      "Differences to the first token of each group, which is kept in 8 bits (CacheGen, arXiv 2310.07240)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> group = in.Number(0, 10, 2, kGroupMax, "tokens in a group");
    if (!group.ok()) return group.error();
    return Args{*group};
  }
  static std::string Print(const Args& a) { return std::to_string(a.group); }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint64_t Groups(const Args& a, const FrameShape& s) { return (s.tokens + a.group - 1) / a.group; }
  KVASIR_HD static uint64_t SectionBytes(const Args& a, const FrameShape& s) {
    return s.heads * Groups(a, s) * (2 + uint64_t{s.dim});
  }

  template <class Run>
  static void Forward(Run& run, const Args& a, const ChainFrame& frame, float* x, uint8_t* section) {
    const uint64_t groups = Groups(a, frame.shape);
    const uint32_t dim = frame.shape.dim, tokens = frame.shape.tokens, group = a.group;
    run(frame.shape.heads * groups, [=] KVASIR_HD(uint64_t i) {
      const uint32_t first = static_cast<uint32_t>(i % groups) * group;
      const uint32_t count = tokens - first < group ? tokens - first : group;
      float* rows = x + (i / groups * tokens + first) * dim;
      uint8_t* out = section + i * (2 + uint64_t{dim});
      float greatest = 0;
      for (uint32_t c = 0; c < dim; ++c) greatest = fmaxf(greatest, fabsf(rows[c]));
      const uint16_t scale16 = Float16Above(fminf(greatest, 65504.0f * 127.0f) / 127.0f);
      const float scale = Float16ToFloat(scale16);
      const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
      Store16(out, scale16);
      for (uint32_t c = 0; c < dim; ++c) {
        const float code = rintf(fminf(fmaxf(rows[c] * inverse, -127.0f), 127.0f));
        out[2 + c] = static_cast<uint8_t>(static_cast<int8_t>(code));
        const float anchor = code * scale;
        for (uint32_t t = 0; t < count; ++t) rows[uint64_t{t} * dim + c] -= anchor;
      }
    });
  }
  template <class Run>
  static void Inverse(Run& run, const Args& a, const ChainFrame& frame, const uint8_t* section, float* x) {
    const uint64_t groups = Groups(a, frame.shape);
    const uint32_t dim = frame.shape.dim, tokens = frame.shape.tokens, group = a.group;
    RunRows<RowUse::kChange>(run, frame.rows(), dim, x, [=] KVASIR_HD(uint64_t row, float* at) {
      const uint8_t* in = section + (row / tokens * groups + row % tokens / group) * (2 + uint64_t{dim});
      const float scale = Float16ToFloat(Load16(in));
      for (uint32_t c = 0; c < dim; ++c) {
        at[c] += static_cast<float>(static_cast<int8_t>(in[2 + c])) * scale;
      }
    });
  }
};

}  // namespace kvasir
