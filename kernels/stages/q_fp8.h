// SPDX-License-Identifier: Apache-2.0
// Q:fp8. Eight-bit floats, E4M3 (largest 448) or E5M2 (57344), as they are or with one fp16 scale a row (FP8 formats
// for deep learning, arXiv 2209.05433).
//
//   one:  code = x rounded to the format, beyond its largest that one
//   row:  s = max_c |x_c| / largest, up to fp16;  code = x * (1 / s) rounded;  x^ = value(code) * s
// Section: s fp16 [heads][tokens] with `row`, else nothing.
#pragma once

#include "kernels/number_formats.h"
#include "kernels/stages/stage.h"

namespace kvasir {

struct Fp8Stage {
  struct Args {
    uint32_t wide = 0;    ///< 1 = E5M2
    uint32_t by_row = 0;  ///< 1 = a scale a row
  };
  static constexpr StageRole kRole = StageRole::kQuantiser;
  static constexpr StageInfo kInfo = {"Q", "fp8", "fp8[(e4m3|e5m2[,one|row])]",
                                      "Eight-bit floats, as they are or with one scale a row (arXiv 2209.05433)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 2); !counted.ok()) return counted.error();
    const Result<uint32_t> wide = in.Word(0, 0, kFormats, "format");
    if (!wide.ok()) return wide.error();
    const Result<uint32_t> by_row = in.Word(1, 0, kScales, "scale");
    if (!by_row.ok()) return by_row.error();
    return Args{*wide, *by_row};
  }
  static std::string Print(const Args& a) {
    return std::string(kFormats[a.wide]) + "," + std::string(kScales[a.by_row]);
  }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint32_t CodeBits(const Args&) { return 8; }
  KVASIR_HD static uint64_t SectionBytes(const Args& a, const FrameShape& s) {
    return a.by_row != 0 ? 2 * uint64_t{s.heads} * s.tokens : 0;
  }
  KVASIR_HD static float Largest(const Args& a) { return a.wide != 0 ? 57344.0f : 448.0f; }
  KVASIR_HD static uint8_t Code(const Args& a, float x) {
    const float largest = Largest(a);
    x = fminf(fmaxf(x, -largest), largest);
    return a.wide != 0 ? FloatToFloat8E5M2(x) : FloatToFloat8E4M3(x);
  }

  template <class Run>
  static void Quantise(Run& run, const Args& a, const ChainFrame& frame, const float* x, uint8_t* section,
                       uint8_t* codes) {
    const uint32_t dim = frame.shape.dim;
    RunRows<RowUse::kRead>(run, frame.rows(), dim, x, [=] KVASIR_HD(uint64_t row, const float* in) {
      float inverse = 1.0f;
      if (a.by_row != 0) {
        float greatest = 0;
        for (uint32_t c = 0; c < dim; ++c) greatest = fmaxf(greatest, fabsf(in[c]));
        const uint16_t scale = Float16Above(fminf(greatest, 65504.0f) / Largest(a));
        Store16(section + 2 * row, scale);
        inverse = Float16ToFloat(scale) > 0 ? 1.0f / Float16ToFloat(scale) : 0.0f;
      }
      for (uint32_t c = 0; c < dim; ++c) codes[row * dim + c] = Code(a, in[c] * inverse);
    });
  }
  template <class Run>
  static void Dequantise(Run& run, const Args& a, const ChainFrame& frame, const uint8_t* section, const uint8_t* codes,
                         float* x) {
    const uint32_t dim = frame.shape.dim;
    RunRows<RowUse::kWrite>(run, frame.rows(), dim, x, [=] KVASIR_HD(uint64_t row, float* at) {
      const float scale = a.by_row != 0 ? Float16ToFloat(Load16(section + 2 * row)) : 1.0f;
      for (uint32_t c = 0; c < dim; ++c) {
        const uint8_t code = codes[row * dim + c];
        at[c] = (a.wide != 0 ? Float8E5M2ToFloat(code) : Float8E4M3ToFloat(code)) * scale;
      }
    });
  }

 private:
  static constexpr std::string_view kFormats[] = {"e4m3", "e5m2"};
  static constexpr std::string_view kScales[] = {"one", "row"};
};

}  // namespace kvasir
