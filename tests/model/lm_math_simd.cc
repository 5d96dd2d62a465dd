// SPDX-License-Identifier: Apache-2.0
// The bodies of lm_math.h. Compiled once per instruction set (tests/model/CMakeLists.txt) with KVASIR_MATH_BODY naming
// the table it defines. Calls no inline function of another header: the linker could keep a copy that this CPU cannot
// run.
#include <cstddef>
#include <cstdint>

#include "tests/model/lm_math.h"

namespace kvasir::model {
namespace {

#if defined(__AVX512F__)
constexpr size_t kWidth = 16, kTileRows = 8;
#elif defined(__AVX2__)
constexpr size_t kWidth = 8, kTileRows = 4;
#else
constexpr size_t kWidth = 4, kTileRows = 4;
#endif
constexpr size_t kTileColumns = 2 * kWidth;
constexpr size_t kParts = kLanes / kWidth;  ///< vectors that hold the lanes of one row reduction
static_assert(kPanel % kTileColumns == 0);

typedef float Vec __attribute__((vector_size(kWidth * 4)));
typedef uint32_t Bits __attribute__((vector_size(kWidth * 4)));

inline Vec Load(const float* from) {
  Vec v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
inline void Store(float* to, Vec v) { __builtin_memcpy(to, &v, sizeof v); }
inline Vec Fill(float value) { return Vec{} + value; }

template <size_t kRows>
inline void Tile(const Products& p, size_t row, size_t column) {
  const float* x = p.x + row * p.x_stride;
  const float* w = p.w + column;
  float* out = p.out + row * p.out_stride + column;
  Vec low[kRows], high[kRows];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
    low[r] = Load(out + r * p.out_stride);
    high[r] = Load(out + r * p.out_stride + kWidth);
  }
  for (size_t k = 0; k < p.depth; ++k) {
    const Vec w_low = Load(w + k * p.w_stride), w_high = Load(w + k * p.w_stride + kWidth);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const Vec value = Fill(x[r * p.x_stride + k]);
      low[r] += value * w_low;
      high[r] += value * w_high;
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
    Store(out + r * p.out_stride, low[r]);
    Store(out + r * p.out_stride + kWidth, high[r]);
  }
}

void AddProducts(const Products& p) {
  size_t row = 0;
  for (; row + kTileRows <= p.rows; row += kTileRows) {
    for (size_t column = 0; column < kPanel; column += kTileColumns) Tile<kTileRows>(p, row, column);
  }
  for (; row + 2 <= p.rows; row += 2) {
    for (size_t column = 0; column < kPanel; column += kTileColumns) Tile<2>(p, row, column);
  }
  for (; row < p.rows; ++row) {
    for (size_t column = 0; column < kPanel; column += kTileColumns) Tile<1>(p, row, column);
  }
}

/// e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln 2 / 2: Cephes' polynomial; ln 2 in two parts, n times the first is
/// exact.
inline Vec Exp(Vec x) {
  const Vec top = Fill(88.0f);
  const Vec from = x > top ? top : x;
  const Vec rounder = Fill(12582912.0f);  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
  const Vec shifted = from * 1.44269504088896341f + rounder;
  const Vec n = shifted - rounder;
  const Vec r = (from - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec y = r * 1.9875691500e-4f + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  Bits exponent;
  __builtin_memcpy(&exponent, &shifted, sizeof exponent);
  exponent = (exponent - 0x4B400000u + 127u) << 23;
  Vec scale;
  __builtin_memcpy(&scale, &exponent, sizeof scale);
  return x < Fill(-87.0f) ? Vec{} : y * scale;
}

void Exponential(float* values, size_t count) {
  for (size_t i = 0; i < count; i += kWidth) Store(values + i, Exp(Load(values + i)));
}

/// Folds 16 lanes: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
inline float SumOfLanes(const Vec (&parts)[kParts]) {
  float lane[kLanes];
  for (size_t i = 0; i < kParts; ++i) Store(lane + i * kWidth, parts[i]);
  for (size_t half = kLanes / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; ++i) lane[i] += lane[i + half];
  }
  return lane[0];
}

inline float MaxOf(const float* values, size_t padded) {
  Vec best = Load(values);
  for (size_t i = kWidth; i < padded; i += kWidth) {
    const Vec v = Load(values + i);
    best = v > best ? v : best;
  }
  float lane[kWidth];
  Store(lane, best);
  float max = lane[0];
  for (size_t i = 1; i < kWidth; ++i) max = lane[i] > max ? lane[i] : max;
  return max;
}

float Softmax(float* scores, size_t count) {
  const size_t padded = (count + kLanes - 1) / kLanes * kLanes;
  for (size_t i = count; i < padded; ++i) scores[i] = -__builtin_inff();
  const Vec max = Fill(MaxOf(scores, padded));
  Vec sum[kParts] = {};
  for (size_t i = 0; i < padded; i += kLanes) {
    for (size_t part = 0; part < kParts; ++part) {
      float* at = scores + i + part * kWidth;
      const Vec e = Exp(Load(at) - max);
      Store(at, e);
      sum[part] += e;
    }
  }
  return SumOfLanes(sum);
}

void RmsNorm(const float* x, const float* weight, float epsilon, float* out, size_t count) {
  Vec sum[kParts] = {};
  for (size_t i = 0; i < count; i += kLanes) {
    for (size_t part = 0; part < kParts; ++part) {
      const Vec v = Load(x + i + part * kWidth);
      sum[part] += v * v;
    }
  }
  const float mean = SumOfLanes(sum) / static_cast<float>(count);
  const float scale = 1.0f / __builtin_sqrtf(mean + epsilon);
  for (size_t i = 0; i < count; i += kWidth) Store(out + i, Load(x + i) * scale * Load(weight + i));
}

void Gate(float* gate, const float* up, size_t count) {
  for (size_t i = 0; i < count; i += kWidth) {
    const Vec g = Load(gate + i);
    Store(gate + i, g / (1.0f + Exp(-g)) * Load(up + i));
  }
}

}  // namespace

extern const Math KVASIR_MATH_BODY;
const Math KVASIR_MATH_BODY = {KVASIR_MATH_NAME, AddProducts, Exponential, Softmax, RmsNorm, Gate};

}  // namespace kvasir::model
