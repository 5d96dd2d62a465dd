// SPDX-License-Identifier: Apache-2.0
// Q:ctok. Channel-separable tokenwise integers: every token over its own c_i, then one range per channel for all
// tokens. Costs n + 2d parameters a head instead of 2nd/g (ZipCache, arXiv 2405.14256).
//
// A token's vector is that of one head (head), or of all heads of the frame together (layer): then a frame of h heads
// costs n + 2hd, as in the paper, whose d is that of the whole layer. Frames have as many heads as the parts of the
// view.
//   c_i = sqrt(max_j |x_ij|), rounded to fp16;  y_ij = x_ij * (1 / c_i), 0 where c_i is 0
//   channel j: z_j = min_i y_ij, s_j = (max_i y_ij - z_j) / (2^b - 1), as Q:int asym;  x^_ij = (code * s_j + z_j) * c_i
// Section: c fp16 [heads or 1][tokens] | s fp16 [heads][dim] | z fp16 [heads][dim].
#pragma once

#include "kernels/stages/q_int.h"

namespace kvasir {

struct CtokStage {
  struct Args {
    uint32_t bits = 4;
    uint32_t together = 0;  ///< 1 = one c_i for all heads of the frame
  };
  static constexpr StageRole kRole = StageRole::kQuantiser;
  static constexpr StageInfo kInfo = {
      "Q", "ctok", "ctok(bits[,head|layer])",
      "Integers with one scale a token, of its head or of all heads of the frame, and one range a channel: little "
      "metadata (ZipCache, arXiv 2405.14256)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    const Result<uint32_t> bits = in.Number(0, 4, 1, 8, "bits");
    if (!bits.ok()) return bits.error();
    const Result<uint32_t> together = in.Word(1, 0, {{"head", "layer"}}, "whose scale a token has");
    if (!together.ok()) return together.error();
    return Args{*bits, *together};
  }
  static std::string Print(const Args& a) { return std::to_string(a.bits) + (a.together != 0 ? ",layer" : ""); }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint32_t CodeBits(const Args& a) { return a.bits; }
  /// Token scales of a frame.
  KVASIR_HD static uint64_t Scales(const Args& a, const FrameShape& s) {
    return (a.together != 0 ? 1 : uint64_t{s.heads}) * s.tokens;
  }
  KVASIR_HD static uint64_t SectionBytes(const Args& a, const FrameShape& s) {
    return 2 * (Scales(a, s) + 2 * uint64_t{s.heads} * s.dim);
  }
  KVASIR_HD static uint64_t SpareFloats(const Args&, const FrameShape& s) { return s.elements(); }

  template <class Run>
  static void Quantise(Run& run, const Args& a, const ChainFrame& frame, const float* x, uint8_t* section,
                       uint8_t* codes) {
    const uint32_t dim = frame.shape.dim, tokens = frame.shape.tokens;
    const uint64_t rows = frame.rows(), channels = uint64_t{frame.shape.heads} * dim,
                   of_tokens = Scales(a, frame.shape);
    const IntSpec spec{a.bits, true, 0, false};
    float* y = frame.spare;
    run(of_tokens, [=] KVASIR_HD(uint64_t i) {  // its rows: i, and where heads share, i + tokens, i + 2 tokens, ...
      float greatest = 0;
      for (uint64_t row = i; row < rows; row += of_tokens) {
        for (uint32_t c = 0; c < dim; ++c) greatest = fmaxf(greatest, fabsf(x[row * dim + c]));
      }
      const uint16_t scale = SaturatedFloat16(sqrtf(greatest));
      Store16(section + 2 * i, scale);
      const float inverse = Float16ToFloat(scale) > 0 ? 1.0f / Float16ToFloat(scale) : 0.0f;
      for (uint64_t row = i; row < rows; row += of_tokens) {
        for (uint32_t c = 0; c < dim; ++c) y[row * dim + c] = x[row * dim + c] * inverse;
      }
    });
    uint8_t* scales = section + 2 * of_tokens;
    uint8_t* zeros = scales + 2 * channels;
    run(channels, [=] KVASIR_HD(uint64_t i) {
      const uint64_t at = i / dim * tokens * dim + i % dim;
      const IntParameters p = EncodeIntGroup(spec, ElementType::kFloat32, reinterpret_cast<const uint8_t*>(y + at),
                                             dim * sizeof(float), tokens, codes + at, dim);
      Store16(scales + 2 * i, p.scale16);
      Store16(zeros + 2 * i, p.zero16);
    });
  }
  template <class Run>
  static void Dequantise(Run& run, const Args& a, const ChainFrame& frame, const uint8_t* section, const uint8_t* codes,
                         float* x) {
    const uint32_t dim = frame.shape.dim, tokens = frame.shape.tokens;
    const IntSpec spec{a.bits, true, 0, false};
    const uint64_t of_tokens = Scales(a, frame.shape);
    const uint8_t* scales = section + 2 * of_tokens;
    const uint8_t* zeros = scales + 2 * uint64_t{frame.shape.heads} * dim;
    run(frame.rows(), [=] KVASIR_HD(uint64_t row) {
      const float of_token = Float16ToFloat(Load16(section + 2 * (row % of_tokens)));
      const uint64_t first = 2 * (row / tokens * dim);
      for (uint32_t c = 0; c < dim; ++c) {
        const float y = IntValue(spec, codes[row * dim + c], Float16ToFloat(Load16(scales + first + 2 * c)),
                                 Float16ToFloat(Load16(zeros + first + 2 * c)));
        x[row * dim + c] = y * of_token;
      }
    });
  }
};

}  // namespace kvasir
