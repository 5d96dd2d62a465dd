// SPDX-License-Identifier: Apache-2.0
// T:norm. Every row over its root mean square, which is kept: rows of different length then share levels
// (PolarQuant-like split into norm and direction, as in TurboQuant, arXiv 2504.19874).
//
//   r = sqrt(sum_c x_c^2 / d), rounded to fp16;  y_c = x_c * (1 / r), 0 where r is 0      the sum in channel order
// Section: r, fp16 [heads][tokens].
#pragma once

#include "kernels/number_formats.h"
#include "kernels/stages/stage.h"

namespace kvasir {

struct NormStage {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kTransform;
  static constexpr StageInfo kInfo = {
      "T", "norm", "norm", "Every row over its root mean square, kept in fp16 (TurboQuant, arXiv 2504.19874)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
    return Args{};
  }
  static std::string Print(const Args&) { return ""; }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint64_t SectionBytes(const Args&, const FrameShape& s) { return 2 * uint64_t{s.heads} * s.tokens; }

  template <class Run>
  static void Forward(Run& run, const Args&, const ChainFrame& frame, float* x, uint8_t* section) {
    const uint32_t dim = frame.shape.dim;
    RunRows<RowUse::kChange>(run, frame.rows(), dim, x, [=] KVASIR_HD(uint64_t row, float* at) {
      float squares = 0;
      for (uint32_t c = 0; c < dim; ++c) squares += at[c] * at[c];
      const uint16_t root = SaturatedFloat16(sqrtf(squares / static_cast<float>(dim)));
      Store16(section + 2 * row, root);
      const float inverse = Float16ToFloat(root) > 0 ? 1.0f / Float16ToFloat(root) : 0.0f;
      for (uint32_t c = 0; c < dim; ++c) at[c] *= inverse;
    });
  }
  template <class Run>
  static void Inverse(Run& run, const Args&, const ChainFrame& frame, const uint8_t* section, float* x) {
    const uint32_t dim = frame.shape.dim;
    RunRows<RowUse::kChange>(run, frame.rows(), dim, x, [=] KVASIR_HD(uint64_t row, float* at) {
      const float root = Float16ToFloat(Load16(section + 2 * row));
      for (uint32_t c = 0; c < dim; ++c) at[c] *= root;
    });
  }
};

}  // namespace kvasir
