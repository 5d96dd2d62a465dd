// SPDX-License-Identifier: Apache-2.0
// lm_math.h: the choice of a body at run time, and the rotary table.
#include "tests/model/lm_math.h"

#include <cmath>

namespace kvasir::model {

extern const Math kMathBaseline;
#if defined(__x86_64__)
extern const Math kMathAvx2, kMathAvx512;
#endif

std::span<const Math* const> MathBodies() {
  static const std::vector<const Math*> bodies = [] {
    std::vector<const Math*> found;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) found.push_back(&kMathAvx512);
    if (__builtin_cpu_supports("avx2")) found.push_back(&kMathAvx2);
#endif
    found.push_back(&kMathBaseline);
    return found;
  }();
  return bodies;
}

namespace {

struct CosSin {
  double cosine;
  double sine;
};

/// Quadrants are taken off with pi/2 in two parts (the first has 33 bits, so that n * part is exact below 2^20), the
/// rest is the Taylor series up to pi/4, good to 1e-16.
CosSin CosSinOf(double angle) {
  constexpr double kHalfPiHigh = 1.57079632673412561417e+00, kHalfPiLow = 6.07710050650619224932e-11;
  const double n = std::nearbyint(angle * 0.63661977236758134308);
  const double r = (angle - n * kHalfPiHigh) - n * kHalfPiLow;
  const double r2 = r * r;
  double sine = 0, cosine = 0;
  for (int k = 17; k >= 3; k -= 2) sine = (1.0 + sine) * -r2 / (k * (k - 1));
  for (int k = 18; k >= 2; k -= 2) cosine = (1.0 + cosine) * -r2 / (k * (k - 1));
  sine = r + r * sine;
  cosine = 1.0 + cosine;
  switch (static_cast<int64_t>(n) & 3) {
    case 0:
      return {cosine, sine};
    case 1:
      return {-sine, cosine};
    case 2:
      return {-cosine, -sine};
    default:
      return {sine, -cosine};
  }
}

}  // namespace

RopeTable::RopeTable(size_t positions, size_t dim, double theta)
    : half(dim / 2), cosine(positions * half), sine(positions * half) {
  for (size_t i = 0; i < half; ++i) {
    const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
    for (size_t position = 0; position < positions; ++position) {
      const CosSin at = CosSinOf(static_cast<double>(position) * frequency);
      cosine[position * half + i] = static_cast<float>(at.cosine);
      sine[position * half + i] = static_cast<float>(at.sine);
    }
  }
}

void RopeTable::Rotate(float* head, size_t position) const {
  const float* c = cosine.data() + position * half;
  const float* s = sine.data() + position * half;
  for (size_t i = 0; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * c[i] - b * s[i];
    head[i + half] = b * c[i] + a * s[i];
  }
}

}  // namespace kvasir::model
