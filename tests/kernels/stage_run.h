// SPDX-License-Identifier: Apache-2.0
// What the tests of single stages share: rows of floats of chosen character, and a stage run on them as a chain would.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/chain.h"
#include "tests/kernels/frames.h"

namespace kvasir::testing {

struct TestRun {
  template <class Body>
  void operator()(uint64_t items, const Body& body) {
    for (uint64_t i = items; i-- > 0;) body(i);  // the order is not a stage's to choose
  }
};

inline std::vector<float> MakeRows(const FrameShape& shape, Fill fill, std::mt19937_64& rng) {
  FrameShape floats = shape;
  floats.element = ElementType::kFloat32;
  const auto dense = MakeFrame(floats, fill, rng);
  std::vector<float> rows(shape.elements());
  for (uint64_t i = 0; i < rows.size(); ++i) {
    rows[i] = ChainInput(LoadElement(ElementType::kFloat32, reinterpret_cast<const uint8_t*>(dense.data()) + 4 * i));
  }
  return rows;
}

/// One stage with what a chain gives it.
template <class S>
struct StageUnderTest {
  typename S::Args args;
  FrameShape shape;
  FrameInputs inputs{};
  std::vector<uint8_t> section = std::vector<uint8_t>(S::SectionBytes(args, shape));
  std::vector<uint8_t> codes = std::vector<uint8_t>(shape.elements());
  std::vector<float> spare = std::vector<float>(Spare());
  ChainOutcome outcome{};

  uint64_t Spare() const {
    if constexpr (requires { S::SpareFloats(args, shape); }) return S::SpareFloats(args, shape);
    return 0;
  }
  ChainFrame Frame(uint32_t missing_bits = 0) {
    ChainFrame frame{shape, spare.data(), &outcome, inputs};
    frame.missing_bits = missing_bits;
    return frame;
  }
  std::vector<float> Forward(std::vector<float> x) {
    TestRun run;
    S::Forward(run, args, Frame(), x.data(), section.data());
    return x;
  }
  std::vector<float> Inverse(std::vector<float> x) {
    TestRun run;
    S::Inverse(run, args, Frame(), section.data(), x.data());
    return x;
  }
  void Quantise(const std::vector<float>& x) {
    TestRun run;
    S::Quantise(run, args, Frame(), x.data(), section.data(), codes.data());
  }
  std::vector<float> Dequantise(uint32_t missing_bits = 0) {
    TestRun run;
    std::vector<float> x(shape.elements());
    S::Dequantise(run, args, Frame(missing_bits), section.data(), codes.data(), x.data());
    return x;
  }
};

inline double SumOfSquares(std::span<const float> x) {
  double sum = 0;
  for (const float v : x) sum += double{v} * v;
  return sum;
}

/// Sum of squared differences.
inline double Loss(std::span<const float> x, std::span<const float> y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
  return sum;
}

/// A double to fp16 and back, to nearest.
inline double Half(double x) { return Float16ToFloat(SaturatedFloat16(static_cast<float>(x))); }

}  // namespace kvasir::testing
