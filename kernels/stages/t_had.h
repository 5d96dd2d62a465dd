// SPDX-License-Identifier: Apache-2.0
// T:had. Walsh-Hadamard transform of every row, after random signs: spreads outlier channels over all channels, so that
// one scale fits a row (QuaRot, arXiv 2404.00456; randomised as in QuIP#, arXiv 2402.04396).
//
//   y = H (s * x) / sqrt(w)      H_ij = (-1)^popcount(i & j), s_j = +-1 from the seed, w = width
// on each `width` neighbouring channels. H is its own inverse but for the factor: x = s * (H y / sqrt(w)).
// The sums are the log2(w) rounds of the fast transform, (a, b) -> (a + b, a - b) at distance 1, 2, 4, ...; then one
// product with 1 / sqrt(w) rounded to float.
#pragma once

#include "kernels/stages/stage.h"

namespace kvasir {

struct HadStage {
  struct Args {
    uint32_t width = 0;  ///< a power of two; 0 = the greatest that divides dim
    uint32_t seed = 1;   ///< of the signs
  };
  static constexpr StageRole kRole = StageRole::kTransform;
  static constexpr StageInfo kInfo = {"T", "had", "had[(width[,seed])]",
                                      "Walsh-Hadamard transform of neighbouring channels after random signs: spreads "
                                      "outliers (QuaRot, arXiv 2404.00456)"};
  static constexpr uint32_t kWidthMax = 4096;  ///< channels

  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 2); !counted.ok()) return counted.error();
    const Result<uint32_t> width = in.Number(0, 0, 0, kWidthMax, "width, a power of two, 0 for the greatest possible");
    if (!width.ok()) return width.error();
    if ((*width & (*width - 1)) != 0) return in.Refuse(0, "width, a power of two, 0 for the greatest possible");
    const Result<uint32_t> seed = in.Number(1, 1, 0, 0xFFFFFFFF, "seed of the signs");
    if (!seed.ok()) return seed.error();
    return Args{*width, *seed};
  }
  static std::string Print(const Args& a) { return std::to_string(a.width) + "," + std::to_string(a.seed); }
  static Result<bool> Check(const Args& a, const FrameShape& shape) {
    if (a.width == 0 || shape.dim % a.width == 0) return true;
    return Error{ErrorCode::kInvalidArgument, "T:had: width " + std::to_string(a.width) + " does not divide head_dim " +
                                                  std::to_string(shape.dim) + "; use had(0)"};
  }

  KVASIR_HD static uint64_t SectionBytes(const Args&, const FrameShape&) { return 0; }
  KVASIR_HD static uint32_t Width(const Args& a, uint32_t dim) {
    const uint32_t even = dim & (~dim + 1);  // the greatest power of two in it
    return a.width != 0 ? a.width : even < kWidthMax ? even : kWidthMax;
  }
  /// Sign of channel `c`: 0 or the sign bit.
  KVASIR_HD static uint32_t Sign(uint32_t seed, uint32_t c) {
    uint32_t h = (c + 1) * 0x9E3779B1u ^ seed * 0x85EBCA6Bu;
    h ^= h >> 16;
    h *= 0x7FEB352Du;
    h ^= h >> 15;
    return seed == 0 ? 0 : (h & 1) << 31;
  }
  KVASIR_HD static float InverseRoot(uint32_t width) {
    uint32_t log2 = 0;
    while ((1u << log2) < width) ++log2;
    const float even = 1.0f / static_cast<float>(1u << (log2 / 2));
    return (log2 & 1) == 0 ? even : even * 0.70710678f;
  }
  KVASIR_HD static void Transform(float* x, uint32_t width) {
    for (uint32_t distance = 1; distance < width; distance *= 2) {
      for (uint32_t i = 0; i < width; i += 2 * distance) {
        for (uint32_t j = i; j < i + distance; ++j) {
          const float a = x[j], b = x[j + distance];
          x[j] = a + b;
          x[j + distance] = a - b;
        }
      }
    }
    const float root = InverseRoot(width);
    for (uint32_t j = 0; j < width; ++j) x[j] *= root;
  }

  template <class Run>
  static void Forward(Run& run, const Args& a, const ChainFrame& frame, float* x, uint8_t*) {
    const uint32_t dim = frame.shape.dim, width = Width(a, dim), seed = a.seed;
    RunRows<RowUse::kChange>(run, frame.shape.elements() / width, width, x, [=] KVASIR_HD(uint64_t block, float* at) {
      const uint32_t first = static_cast<uint32_t>(block * width % dim);
      for (uint32_t j = 0; j < width; ++j) at[j] = FloatOfBits(BitsOfFloat(at[j]) ^ Sign(seed, first + j));
      Transform(at, width);
    });
  }
  template <class Run>
  static void Inverse(Run& run, const Args& a, const ChainFrame& frame, const uint8_t*, float* x) {
    const uint32_t dim = frame.shape.dim, width = Width(a, dim), seed = a.seed;
    RunRows<RowUse::kChange>(run, frame.shape.elements() / width, width, x, [=] KVASIR_HD(uint64_t block, float* at) {
      const uint32_t first = static_cast<uint32_t>(block * width % dim);
      Transform(at, width);
      for (uint32_t j = 0; j < width; ++j) at[j] = FloatOfBits(BitsOfFloat(at[j]) ^ Sign(seed, first + j));
    });
  }
};

}  // namespace kvasir
