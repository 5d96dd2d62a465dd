// SPDX-License-Identifier: Apache-2.0
// Goal: lossless codecs give back every bit, integer codecs give exactly what their formulas say, and no bytes, however
// damaged, make a decoder leave its memory. Method: every fill and element type; integers against arithmetic in double,
// rounded to float after each operation (exact, since double has more than twice the bits); flips and cuts of good
// frames.
#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"
#include "kernels/frame_directory.h"
#include "tests/kernels/frames.h"

namespace kvasir {
namespace {

using testing::Decoded;
using testing::Encoded;
using testing::Fill;
using testing::MakeFrame;
using testing::MustParse;

const FrameShape kShapes[] = {{1, 1, 1}, {1, 16, 64}, {2, 7, 80}, {1, 256, 128}, {3, 5, 33}, {1, 33, 576}};

TEST(Codec, LosslessRoundTripsAreBitExact) {
  auto rng = testing::Rng(10);
  for (const char* spec : {"raw", "splitexp", "splitexp(ans)"}) {
    const auto codec = MustParse(spec);
    EXPECT_TRUE(codec->lossless());
    for (FrameShape shape : kShapes) {
      for (const ElementType type : testing::kAllElements) {
        shape.element = type;
        if (!codec->Check(KvTensor::kKey, shape).ok()) continue;
        for (const Fill fill : testing::kAllFills) {
          const auto dense = MakeFrame(shape, fill, rng);
          const auto back = Decoded(*codec, KvTensor::kKey, shape, Encoded(*codec, KvTensor::kKey, shape, dense));
          ASSERT_TRUE(back.ok()) << back.error().message;
          ASSERT_EQ(*back, dense) << spec << " fill " << static_cast<int>(fill);
        }
      }
    }
  }
}

TEST(Codec, SplitExpKeepsEveryPattern) {
  const auto codec = MustParse("splitexp");
  for (const ElementType type : {ElementType::kBfloat16, ElementType::kFloat16}) {
    // All 65,536 patterns in order: chunks of one exponent each, with every NaN, infinity and denormal.
    const FrameShape shape{1, 512, 128, type};
    std::vector<std::byte> dense(shape.bytes());
    for (uint32_t i = 0; i < 65536; ++i) Store16(reinterpret_cast<uint8_t*>(dense.data()) + 2 * i, i);
    for (const uint32_t stride : {1u, 257u, 1023u}) {  // odd strides mix the exponents
      std::vector<std::byte> mixed(dense.size());
      for (uint32_t i = 0; i < 65536; ++i) std::memcpy(&mixed[2 * i], &dense[2 * (i * stride % 65536)], 2);
      const auto back = Decoded(*codec, KvTensor::kKey, shape, Encoded(*codec, KvTensor::kKey, shape, mixed));
      ASSERT_TRUE(back.ok());
      ASSERT_EQ(*back, mixed) << stride;
    }
  }
}

TEST(Codec, SplitExpSizes) {
  auto rng = testing::Rng(11);
  const auto codec = MustParse("splitexp");
  FrameShape shape{1, 256, 128};
  const double raw = static_cast<double>(shape.bytes());
  EXPECT_LE(static_cast<double>(Encoded(*codec, KvTensor::kKey, shape, MakeFrame(shape, Fill::kGaussian, rng)).size()),
            0.755 * raw);
  EXPECT_LE(
      static_cast<double>(Encoded(*codec, KvTensor::kKey, shape, MakeFrame(shape, Fill::kOutlierChannels, rng)).size()),
      0.77 * raw);
  EXPECT_LE(static_cast<double>(Encoded(*codec, KvTensor::kKey, shape, MakeFrame(shape, Fill::kZeros, rng)).size()),
            0.755 * raw);
  EXPECT_LE(static_cast<double>(codec->MaxFrameBytes(KvTensor::kKey, shape)), 1.003 * raw);
  // One infinity does not cost its chunk the window: the histogram finds the others.
  auto dense = MakeFrame(shape, Fill::kGaussian, rng);
  for (uint32_t i = 0; i < shape.elements(); i += 1024) Store16(reinterpret_cast<uint8_t*>(&dense[2 * i]), 0x7F80);
  EXPECT_LE(static_cast<double>(Encoded(*codec, KvTensor::kKey, shape, dense).size()), 0.76 * raw);
  shape.element = ElementType::kFloat16;
  EXPECT_LE(static_cast<double>(Encoded(*codec, KvTensor::kKey, shape, MakeFrame(shape, Fill::kGaussian, rng)).size()),
            0.92 * raw);
  EXPECT_LE(static_cast<double>(codec->MaxFrameBytes(KvTensor::kKey, shape)), 1.003 * raw);
}

// ---- Q:int against its formulas ----

/// x to fp16 in double, down or up; subnormals too.
double ToHalf(double x, double (*round)(double)) {
  if (x == 0) return 0;
  const int exponent = std::max(std::ilogb(x), -14) - 10;
  return std::ldexp(round(std::ldexp(x, -exponent)), exponent);
}

double F(double x) { return static_cast<double>(static_cast<float>(x)); }

struct IntCase {
  int bits;
  bool by_channel;
  uint32_t group;
  bool symmetric;
};

/// Decoded values of one group by the formulas of q_int.h.
std::vector<double> QuantisedGroup(const IntCase& c, std::vector<double> x) {
  for (double& v : x) v = std::isnan(v) ? 0.0 : std::clamp(v, -65504.0, 65504.0);
  const double least = *std::min_element(x.begin(), x.end());
  const double greatest = *std::max_element(x.begin(), x.end());
  const int last = c.symmetric ? (1 << (c.bits - 1)) - 1 : (1 << c.bits) - 1;
  const double z = c.symmetric ? 0.0 : ToHalf(least, std::floor);
  const double range = c.symmetric ? std::max(greatest, -least) : F(greatest - z);
  const double s = ToHalf(F(range / last), std::ceil);
  const double inverse = s > 0 ? F(1.0 / s) : 0.0;
  for (double& v : x) {
    const double q = std::nearbyint(F(F(v - z) * inverse));
    EXPECT_TRUE(c.symmetric ? std::fabs(q) <= last : q >= 0 && q <= last) << q;
    const double decoded = F(q * s + z);
    EXPECT_LE(std::fabs(decoded - v), 0.5001 * s + 1e-7 * std::fabs(v)) << "nothing is clipped";
    v = decoded;
  }
  return x;
}

std::vector<std::byte> Expected(const IntCase& c, const FrameShape& shape, const std::vector<std::byte>& dense) {
  const uint32_t element = ElementBytes(shape.element);
  std::vector<std::byte> out(dense.size());
  const uint8_t* in = reinterpret_cast<const uint8_t*>(dense.data());
  uint8_t* to = reinterpret_cast<uint8_t*>(out.data());
  const uint32_t axis = c.by_channel ? shape.tokens : shape.dim;
  const uint32_t group = c.group == 0 ? axis : c.group;
  for (uint32_t head = 0; head < shape.heads; ++head) {
    for (uint32_t other = 0; other < (c.by_channel ? shape.dim : shape.tokens); ++other) {
      for (uint32_t begin = 0; begin < axis; begin += group) {
        std::vector<double> values;
        std::vector<uint64_t> places;
        for (uint32_t i = begin; i < std::min(axis, begin + group); ++i) {
          const uint32_t token = c.by_channel ? i : other, channel = c.by_channel ? other : i;
          places.push_back(((uint64_t{head} * shape.tokens + token) * shape.dim + channel) * element);
          values.push_back(LoadElement(shape.element, in + places.back()));
        }
        values = QuantisedGroup(c, values);
        for (size_t i = 0; i < values.size(); ++i) {
          StoreElement(shape.element, static_cast<float>(values[i]), to + places[i]);
        }
      }
    }
  }
  return out;
}

TEST(Codec, IntegersAreWhatTheFormulasSay) {
  auto rng = testing::Rng(12);
  for (const int bits : {8, 4, 3, 2}) {
    for (const bool by_channel : {false, true}) {
      for (const bool symmetric : {false, true}) {
        const IntCase c{bits, by_channel, std::vector<uint32_t>{0, 1, 32, 50}[rng() % 4], symmetric};
        const std::string spec = "int(" + std::to_string(bits) + (by_channel ? ",chan," : ",tok,") +
                                 std::to_string(c.group) + (symmetric ? ",sym)" : ",asym)");
        SCOPED_TRACE(spec);
        const auto codec = MustParse(spec);
        EXPECT_FALSE(codec->lossless());
        for (FrameShape shape : kShapes) {
          shape.element = testing::kAllElements[rng() % 5];
          const Fill fill = testing::kAllFills[rng() % 7];
          const auto dense = MakeFrame(shape, fill, rng);
          const auto frame = Encoded(*codec, KvTensor::kKey, shape, dense);
          EXPECT_EQ(frame.size(), codec->MaxFrameBytes(KvTensor::kKey, shape));
          const auto back = Decoded(*codec, KvTensor::kKey, shape, frame);
          ASSERT_TRUE(back.ok()) << back.error().message;
          ASSERT_EQ(*back, Expected(c, shape, dense)) << "fill " << static_cast<int>(fill) << " element "
                                                      << static_cast<int>(shape.element) << " dim " << shape.dim;
        }
      }
    }
  }
}

TEST(Codec, BitsPerValueCountTheParameters) {
  const FrameShape shape{1, 256, 128};
  EXPECT_EQ(MustParse("int(4,chan,32)")->BitsPerValue(KvTensor::kKey, shape), 5.0);
  EXPECT_EQ(MustParse("int(2,tok,64)")->BitsPerValue(KvTensor::kKey, shape), 2.5);
  EXPECT_EQ(MustParse("int(3,tok,128,sym)")->BitsPerValue(KvTensor::kKey, shape), 3.125);
  EXPECT_EQ(MustParse("int(8,tok)")->BitsPerValue(KvTensor::kKey, shape), 8.25);
}

TEST(Codec, ShapesThatCannotBeAreRefused) {
  const auto codec = MustParse("raw");
  EXPECT_FALSE(codec->Check(KvTensor::kKey, {0, 1, 1}).ok());
  EXPECT_FALSE(codec->Check(KvTensor::kKey, {1, 1, 0}).ok());
  EXPECT_FALSE(codec->Check(KvTensor::kKey, {1, 1, 1, static_cast<ElementType>(9)}).ok());
  EXPECT_FALSE(codec->Check(KvTensor::kKey, {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}).ok());
  EXPECT_FALSE(MustParse("int(8,tok,1)")->Check(KvTensor::kKey, {1, 1u << 20, 256}).ok());
  EXPECT_FALSE(MustParse("splitexp")->Check(KvTensor::kKey, {1, 1, 1, ElementType::kFloat32}).ok());
}

TEST(Codec, KeyAndValueMayDiffer) {
  auto rng = testing::Rng(13);
  const FrameShape shape{1, 64, 64};
  const auto codec = MustParse("k:int(2,chan,32)|v:raw");
  const auto dense = MakeFrame(shape, Fill::kGaussian, rng);
  EXPECT_EQ(Encoded(*codec, KvTensor::kValue, shape, dense), dense);
  EXPECT_LT(Encoded(*codec, KvTensor::kKey, shape, dense).size(), dense.size() / 4);
}

// ---- damage ----

TEST(Codec, DamagedFramesNeverLeadOutside) {
  auto rng = testing::Rng(14);
  for (const char* spec : {"raw", "splitexp", "splitexp(ans)", "int(8,tok)", "int(4,chan,32)", "int(3,tok,64)",
                           "int(2,chan,32,sym)", "had|lm(3)", "had|int(4,tok,32)"}) {
    SCOPED_TRACE(spec);
    const auto codec = MustParse(spec);
    for (const FrameShape shape : {FrameShape{1, 40, 64}, FrameShape{2, 33, 80}, FrameShape{1, 3, 7}}) {
      for (int i = 0; i < 300; ++i) {
        const Fill fill = testing::kAllFills[rng() % 7];
        std::vector<std::byte> frame = Encoded(*codec, KvTensor::kKey, shape, MakeFrame(shape, fill, rng));
        const uint64_t kind = rng() % 4, length = frame.size();
        if (kind == 0) frame.resize(rng() % (frame.size() + 1));
        if (kind == 1) frame.resize(frame.size() + 1 + rng() % 64);
        const bool resized = frame.size() != length;
        const uint64_t reach = kind == 2 ? std::min<uint64_t>(frame.size(), 32) : frame.size();
        for (int flips = kind < 2 ? 0 : 3; flips > 0; --flips)
          frame[rng() % reach] ^= static_cast<std::byte>(1 + rng() % 255);
        const auto back = Decoded(*codec, KvTensor::kKey, shape, frame);
        EXPECT_TRUE(back.ok() || back.error().code == ErrorCode::kDataLoss);
        EXPECT_FALSE(resized && back.ok());
      }
    }
  }
}

TEST(Codec, DamagedFieldsAreNamed) {
  auto rng = testing::Rng(15);
  const FrameShape shape{1, 64, 64};
  const auto split = MustParse("splitexp");
  const auto good = Encoded(*split, KvTensor::kKey, shape, MakeFrame(shape, Fill::kGaussian, rng));
  auto bad = good;
  bad[1] = std::byte{2};  // mode
  EXPECT_NE(Decoded(*split, KvTensor::kKey, shape, bad).error().message.find("mode"), std::string::npos);
  bad = good;
  bad[3] = std::byte{0xFF};  // escapes, high byte
  EXPECT_NE(Decoded(*split, KvTensor::kKey, shape, bad).error().message.find("escapes"), std::string::npos);
  const auto integer = MustParse("int(8,tok)");
  bad = Encoded(*integer, KvTensor::kKey, shape, MakeFrame(shape, Fill::kGaussian, rng));
  bad[1] = std::byte{0x7C};
  EXPECT_NE(Decoded(*integer, KvTensor::kKey, shape, bad).error().message.find("not finite"), std::string::npos);
}

}  // namespace
}  // namespace kvasir
