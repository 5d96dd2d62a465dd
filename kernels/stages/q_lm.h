// SPDX-License-Identifier: Apache-2.0
// Q:lm. Lloyd-Max levels of the unit Gaussian, for rows that a rotation has made Gaussian; each row has one fp16 scale
// (TurboQuant, arXiv 2504.19874; levels: Max, Quantizing for minimum distortion, 1960).
//
//   r_i = sqrt(sum_c x_ic^2 / d),  code = the level nearest to x_ic / r_i,  x^_ic = s_i * level(code)
//   s_i = ||x_i|| / ||level(codes of i)||, rounded to fp16: the decoded row has the norm of the row ("norm correction")
// Sums run over the channels in order. A row of zeros has s = 0.
#pragma once

#include "kernels/number_formats.h"
#include "kernels/stages/stage.h"

namespace kvasir {

struct LmStage {
  struct Args {
    uint32_t bits = 4;
  };
  static constexpr StageRole kRole = StageRole::kQuantiser;
  static constexpr StageInfo kInfo = {"Q", "lm", "lm(bits)",
                                      "Lloyd-Max levels of the Gaussian, 2 to 4 bits, one fp16 scale a row; after "
                                      "T:had (TurboQuant, arXiv 2504.19874)"};

  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> bits = in.Number(0, 4, 2, 4, "bits");
    if (!bits.ok()) return bits.error();
    return Args{*bits};
  }
  static std::string Print(const Args& a) { return std::to_string(a.bits); }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint32_t CodeBits(const Args& a) { return a.bits; }
  KVASIR_HD static uint64_t SectionBytes(const Args&, const FrameShape& s) { return 2 * uint64_t{s.heads} * s.tokens; }

  /// Level `i` of the positive half, smallest first; bits 2, 3, 4 have 2, 4, 8.
  KVASIR_HD static float HalfLevel(uint32_t bits, uint32_t i) {
    constexpr float k2[] = {0.4528f, 1.510f};
    constexpr float k3[] = {0.2451f, 0.7560f, 1.344f, 2.152f};
    constexpr float k4[] = {0.1284f, 0.3881f, 0.6568f, 0.9424f, 1.256f, 1.618f, 2.069f, 2.733f};
    return bits == 2 ? k2[i & 1] : bits == 3 ? k3[i & 3] : k4[i & 7];
  }
  /// Codes ascend with the levels: 0 is the most negative.
  KVASIR_HD static float Level(uint32_t bits, uint32_t code) {
    const uint32_t half = 1u << (bits - 1);
    return code >= half ? HalfLevel(bits, code - half) : -HalfLevel(bits, half - 1 - code);
  }
  /// The nearest level; a value between two levels at equal distance takes the lower.
  KVASIR_HD static uint8_t Code(uint32_t bits, float x) {
    const uint32_t levels = 1u << bits;
    uint32_t code = 0;
    for (uint32_t i = 0; i + 1 < levels; ++i) code += x > 0.5f * (Level(bits, i) + Level(bits, i + 1)) ? 1 : 0;
    return static_cast<uint8_t>(code);
  }

  template <class Run>
  static void Quantise(Run& run, const Args& a, const ChainFrame& frame, const float* x, uint8_t* section,
                       uint8_t* codes) {
    const uint32_t dim = frame.shape.dim, bits = a.bits;
    RunRows<RowUse::kRead>(run, frame.rows(), dim, x, [=] KVASIR_HD(uint64_t row, const float* in) {
      uint8_t* out = codes + row * dim;
      float squares = 0;
      for (uint32_t c = 0; c < dim; ++c) squares += in[c] * in[c];
      const float inverse = squares > 0 ? 1.0f / sqrtf(squares / static_cast<float>(dim)) : 0.0f;
      float levels = 0;
      for (uint32_t c = 0; c < dim; ++c) {
        out[c] = Code(bits, in[c] * inverse);
        const float level = Level(bits, out[c]);
        levels += level * level;
      }
      Store16(section + 2 * row, SaturatedFloat16(sqrtf(squares) / sqrtf(levels)));
    });
  }
  template <class Run>
  static void Dequantise(Run& run, const Args& a, const ChainFrame& frame, const uint8_t* section, const uint8_t* codes,
                         float* x) {
    const uint32_t dim = frame.shape.dim, bits = a.bits;
    RunRows<RowUse::kWrite>(run, frame.rows(), dim, x, [=] KVASIR_HD(uint64_t row, float* at) {
      const float scale = Float16ToFloat(Load16(section + 2 * row));
      for (uint32_t c = 0; c < dim; ++c) at[c] = scale * Level(bits, codes[row * dim + c]);
    });
  }
};

}  // namespace kvasir
