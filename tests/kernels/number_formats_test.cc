// SPDX-License-Identifier: Apache-2.0
// Goal: every code of every small format means what the standard says, and rounding is to nearest, ties to even.
// Method: all codes, against values computed in double from sign, exponent and mantissa; between each two neighbours
// the midpoint and the floats beside it.
#include "kernels/number_formats.h"

#include <cmath>
#include <functional>

#include "gtest/gtest.h"
#include "tests/support/seed.h"

namespace kvasir {
namespace {

struct Format {
  const char* name;
  int bits, mantissa, bias;
  bool infinity;
  std::function<float(uint32_t)> to_float;
  std::function<uint32_t(float)> from_float;
};

std::vector<Format> Formats() {
  return {
      {"bf16", 16, 7, 127, true, BFloat16ToFloat, FloatToBFloat16},
      {"fp16", 16, 10, 15, true, Float16ToFloat, FloatToFloat16},
      {"e4m3", 8, 3, 7, false, [](uint32_t c) { return Float8E4M3ToFloat(static_cast<uint8_t>(c)); },
       FloatToFloat8E4M3},
      {"e5m2", 8, 2, 15, true, [](uint32_t c) { return Float8E5M2ToFloat(static_cast<uint8_t>(c)); },
       FloatToFloat8E5M2},
  };
}

/// The value of a code from first principles; infinity and NaN included.
double Meaning(const Format& f, uint32_t code) {
  const uint32_t sign = code >> (f.bits - 1);
  const uint32_t magnitude = code & ((1u << (f.bits - 1)) - 1);
  const uint32_t exponent = magnitude >> f.mantissa;
  const uint32_t mantissa = magnitude & ((1u << f.mantissa) - 1);
  const uint32_t ones = (1u << (f.bits - 1 - f.mantissa)) - 1;
  double value;
  if (f.infinity ? exponent == ones : magnitude == (1u << (f.bits - 1)) - 1) {
    value = f.infinity && mantissa == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    value = std::ldexp(mantissa, 1 - f.bias - f.mantissa);
  } else {
    value = std::ldexp(mantissa + (1u << f.mantissa), static_cast<int>(exponent) - f.bias - f.mantissa);
  }
  return sign != 0 ? -value : value;
}

TEST(NumberFormats, EveryCodeMeansWhatItShouldAndComesBack) {
  for (const Format& f : Formats()) {
    SCOPED_TRACE(f.name);
    for (uint32_t code = 0; code < (1u << f.bits); ++code) {
      const float value = f.to_float(code);
      const double meaning = Meaning(f, code);
      if (std::isnan(meaning)) {
        ASSERT_TRUE(std::isnan(value)) << code;
        ASSERT_TRUE(std::isnan(f.to_float(f.from_float(value)))) << code;
        ASSERT_EQ(f.from_float(value) >> (f.bits - 1), code >> (f.bits - 1)) << "the sign of a NaN, code " << code;
      } else {
        ASSERT_EQ(value, meaning) << code;
        ASSERT_EQ(f.from_float(value), code);
      }
    }
  }
}

TEST(NumberFormats, RoundsToNearestTiesToEven) {
  for (const Format& f : Formats()) {
    SCOPED_TRACE(f.name);
    const uint32_t half_codes = 1u << (f.bits - 1);
    for (uint32_t code = 0; code + 1 < half_codes; ++code) {
      const double low = Meaning(f, code), high = Meaning(f, code + 1);
      if (!std::isfinite(high)) break;
      const float middle = static_cast<float>((low + high) / 2);
      const uint32_t even = (code & 1) == 0 ? code : code + 1;
      if (middle == (low + high) / 2) {
        ASSERT_EQ(f.from_float(middle), even) << code;
        ASSERT_EQ(f.from_float(-middle), even | half_codes) << code;
      }
      ASSERT_EQ(f.from_float(std::nextafter(static_cast<float>((low + high) / 2), 0.0f)), code) << code;
      ASSERT_EQ(f.from_float(std::nextafter(static_cast<float>((low + high) / 2), INFINITY)), code + 1) << code;
    }
  }
}

TEST(NumberFormats, TooLargeBecomesInfinityOrNaN) {
  EXPECT_EQ(FloatToFloat16(65519.99f), 0x7BFF);
  EXPECT_EQ(FloatToFloat16(65520.0f), 0x7C00);
  EXPECT_EQ(FloatToFloat16(-INFINITY), 0xFC00);
  EXPECT_EQ(FloatToBFloat16(3.4e38f), 0x7F80);
  EXPECT_EQ(FloatToFloat8E5M2(61439.0f), 0x7B);
  EXPECT_EQ(FloatToFloat8E5M2(61440.0f), 0x7C);
  EXPECT_EQ(FloatToFloat8E4M3(464.0f), 0x7E);
  EXPECT_EQ(FloatToFloat8E4M3(465.0f), 0x7F);
  EXPECT_EQ(FloatToFloat8E4M3(INFINITY), 0x7F);
  EXPECT_EQ(FloatToFloat8E4M3(-1e30f), 0xFF);
}

TEST(NumberFormats, RandomFloatsRoundToTheNearestCode) {
  auto rng = testing::Rng(1);
  for (const Format& f : Formats()) {
    SCOPED_TRACE(f.name);
    for (int i = 0; i < 200000; ++i) {
      const float value = FloatOfBits(static_cast<uint32_t>(rng()));
      if (!std::isfinite(value)) continue;
      const uint32_t code = f.from_float(value);
      const double got = Meaning(f, code);
      if (!std::isfinite(got)) continue;
      const double error = std::fabs(got - value);
      const bool zero = (code & ((1u << (f.bits - 1)) - 1)) == 0;
      const double below = zero ? got : Meaning(f, code - 1), above = Meaning(f, code + 1);
      ASSERT_LE(error, std::fabs(below - value)) << value;
      ASSERT_TRUE(!std::isfinite(above) || error <= std::fabs(above - value)) << value;
    }
  }
}

TEST(NumberFormats, StoreElementSaturatesAtTheLargestFiniteValue) {
  uint8_t bytes[4];
  for (const ElementType type : {ElementType::kFloat16, ElementType::kFloat8E4M3, ElementType::kFloat8E5M2,
                                 ElementType::kBfloat16, ElementType::kFloat32}) {
    for (const float value : {3.3e38f, -3.3e38f, 1.5f, 0.0f}) {
      StoreElement(type, value, bytes);
      const float back = LoadElement(type, bytes);
      EXPECT_TRUE(std::isfinite(back)) << static_cast<int>(type);
      EXPECT_TRUE(std::fabs(value) > 2 || back == value);
    }
  }
}

}  // namespace
}  // namespace kvasir
