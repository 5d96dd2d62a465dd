// SPDX-License-Identifier: Apache-2.0
// Goal: a chain of stages is what its stages say, and nothing else. Method: a chain around Q:int whose transform does
// nothing gives the bytes of Q:int alone; the reach of every stage is checked against arithmetic in double.
#include "kernels/chain.h"

#include <cmath>

#include "gtest/gtest.h"
#include "tests/kernels/frames.h"

namespace kvasir {
namespace {

using testing::Decoded;
using testing::Encoded;
using testing::Fill;
using testing::MakeFrame;
using testing::MustParse;

std::vector<double> Values(const FrameShape& shape, std::span<const std::byte> dense) {
  std::vector<double> values(shape.elements());
  const uint32_t size = ElementBytes(shape.element);
  for (uint64_t i = 0; i < values.size(); ++i) {
    values[i] = LoadElement(shape.element, reinterpret_cast<const uint8_t*>(dense.data()) + i * size);
  }
  return values;
}

TEST(Chain, AroundIntIsInt) {
  auto rng = testing::Rng(40);
  for (const char* spec : {"int(8,tok)", "int(4,chan,32)", "int(3,tok,64,sym)", "int(2,chan,7)"}) {
    const auto alone = MustParse(spec);
    const auto chain = MustParse(std::string("had(1,0)|") + spec);
    for (FrameShape shape : {FrameShape{1, 40, 64}, FrameShape{2, 33, 80}, FrameShape{1, 3, 7}}) {
      for (const ElementType element : testing::kAllElements) {
        shape.element = element;
        const auto dense = MakeFrame(shape, testing::kAllFills[rng() % 7], rng);
        const auto frame = Encoded(*alone, KvTensor::kKey, shape, dense);
        ASSERT_EQ(frame, Encoded(*chain, KvTensor::kKey, shape, dense)) << spec;
        ASSERT_EQ(*Decoded(*alone, KvTensor::kKey, shape, frame), *Decoded(*chain, KvTensor::kKey, shape, frame))
            << spec;
      }
    }
  }
}

TEST(Chain, EveryCodeWidthPacks) {
  auto rng = testing::Rng(41);
  for (uint32_t bits = 1; bits <= 8; ++bits) {
    for (const uint32_t count : {1u, 7u, 8u, 33u, 128u}) {
      std::vector<uint8_t> codes(count), back(count);
      for (uint8_t& code : codes) code = static_cast<uint8_t>(rng() & ((1u << bits) - 1));
      std::vector<uint8_t> row(PackedRowBytes(bits, count));
      PackRow(bits, codes.data(), count, row.data());
      UnpackRow(bits, row.data(), count, back.data());
      EXPECT_EQ(codes, back) << bits << " bits, " << count;
      if (count == 128) {
        EXPECT_EQ(row.size(), bits * 16u);
      }
    }
  }
}

TEST(Hadamard, IsTheMatrixAndItsOwnInverse) {
  auto rng = testing::Rng(42);
  std::normal_distribution<float> normal;
  for (const uint32_t width : {1u, 2u, 8u, 64u, 128u}) {
    std::vector<float> x(width);
    for (float& v : x) v = normal(rng);
    std::vector<float> y = x;
    HadStage::Transform(y.data(), width);
    for (uint32_t i = 0; i < width; ++i) {
      double sum = 0;
      for (uint32_t j = 0; j < width; ++j) sum += (__builtin_popcount(i & j) % 2 == 0 ? 1 : -1) * double{x[j]};
      EXPECT_NEAR(y[i], sum / std::sqrt(width), 1e-5) << width;
    }
    HadStage::Transform(y.data(), width);
    for (uint32_t i = 0; i < width; ++i) EXPECT_NEAR(y[i], x[i], 1e-5) << width;
  }
}

TEST(Hadamard, SpreadsOutliersSoThatOneScaleFitsARow) {
  auto rng = testing::Rng(43);
  const FrameShape shape{1, 64, 128};
  const auto dense = MakeFrame(shape, Fill::kOutlierChannels, rng);
  const auto error = [&](const char* spec) {
    const auto codec = MustParse(spec);
    const auto back =
        Values(shape, *Decoded(*codec, KvTensor::kKey, shape, Encoded(*codec, KvTensor::kKey, shape, dense)));
    const auto want = Values(shape, dense);
    double sum = 0;
    for (size_t i = 0; i < want.size(); ++i) sum += (back[i] - want[i]) * (back[i] - want[i]);
    return sum;
  };
  EXPECT_LT(error("had|int(4,tok)"), 0.25 * error("int(4,tok)"));
}

TEST(LloydMax, DistortionIsTheTextbooks) {
  auto rng = testing::Rng(44);
  const FrameShape shape{1, 2048, 128, ElementType::kFloat32};
  const auto dense = MakeFrame(shape, Fill::kGaussian, rng);
  const auto want = Values(shape, dense);
  for (const auto& [bits, distortion] : {std::pair{2, 0.1175}, {3, 0.03454}, {4, 0.009497}}) {
    const auto codec = MustParse("lm(" + std::to_string(bits) + ")");
    EXPECT_EQ(codec->BitsPerValue(KvTensor::kKey, shape), bits + 0.125);
    const auto frame = Encoded(*codec, KvTensor::kKey, shape, dense);
    const auto back = Values(shape, *Decoded(*codec, KvTensor::kKey, shape, frame));
    double sum = 0;
    for (uint32_t row = 0; row < shape.tokens; ++row) {
      double norm = 0, kept = 0;
      for (uint32_t c = 0; c < shape.dim; ++c) {
        const double x = want[row * shape.dim + c], y = back[row * shape.dim + c];
        norm += x * x;
        kept += y * y;
        sum += (x - y) * (x - y);
      }
      EXPECT_NEAR(kept, norm, 2e-3 * norm) << "the decoded row has the norm of the row";
    }
    // Keeping the norm costs a little over the textbook's distortion, more at few bits.
    EXPECT_NEAR(sum / static_cast<double>(want.size()), distortion, 0.12 * distortion) << bits;
  }
}

}  // namespace
}  // namespace kvasir
