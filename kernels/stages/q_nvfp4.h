// SPDX-License-Identifier: Apache-2.0
// Q:nvfp4. Four-bit floats in blocks of 16 channels: E2M1 codes, an E4M3 scale a block, an fp32 scale a head (NVIDIA's
// NVFP4; the element format is OCP MX FP4).
//
//   S = max|x| of the head / (448 * 6);  s = max|x| of the block / 6 / S, rounded to E4M3
//   code = x / (s * S) rounded to {0, .5, 1, 1.5, 2, 3, 4, 6}, ties to even, beyond 6 that;  x^ = value(code) * (s * S)
// Section: S fp32 [heads] | s E4M3 [heads][tokens][ceil(dim / 16)].
#pragma once

#include "kernels/number_formats.h"
#include "kernels/stages/stage.h"

namespace kvasir {

struct Nvfp4Stage {
  struct Args {};
  static constexpr uint32_t kBlock = 16;  ///< channels
  static constexpr StageRole kRole = StageRole::kQuantiser;
  static constexpr StageInfo kInfo = {
      "Q", "nvfp4", "nvfp4", "Four-bit floats E2M1, an E4M3 scale for 16 channels, an fp32 scale a head (NVFP4)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
    return Args{};
  }
  static std::string Print(const Args&) { return ""; }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint32_t CodeBits(const Args&) { return 4; }
  KVASIR_HD static uint32_t Blocks(uint32_t dim) { return (dim + kBlock - 1) / kBlock; }
  KVASIR_HD static uint64_t SectionBytes(const Args&, const FrameShape& s) {
    return uint64_t{s.heads} * (4 + uint64_t{s.tokens} * Blocks(s.dim));
  }
  KVASIR_HD static uint64_t SpareFloats(const Args&, const FrameShape& s) { return uint64_t{s.heads} * s.tokens; }
  KVASIR_HD static float Magnitude(uint32_t code) {
    return code < 4 ? 0.5f * static_cast<float>(code) : code == 4 ? 2.0f : code == 5 ? 3.0f : code == 6 ? 4.0f : 6.0f;
  }
  KVASIR_HD static float Value(uint8_t code) { return (code & 8) != 0 ? -Magnitude(code & 7) : Magnitude(code & 7); }
  /// A tie goes to the even code.
  KVASIR_HD static uint8_t Code(float x) {
    const float m = fabsf(x);
    uint8_t code = 0;
    for (uint8_t i = 0; i < 7; ++i) {
      const float middle = 0.5f * (Magnitude(i) + Magnitude(i + 1u));
      if ((i & 1) == 0 ? m > middle : m >= middle) code = static_cast<uint8_t>(i + 1);
    }
    return static_cast<uint8_t>(code | (x < 0 ? 8 : 0));
  }
  KVASIR_HD static float LoadFloat(const uint8_t* p) { return LoadElement(ElementType::kFloat32, p); }

  template <class Run>
  static void Quantise(Run& run, const Args&, const ChainFrame& frame, const float* x, uint8_t* section,
                       uint8_t* codes) {
    const uint32_t dim = frame.shape.dim, tokens = frame.shape.tokens, blocks = Blocks(dim);
    float* of_rows = frame.spare;
    RunRows<RowUse::kRead>(run, frame.rows(), dim, x, [=] KVASIR_HD(uint64_t row, const float* in) {
      float greatest = 0;
      for (uint32_t c = 0; c < dim; ++c) greatest = fmaxf(greatest, fabsf(in[c]));
      of_rows[row] = greatest;
    });
    run(frame.shape.heads, [=] KVASIR_HD(uint64_t head) {
      float greatest = 0;
      for (uint32_t t = 0; t < tokens; ++t) greatest = fmaxf(greatest, of_rows[head * tokens + t]);
      const uint32_t scale = BitsOfFloat(greatest / (448.0f * 6.0f));
      Store16(section + 4 * head, scale);
      Store16(section + 4 * head + 2, scale >> 16);
    });
    uint8_t* scales = section + 4 * uint64_t{frame.shape.heads};
    run(frame.rows() * blocks, [=] KVASIR_HD(uint64_t i) {
      const uint64_t row = i / blocks;
      const uint32_t first = static_cast<uint32_t>(i % blocks) * kBlock;
      const uint32_t end = dim - first < kBlock ? dim : first + kBlock;
      const float of_head = LoadFloat(section + 4 * (row / tokens));
      float greatest = 0;
      for (uint32_t c = first; c < end; ++c) greatest = fmaxf(greatest, fabsf(x[row * dim + c]));
      const float wanted = of_head > 0 ? greatest / 6.0f / of_head : 0.0f;
      scales[i] = FloatToFloat8E4M3(fminf(wanted, 448.0f));
      const float scale = Float8E4M3ToFloat(scales[i]) * of_head;
      const float inverse = scale > 0 ? 1.0f / scale : 0.0f;
      for (uint32_t c = first; c < end; ++c) {
        codes[row * dim + c] = inverse < 3.0e38f ? Code(x[row * dim + c] * inverse) : uint8_t{0};
      }
    });
  }
  template <class Run>
  static void Dequantise(Run& run, const Args&, const ChainFrame& frame, const uint8_t* section, const uint8_t* codes,
                         float* x) {
    const uint32_t dim = frame.shape.dim, tokens = frame.shape.tokens, blocks = Blocks(dim);
    const uint8_t* scales = section + 4 * uint64_t{frame.shape.heads};
    RunRows<RowUse::kWrite>(run, frame.rows(), dim, x, [=] KVASIR_HD(uint64_t row, float* at) {
      const float of_head = LoadFloat(section + 4 * (row / tokens));
      for (uint32_t c = 0; c < dim; ++c) {
        const float scale = Float8E4M3ToFloat(scales[row * blocks + c / kBlock]) * of_head;
        at[c] = Value(codes[row * dim + c]) * scale;
      }
    });
  }
};

}  // namespace kvasir
