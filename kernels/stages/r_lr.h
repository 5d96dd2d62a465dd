// SPDX-License-Identifier: Apache-2.0
// R:lr. What the quantiser lost, brought back as a product of rank r for each head (GEAR, arXiv 2403.05527).
//
//   E = x - x^ of a head [n x d];  B from +-1 by a hash of its place;  `rounds` times: A = E B, A orthonormal, B = E^T
//   A decode adds A B^T, A and B rounded to fp16
// A is made orthonormal by modified Gram-Schmidt, column after column; a column that depends on those before
// becomes zero. Sums in index order.
// Section: for each head A fp16 [n][r] | B fp16 [d][r].
#pragma once

#include "kernels/number_formats.h"
#include "kernels/stages/stage.h"

namespace kvasir {

struct LrStage {
  struct Args {
    uint32_t rank = 2;
    uint32_t rounds = 3;
  };
  static constexpr StageRole kRole = StageRole::kRepair;
  static constexpr StageInfo kInfo = {
      "R", "lr", "lr(rank[,rounds])",
      "A product of low rank for each head that brings back quantisation error (GEAR, arXiv 2403.05527)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 2); !counted.ok()) return counted.error();
    const Result<uint32_t> rank = in.Number(0, 2, 1, 64, "rank");
    if (!rank.ok()) return rank.error();
    const Result<uint32_t> rounds = in.Number(1, 3, 1, 16, "rounds of power iteration");
    if (!rounds.ok()) return rounds.error();
    return Args{*rank, *rounds};
  }
  static std::string Print(const Args& a) { return std::to_string(a.rank) + "," + std::to_string(a.rounds); }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint64_t HeadFloats(const Args& a, const FrameShape& s) {
    return uint64_t{a.rank} * (uint64_t{s.tokens} + s.dim);
  }
  KVASIR_HD static uint64_t SectionBytes(const Args& a, const FrameShape& s) { return 2 * s.heads * HeadFloats(a, s); }
  KVASIR_HD static uint64_t SpareFloats(const Args& a, const FrameShape& s) { return s.heads * HeadFloats(a, s); }
  /// What is left of a column's square is rounding error: the error has no such rank.
  static constexpr float kRounding = 1e-10f;
  /// Modified Gram-Schmidt on the columns of a [n][rank].
  KVASIR_HD static void Orthonormalise(float* a, uint32_t n, uint32_t rank) {
    for (uint32_t j = 0; j < rank; ++j) {
      float before = 0;
      for (uint32_t i = 0; i < n; ++i) before += a[uint64_t{i} * rank + j] * a[uint64_t{i} * rank + j];
      for (uint32_t k = 0; k < j; ++k) {
        float dot = 0;
        for (uint32_t i = 0; i < n; ++i) dot += a[uint64_t{i} * rank + j] * a[uint64_t{i} * rank + k];
        for (uint32_t i = 0; i < n; ++i) a[uint64_t{i} * rank + j] -= dot * a[uint64_t{i} * rank + k];
      }
      float squares = 0;
      for (uint32_t i = 0; i < n; ++i) squares += a[uint64_t{i} * rank + j] * a[uint64_t{i} * rank + j];
      const float inverse = squares > kRounding * before ? 1.0f / sqrtf(squares) : 0.0f;
      for (uint32_t i = 0; i < n; ++i) a[uint64_t{i} * rank + j] *= inverse;
    }
  }
  KVASIR_HD static float Start(uint64_t place) {
    uint32_t h = static_cast<uint32_t>(place + 1) * 0x9E3779B1u;
    h ^= h >> 15;
    h *= 0x85EBCA6Bu;
    return (h >> 16 & 1) != 0 ? 1.0f : -1.0f;
  }

  template <class Run>
  static void Fit(Run& run, const Args& args, const ChainFrame& frame, float* lost, uint8_t* section) {
    const uint32_t n = frame.shape.tokens, dim = frame.shape.dim, rank = args.rank;
    const uint64_t heads = frame.shape.heads, in_head = HeadFloats(args, frame.shape);
    float* factors = frame.spare;  // of each head A [n][rank] | B [dim][rank]
    run(heads * dim * rank, [=] KVASIR_HD(uint64_t i) {
      factors[i / (uint64_t{dim} * rank) * in_head + uint64_t{n} * rank + i % (uint64_t{dim} * rank)] =
          Start(i % (uint64_t{dim} * rank));
    });
    for (uint32_t round = 0; round < args.rounds; ++round) {
      run(heads * n, [=] KVASIR_HD(uint64_t row) {  // A = E B
        float* a = factors + row / n * in_head + row % n * rank;
        const float* b = factors + row / n * in_head + uint64_t{n} * rank;
        for (uint32_t j = 0; j < rank; ++j) {
          float sum = 0;
          for (uint32_t c = 0; c < dim; ++c) sum += lost[row * dim + c] * b[uint64_t{c} * rank + j];
          a[j] = sum;
        }
      });
      run(heads, [=] KVASIR_HD(uint64_t head) { Orthonormalise(factors + head * in_head, n, rank); });
      run(heads * dim, [=] KVASIR_HD(uint64_t i) {  // B = E^T A
        const float* a = factors + i / dim * in_head;
        float* b = factors + i / dim * in_head + uint64_t{n} * rank + i % dim * rank;
        for (uint32_t j = 0; j < rank; ++j) {
          float sum = 0;
          for (uint32_t t = 0; t < n; ++t) sum += lost[(i / dim * n + t) * dim + i % dim] * a[uint64_t{t} * rank + j];
          b[j] = sum;
        }
      });
    }
    run(heads * in_head, [=] KVASIR_HD(uint64_t i) { Store16(section + 2 * i, SaturatedFloat16(factors[i])); });
  }
  template <class Run>
  static void Add(Run& run, const Args& args, const ChainFrame& frame, const uint8_t* section, float* x) {
    const uint32_t n = frame.shape.tokens, dim = frame.shape.dim, rank = args.rank;
    const uint64_t in_head = HeadFloats(args, frame.shape);
    run(frame.rows(), [=] KVASIR_HD(uint64_t row) {
      const uint8_t* a = section + 2 * (row / n * in_head + row % n * rank);
      const uint8_t* b = section + 2 * (row / n * in_head + uint64_t{n} * rank);
      for (uint32_t c = 0; c < dim; ++c) {
        float sum = 0;
        for (uint32_t j = 0; j < rank; ++j) {
          sum += Float16ToFloat(Load16(a + 2 * j)) * Float16ToFloat(Load16(b + 2 * (uint64_t{c} * rank + j)));
        }
        x[row * dim + c] += sum;
      }
    });
  }
};

}  // namespace kvasir
