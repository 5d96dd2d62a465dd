// SPDX-License-Identifier: Apache-2.0
// Goal: every quantiser is what its paper says: codes and parameters against independent arithmetic in double, its loss
// against its step, the bits it states against the bytes it writes.
#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"
#include "tests/kernels/stage_run.h"

namespace kvasir {
namespace {

using testing::Fill;
using testing::Half;
using testing::MakeRows;
using testing::MustParse;
using testing::StageUnderTest;

/// At least 99.99 % of the codes are as the reference says, none is off by more than one.
void ExpectCodes(const std::vector<uint8_t>& codes, const std::vector<int>& reference) {
  size_t different = 0;
  for (size_t i = 0; i < codes.size(); ++i) {
    ASSERT_LE(std::abs(codes[i] - reference[i]), 1) << i;
    different += codes[i] != reference[i] ? 1 : 0;
  }
  EXPECT_LE(static_cast<double>(different), 1e-4 * static_cast<double>(codes.size()) + 1);
}

TEST(ChannelSeparable, CodesAndMetadataAreZipCaches) {
  auto rng = testing::Rng(60);
  const FrameShape shape{2, 96, 64};
  for (const uint32_t bits : {2u, 4u}) {
    StageUnderTest<CtokStage> stage{{bits}, shape};
    const auto x = MakeRows(shape, Fill::kOutlierChannels, rng);
    stage.Quantise(x);
    std::vector<double> c(192), y(x.size());
    for (size_t row = 0; row < 192; ++row) {
      double greatest = 0;
      for (size_t j = 0; j < 64; ++j) greatest = std::max(greatest, std::fabs(double{x[row * 64 + j]}));
      c[row] = Half(std::sqrt(greatest));
      for (size_t j = 0; j < 64; ++j) y[row * 64 + j] = x[row * 64 + j] / c[row];
    }
    std::vector<int> reference(x.size());
    for (size_t head = 0; head < 2; ++head) {
      for (size_t j = 0; j < 64; ++j) {
        double least = 1e9, greatest = -1e9;
        for (size_t t = 0; t < 96; ++t) {
          least = std::min(least, y[(head * 96 + t) * 64 + j]);
          greatest = std::max(greatest, y[(head * 96 + t) * 64 + j]);
        }
        const double z = Float16ToFloat(Float16Below(static_cast<float>(least)));
        const double s = Float16ToFloat(Float16Above(static_cast<float>((greatest - z) / ((1 << bits) - 1))));
        for (size_t t = 0; t < 96; ++t) {
          reference[(head * 96 + t) * 64 + j] = static_cast<int>(std::nearbyint((y[(head * 96 + t) * 64 + j] - z) / s));
        }
      }
    }
    ExpectCodes(stage.codes, reference);
  }
}

// n + 2hd parameters where heads share a token's scale, h (n + 2d) where not, 2nhd/g of groups (KIVI): for g = 32
TEST(ChannelSeparable, HeadsThatShareAScale) {
  auto rng = testing::Rng(66);
  const FrameShape shape{3, 40, 16};
  StageUnderTest<CtokStage> stage{{4, 1}, shape};
  ASSERT_EQ(stage.section.size(), 2 * (40 + 2 * 3 * 16));
  const auto x = MakeRows(shape, Fill::kOutlierChannels, rng);
  stage.Quantise(x);
  for (size_t t = 0; t < 40; ++t) {
    double greatest = 0;
    for (size_t i = 0; i < 3 * 16; ++i)
      greatest = std::max(greatest, std::fabs(double{x[(i / 16 * 40 + t) * 16 + i % 16]}));
    EXPECT_EQ(Float16ToFloat(Load16(&stage.section[2 * t])), Half(std::sqrt(greatest))) << t;
  }
  const auto back = stage.Dequantise();
  for (size_t i = 0; i < x.size();
       ++i) {  // half a step of its channel, times its token's scale; and the roundings of fp16
    const double c = Float16ToFloat(Load16(&stage.section[2 * (i / 16 % 40)]));
    const double s = Float16ToFloat(Load16(&stage.section[2 * (40 + i / 16 / 40 * 16 + i % 16)]));
    ASSERT_LE(std::fabs(double{back[i]} - x[i]), 0.501 * s * c + 1e-3) << i;
  }
  const auto ratio = [](uint32_t heads, uint32_t tokens, uint32_t together) {
    const FrameShape block{heads, tokens, 128};
    return static_cast<double>(CtokStage::SectionBytes({4, together}, block)) /
           static_cast<double>(IntStage::SectionBytes({4, false, 32, false}, block));
  };
  EXPECT_EQ(ratio(8, 256, 0), 32.0 / 256 + 16.0 / 128);
  EXPECT_EQ(ratio(8, 256, 1), 32.0 / 256 + 16.0 / 1024);
  EXPECT_LE(ratio(8, 1024, 1), 2.0 / 32);
}

TEST(Fp8, IsTheFormatsRounding) {
  auto rng = testing::Rng(61);
  const FrameShape shape{1, 64, 80};
  for (const uint32_t wide : {0u, 1u}) {
    const double largest = wide != 0 ? 57344 : 448, mantissa = wide != 0 ? 2 : 3, least = wide != 0 ? -14 : -6;
    for (const uint32_t by_row : {0u, 1u}) {
      StageUnderTest<Fp8Stage> stage{{wide, by_row}, shape};
      const auto x = MakeRows(shape, Fill::kGaussian, rng);
      stage.Quantise(x);
      const auto back = stage.Dequantise();
      for (size_t i = 0; i < x.size(); ++i) {
        double scale = 1;
        if (by_row != 0) {
          double greatest = 0;
          for (size_t c = 0; c < 80; ++c) greatest = std::max(greatest, std::fabs(double{x[i / 80 * 80 + c]}));
          scale = Float16ToFloat(Float16Above(static_cast<float>(greatest / largest)));
        }
        const double v = x[i] / scale;
        const double step = std::exp2(std::max(std::floor(std::log2(std::fabs(v) + 1e-300)), least) - mantissa);
        EXPECT_NEAR(back[i] / scale, v, 0.5001 * step) << "half a step of the format";
      }
      EXPECT_EQ(MustParse("fp8(e4m3,one)")->BitsPerValue(KvTensor::kKey, {1, 256, 128}), 8.0);
      EXPECT_EQ(MustParse("fp8(e4m3,row)")->BitsPerValue(KvTensor::kKey, {1, 256, 128}), 8.125);
    }
  }
}

TEST(Nvfp4, CodesAreTheNearestOfE2M1) {
  auto rng = testing::Rng(62);
  const double levels[] = {0, .5, 1, 1.5, 2, 3, 4, 6};
  for (const FrameShape& shape : {FrameShape{2, 32, 64}, FrameShape{1, 5, 33}}) {
    StageUnderTest<Nvfp4Stage> stage{{}, shape};
    const auto x = MakeRows(shape, Fill::kOutlierChannels, rng);
    stage.Quantise(x);
    const auto back = stage.Dequantise();
    const uint32_t blocks = Nvfp4Stage::Blocks(shape.dim);
    for (size_t i = 0; i < x.size(); ++i) {
      const size_t row = i / shape.dim, head = row / shape.tokens;
      const double of_head = Nvfp4Stage::LoadFloat(&stage.section[4 * head]);
      const double of_block =
          Float8E4M3ToFloat(stage.section[4 * shape.heads + row * blocks + i % shape.dim / 16]) * of_head;
      double best = 1e300;
      for (const double level : levels) {
        for (const double sign : {-1.0, 1.0}) best = std::min(best, std::fabs(sign * level * of_block - x[i]));
      }
      EXPECT_NEAR(std::fabs(back[i] - x[i]), best, 1e-5 * std::fabs(x[i]) + 1e-9) << i;
    }
  }
  for (uint8_t code = 0; code < 16; ++code) EXPECT_EQ(Nvfp4Stage::Code(Nvfp4Stage::Value(code)) & 7, code & 7);
  EXPECT_EQ(Nvfp4Stage::Code(0.25f), 0) << "a tie takes the even code";
  EXPECT_EQ(Nvfp4Stage::Code(0.75f), 2);
  EXPECT_EQ(Nvfp4Stage::Code(5.0f), 6);
  EXPECT_NEAR(MustParse("nvfp4")->BitsPerValue(KvTensor::kKey, {1, 256, 128}), 4.5, 1e-3);
}

TEST(Hierarchy, TheUpperPlaneIsACodeOfItsOwn) {
  auto rng = testing::Rng(63);
  const FrameShape shape{1, 64, 64};
  const auto dense = testing::MakeFrame(shape, Fill::kGaussian, rng);
  const auto whole = MustParse("int(8,tok)"), planes = MustParse("hier(4+4,tok)|planes");
  EXPECT_EQ(planes->spec(), "Q:hier(4+4,tok,0)|X:planes");
  const auto frame = testing::Encoded(*planes, KvTensor::kKey, shape, dense);
  // Both planes are INT8 exactly.
  EXPECT_EQ(*testing::Decoded(*planes, KvTensor::kKey, shape, frame),
            *testing::Decoded(*whole, KvTensor::kKey, shape, testing::Encoded(*whole, KvTensor::kKey, shape, dense)));
  // The upper plane alone is an INT4 block of 16 times the scale, half a step up.
  const uint64_t upper = planes->PlaneEnd(KvTensor::kKey, shape, 0);
  EXPECT_EQ(planes->planes(), 2u);
  EXPECT_EQ(planes->PlaneEnd(KvTensor::kKey, shape, 1), frame.size());
  EXPECT_EQ(upper, 64u * 4 + 64 * 32);
  const auto draft = testing::Decoded(*planes, KvTensor::kKey, shape, std::span(frame).first(upper));
  ASSERT_TRUE(draft.ok());
  StageUnderTest<IntStage> reference{{8, false, 0, false}, shape};
  std::vector<float> x(shape.elements());
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = LoadElement(shape.element, reinterpret_cast<const uint8_t*>(dense.data()) + 2 * i);
  }
  reference.Quantise(x);
  for (size_t i = 0; i < x.size(); ++i) {
    const double s = Float16ToFloat(Load16(&reference.section[2 * (i / 64)]));
    const double z = Float16ToFloat(Load16(&reference.section[2 * 64 + 2 * (i / 64)]));
    const float value = static_cast<float>((reference.codes[i] / 16 * 16 + 7.5) * s + z);
    uint8_t stored[2];
    StoreElement(shape.element, value, stored);
    ASSERT_EQ(Load16(reinterpret_cast<const uint8_t*>(draft->data()) + 2 * i), Load16(stored)) << i;
  }
  // Between the planes there is no frame.
  EXPECT_FALSE(testing::Decoded(*planes, KvTensor::kKey, shape, std::span(frame).first(upper + 1)).ok());
  EXPECT_FALSE(Codec::Parse("int(8,tok)|planes").ok());
}

TEST(AdaptiveBits, AreQaqs) {
  auto rng = testing::Rng(64);
  const FrameShape shape{2, 50, 64};
  const auto x = MakeRows(shape, Fill::kGaussian, rng);
  std::vector<float> peaks(100), norms = {3.0f, 30.0f};
  for (float& p : peaks) p = std::exp2(-static_cast<float>(rng() % 12));
  for (const uint32_t value : {0u, 1u}) {
    StageUnderTest<AdaptStage> stage{{value, 50000}, shape, {nullptr, norms.data(), peaks.data(), 1000}};
    stage.Quantise(x);
    const auto back = stage.Dequantise();
    double mean = 0, expected_mean = 0;
    for (size_t row = 0; row < 100; ++row) {
      const double n = 1000, eps = 0.05;
      const double error = value != 0 ? std::sqrt(12 / n) * eps / peaks[row]
                                      : std::sqrt(12 / (double{norms[row / 50]} * norms[row / 50]) *
                                                  std::log(n * n * n * eps * eps / (n - 1) + 1));
      const auto [least, greatest] =
          std::minmax_element(x.begin() + static_cast<long>(row * 64), x.begin() + static_cast<long>(row * 64 + 64));
      const double bits = std::ceil(std::log2((double{*greatest} - *least) / (2 * error) + 1));
      EXPECT_EQ(stage.section[row], std::clamp(bits, 0.0, 8.0)) << row;
      mean += stage.section[row];
      expected_mean += std::clamp(bits, 0.0, 8.0);
      for (size_t c = 0; c < 64 && bits <= 8; ++c) {
        EXPECT_NEAR(back[row * 64 + c], x[row * 64 + c], 1.002 * error + 1e-3 * std::fabs(x[row * 64 + c])) << row;
      }
    }
    EXPECT_EQ(mean, expected_mean);
  }
}

}  // namespace
}  // namespace kvasir
