// SPDX-License-Identifier: Apache-2.0
// T:mean. Takes the mean over the tokens of the frame out of every channel: keys then fit a scale per token. For keys
// the softmax does not see the difference, and decode puts it back (smoothing of SageAttention2, arXiv 2411.10958).
//
//   m_c = sum_t x_tc / n, rounded to fp16;  y_tc = x_tc - m_c        the sum in the order of the tokens
// Section: m, fp16 [heads][dim].
#pragma once

#include "kernels/number_formats.h"
#include "kernels/stages/stage.h"

namespace kvasir {

struct MeanStage {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kTransform;
  static constexpr StageInfo kInfo = {
      "T", "mean", "mean", "The mean of every channel over the tokens, kept apart (SageAttention2, arXiv 2411.10958)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
    return Args{};
  }
  static std::string Print(const Args&) { return ""; }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint64_t SectionBytes(const Args&, const FrameShape& s) { return 2 * uint64_t{s.heads} * s.dim; }

  template <class Run>
  static void Forward(Run& run, const Args&, const ChainFrame& frame, float* x, uint8_t* section) {
    const uint32_t dim = frame.shape.dim, tokens = frame.shape.tokens;
    run(uint64_t{frame.shape.heads} * dim, [=] KVASIR_HD(uint64_t i) {
      float* first = x + i / dim * tokens * dim + i % dim;
      float sum = 0;
      for (uint32_t t = 0; t < tokens; ++t) sum += first[uint64_t{t} * dim];
      const uint16_t mean = SaturatedFloat16(sum / static_cast<float>(tokens));
      Store16(section + 2 * i, mean);
      for (uint32_t t = 0; t < tokens; ++t) first[uint64_t{t} * dim] -= Float16ToFloat(mean);
    });
  }
  template <class Run>
  static void Inverse(Run& run, const Args&, const ChainFrame& frame, const uint8_t* section, float* x) {
    const uint32_t dim = frame.shape.dim, tokens = frame.shape.tokens;
    RunRows<RowUse::kChange>(run, frame.rows(), dim, x, [=] KVASIR_HD(uint64_t row, float* at) {
      const uint8_t* means = section + 2 * (row / tokens * dim);
      for (uint32_t c = 0; c < dim; ++c) at[c] += Float16ToFloat(Load16(means + 2 * c));
    });
  }
};

}  // namespace kvasir
