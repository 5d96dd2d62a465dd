// SPDX-License-Identifier: Apache-2.0
// Q:adapt. As many bits for each token as its place in the attention asks for (QAQ, arXiv 2403.04643).
//
//   greatest error a row may have, with n tokens in the context and tolerance eps of the attention output:
//     value  e = sqrt(12 / n) * eps / max attention that a recent query paid to the token
//     key    e = sqrt(12 / |q|^2 * ln(n^3 eps^2 / (n - 1) + 1)), |q| the greatest norm of a query of the head
//   b = the least b in [0, 8] with (2^b - 1) * 2 e >= max x - min x;  then Q:int asym with b bits over the row; 0 bits
//   stand for the middle of the range
// The engine brings the attention (FrameInputs::attention_peak) for values, the norms (query_norm) for keys.
// Section: bits u8 [heads][tokens] | s fp16 | z fp16, each [heads][tokens].
#pragma once

#include "kernels/stages/q_int.h"

namespace kvasir {

struct AdaptStage {
  struct Args {
    uint32_t value = 0;        ///< 1 = by the value's formula
    uint32_t epsilon = 10000;  ///< millionths
  };
  static constexpr uint32_t kBitsMax = 8;
  static constexpr StageRole kRole = StageRole::kQuantiser;
  static constexpr StageInfo kInfo = {
      "Q", "adapt", "adapt(key|value[,eps])",
      "Bits for each token by what attention makes of its error (QAQ, arXiv 2403.04643)",
      "attention_peak for values, query_norm for keys"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    const Result<uint32_t> value = in.Word(0, 0, kTensors, "formula");
    if (!value.ok()) return value.error();
    const Result<uint32_t> epsilon = in.Share(1, 10000, "tolerance of the attention output");
    if (!epsilon.ok()) return epsilon.error();
    if (*epsilon == 0) return in.Refuse(1, "tolerance of the attention output, more than 0");
    return Args{*value, *epsilon};
  }
  static std::string Print(const Args& a) { return std::string(kTensors[a.value]) + "," + PrintShare(a.epsilon); }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }
  static Result<bool> CheckInputs(const Args& a, const FrameInputs& inputs) {
    if (inputs.context_tokens == 0) return MissingInput("Q:adapt", "context_tokens");
    if (a.value != 0 && inputs.attention_peak == nullptr) return MissingInput("Q:adapt(value)", "attention_peak");
    if (a.value == 0 && inputs.query_norm == nullptr) return MissingInput("Q:adapt(key)", "query_norm");
    return true;
  }

  KVASIR_HD static uint32_t CodeBits(const Args&) { return kBitsMax; }
  KVASIR_HD static uint64_t SectionBytes(const Args&, const FrameShape& s) { return 5 * uint64_t{s.heads} * s.tokens; }
  static const uint8_t* RowBits(const Args&, const uint8_t* section) { return section; }
  /// The part of the greatest error that does not depend on the row: the row's attention, or |q|, divides it.
  static float ErrorBudget(const Args& a, uint32_t context_tokens) {
    const double n = context_tokens < 2 ? 2 : context_tokens, eps = a.epsilon / 1e6;
    if (a.value != 0) return static_cast<float>(std::sqrt(12.0 / n) * eps);
    return static_cast<float>(std::sqrt(12.0 * std::log(n * n * n * eps * eps / (n - 1) + 1)));
  }
  KVASIR_HD static uint32_t Bits(float range, float error) {
    uint32_t bits = 0;
    while (bits < kBitsMax && static_cast<float>((1u << bits) - 1) * 2.0f * error < range) ++bits;
    return bits;
  }

  template <class Run>
  static void Quantise(Run& run, const Args& a, const ChainFrame& frame, const float* x, uint8_t* section,
                       uint8_t* codes) {
    const uint32_t dim = frame.shape.dim, tokens = frame.shape.tokens;
    const uint64_t rows = frame.rows();
    const float budget = ErrorBudget(a, frame.inputs.context_tokens);
    const float* divisors = a.value != 0 ? frame.inputs.attention_peak : frame.inputs.query_norm;
    const bool by_value = a.value != 0;
    RunRows<RowUse::kRead>(run, rows, dim, x, [=] KVASIR_HD(uint64_t row, const float* in) {
      const float divisor = divisors[by_value ? row : row / tokens];
      const float error = divisor > 0 ? budget / divisor : 65504.0f;
      float least = in[0], greatest = in[0];
      for (uint32_t c = 1; c < dim; ++c) {
        least = fminf(least, in[c]);
        greatest = fmaxf(greatest, in[c]);
      }
      IntSpec spec{Bits(IntInput(greatest) - IntInput(least), error), false, 0, false};
      section[row] = static_cast<uint8_t>(spec.bits);
      IntParameters p;
      if (spec.bits == 0) {
        // Which of -0 and +0 is the lesser differs from one fminf to another: 0 is added, and -0 becomes +0.
        p.zero16 = SaturatedFloat16(0.5f * (IntInput(least) + IntInput(greatest)) + 0.0f);
        for (uint32_t c = 0; c < dim; ++c) codes[row * dim + c] = 0;
      } else {
        p = EncodeIntGroup(spec, ElementType::kFloat32, reinterpret_cast<const uint8_t*>(in), sizeof(float), dim,
                           codes + row * dim, 1);
      }
      Store16(section + rows + 2 * row, p.scale16);
      Store16(section + 3 * rows + 2 * row, p.zero16);
    });
  }
  template <class Run>
  static void Dequantise(Run& run, const Args&, const ChainFrame& frame, const uint8_t* section, const uint8_t* codes,
                         float* x) {
    const uint32_t dim = frame.shape.dim;
    const uint64_t rows = frame.rows();
    RunRows<RowUse::kWrite>(run, rows, dim, x, [=] KVASIR_HD(uint64_t row, float* at) {
      const float scale = Float16ToFloat(Load16(section + rows + 2 * row));
      const float zero = Float16ToFloat(Load16(section + 3 * rows + 2 * row));
      for (uint32_t c = 0; c < dim; ++c) {
        at[c] = IntValue({}, static_cast<float>(codes[row * dim + c]), scale, zero);
      }
    });
  }

 private:
  static constexpr std::string_view kTensors[] = {"key", "value"};
};

}  // namespace kvasir
