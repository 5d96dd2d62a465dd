// SPDX-License-Identifier: Apache-2.0
// The arithmetic of the reference model: few primitives, each with one fixed order of operations.
//
// The same bits everywhere is the point. Every sum of products is taken in index order by one accumulator (SIMD lanes
// hold different outputs, never parts of one sum); every reduction of a row has 16 lanes, lane = index mod 16, folded
// 8, 4, 2, 1. Multiply and add stay two roundings (-ffp-contract=off). So the width of the CPU's vectors, the tile a
// value falls into and the number of threads cannot show in a result.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kvasir::model {

inline constexpr size_t kPanel = 32;  ///< outputs that are computed side by side; matrices and keys are packed so
inline constexpr size_t kLanes = 16;  ///< accumulators of a row reduction

constexpr size_t RoundUp(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

/// out[r][c] += sum over k of x[r][k] * w[k][c], k ascending, for r < rows and c < kPanel. Strides in floats.
/// `out` must overlap neither input.
struct Products {
  const float* x = nullptr;
  size_t x_stride = 0;
  const float* w = nullptr;
  size_t w_stride = 0;
  size_t depth = 0;
  float* out = nullptr;
  size_t out_stride = 0;
  size_t rows = 0;
};

/// One compiled body of the primitives. All bodies give the same bits. No body allocates or keeps state.
struct Math {
  const char* name;  ///< "avx512", "avx2", "baseline"
  void (*add_products)(const Products& products);
  /// values[i] = e^values[i]; 0 below -87, e^88 above 88; NaN stays NaN. `count` a multiple of kLanes.
  void (*exponential)(float* values, size_t count);
  /// scores[i] = e^(scores[i] - max), not divided; returns their sum. Room up to RoundUp(count, kLanes) is needed and
  /// is set to 0 from `count` on. REQUIRES: count > 0.
  float (*softmax)(float* scores, size_t count);
  /// out[i] = x[i] / sqrt(mean(x^2) + epsilon) * weight[i]. `count` a multiple of kLanes.
  void (*rms_norm)(const float* x, const float* weight, float epsilon, float* out, size_t count);
  /// gate[i] = silu(gate[i]) * up[i]. `count` a multiple of kLanes.
  void (*gate)(float* gate, const float* up, size_t count);
};

/// The bodies this CPU can run, fastest first.
std::span<const Math* const> MathBodies();

/// cos and sin of position * theta^(-2i/dim), in double, rounded to float once: [positions][dim / 2] each.
/// Uses no sin or cos of the C library, whose last bit may depend on the CPU.
struct RopeTable {
  RopeTable(size_t positions, size_t dim, double theta);
  size_t half;
  std::vector<float> cosine;
  std::vector<float> sine;
  /// Rotates head[0, 2 half) in place: pair i is (head[i], head[i + half]).
  void Rotate(float* head, size_t position) const;
};

}  // namespace kvasir::model
