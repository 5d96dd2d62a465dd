// SPDX-License-Identifier: Apache-2.0
// T:bal. Channel balancer: every key channel times b_c = sqrt(max|q_c| / max|k_c|), so that queries and keys have like
// ranges and one scale fits a token; decode divides again (MiKV, arXiv 2402.18096).
//
// max|k_c| is over the tokens of the frame, max|q_c| is brought by the engine (FrameInputs::query_peak). b is rounded
// to fp16 within [2^-14, 65504], 1 where either maximum is 0. Section: b, fp16 [heads][dim].
#pragma once

#include "kernels/number_formats.h"
#include "kernels/stages/stage.h"

namespace kvasir {

struct BalStage {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kTransform;
  static constexpr StageInfo kInfo = {
      "T", "bal", "bal", "Channels scaled so that queries and keys have like ranges (MiKV, arXiv 2402.18096)",
      "query_peak"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
    return Args{};
  }
  static std::string Print(const Args&) { return ""; }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }
  static Result<bool> CheckInputs(const Args&, const FrameInputs& inputs) {
    if (inputs.query_peak != nullptr) return true;
    return MissingInput("T:bal", "query_peak");
  }

  KVASIR_HD static uint64_t SectionBytes(const Args&, const FrameShape& s) { return 2 * uint64_t{s.heads} * s.dim; }
  KVASIR_HD static uint16_t Balance(float query, float key) {
    if (!(query > 0 && key > 0)) return FloatToFloat16(1.0f);
    const float b = sqrtf(query / key);
    constexpr float kLeast = 6.103515625e-05f;  // 2^-14, the least normal fp16
    return SaturatedFloat16(b > kLeast ? b : kLeast);
  }

  template <class Run>
  static void Forward(Run& run, const Args&, const ChainFrame& frame, float* x, uint8_t* section) {
    const uint32_t dim = frame.shape.dim, tokens = frame.shape.tokens;
    const float* query_peak = frame.inputs.query_peak;
    run(uint64_t{frame.shape.heads} * dim, [=] KVASIR_HD(uint64_t i) {
      float* first = x + i / dim * tokens * dim + i % dim;
      float key = 0;
      for (uint32_t t = 0; t < tokens; ++t) key = fmaxf(key, fabsf(first[uint64_t{t} * dim]));
      const uint16_t b = Balance(query_peak[i], key);
      Store16(section + 2 * i, b);
      for (uint32_t t = 0; t < tokens; ++t) first[uint64_t{t} * dim] *= Float16ToFloat(b);
    });
  }
  template <class Run>
  static void Inverse(Run& run, const Args&, const ChainFrame& frame, const uint8_t* section, float* x) {
    const uint32_t dim = frame.shape.dim, tokens = frame.shape.tokens;
    run(frame.rows(), [=] KVASIR_HD(uint64_t row) {
      const uint8_t* balances = section + 2 * (row / tokens * dim);
      for (uint32_t c = 0; c < dim; ++c) x[row * dim + c] /= Float16ToFloat(Load16(balances + 2 * c));
    });
  }
};

}  // namespace kvasir
