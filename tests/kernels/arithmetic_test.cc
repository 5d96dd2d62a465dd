// SPDX-License-Identifier: Apache-2.0
// Goal: P:ac brings back every code, is as short as the entropy of its own curves allows, grows by no more than stated,
// and reads whatever bytes within bounds. Method: columns of known distributions, entropy in double, each byte damaged
// in turn.
#include <algorithm>
#include <cmath>
#include <map>

#include "gtest/gtest.h"
#include "kernels/stages/p_ac.h"
#include "tests/kernels/stage_run.h"

namespace kvasir {
namespace {

using testing::Decoded;
using testing::Encoded;
using testing::Fill;
using testing::MakeFrame;
using testing::MustParse;
using testing::TestRun;

/// Codes through the packer and back.
struct Packed {
  AcStage::Args args;
  FrameShape shape;
  CodeWidth width;
  std::vector<float> spare = std::vector<float>(AcStage::SpareFloats(args, shape));
  std::vector<uint8_t> bytes = std::vector<uint8_t>(AcStage::MaxBytes(args, width, shape));
  ChainOutcome outcome{};

  void Pack(const std::vector<uint8_t>& codes) {
    TestRun run;
    AcStage::Pack(run, args, width, {shape, spare.data(), &outcome, {}}, codes.data(), bytes.data());
    ASSERT_EQ(outcome.fault, 0u);
    ASSERT_LE(outcome.packed_bytes, bytes.size());
    bytes.resize(outcome.packed_bytes);
  }
  std::vector<uint8_t> Unpack() {
    TestRun run;
    outcome = {};
    std::vector<uint8_t> codes(shape.elements());
    AcStage::Unpack(run, args, width, {shape, spare.data(), &outcome, {}}, bytes.data(),
                    static_cast<uint32_t>(bytes.size()), codes.data());
    return codes;
  }
};

/// Codes of a normal distribution, each channel with its own centre and spread; `spread` 0 = equally often.
std::vector<uint8_t> Codes(const FrameShape& shape, uint32_t bits, double spread, std::mt19937_64& rng) {
  std::vector<uint8_t> codes(shape.elements());
  const int greatest = (1 << bits) - 1;
  for (uint64_t column = 0; column < uint64_t{shape.heads} * shape.dim; ++column) {
    std::normal_distribution<double> normal((0.2 + 0.6 * static_cast<double>(column % 7) / 6) * greatest,
                                            spread * greatest * (1 + static_cast<double>(column % 3)));
    for (uint32_t t = 0; t < shape.tokens; ++t) {
      const double drawn = spread == 0 ? static_cast<double>(rng() % (greatest + 1u)) : std::nearbyint(normal(rng));
      codes[(column / shape.dim * shape.tokens + t) * shape.dim + column % shape.dim] =
          static_cast<uint8_t>(std::clamp(drawn, 0.0, static_cast<double>(greatest)));
    }
  }
  return codes;
}

/// Bits of all codes if each channel had its exact frequencies for nothing.
double EntropyBits(const FrameShape& shape, const std::vector<uint8_t>& codes) {
  double bits = 0;
  for (uint64_t column = 0; column < uint64_t{shape.heads} * shape.dim; ++column) {
    std::map<uint8_t, double> counts;
    for (uint32_t t = 0; t < shape.tokens; ++t) {
      ++counts[codes[(column / shape.dim * shape.tokens + t) * shape.dim + column % shape.dim]];
    }
    for (const auto& [code, count] : counts) bits -= count * std::log2(count / shape.tokens);
  }
  return bits;
}

TEST(ArithmeticCoding, EveryWidthAndSizeComesBack) {
  auto rng = testing::Rng(80);
  const FrameShape shapes[] = {{1, 1, 1}, {1, 3, 17}, {2, 64, 80}, {3, 129, 33}, {1, 256, 128}};
  for (const FrameShape& shape : shapes) {
    for (uint32_t bits = 1; bits <= 8; ++bits) {
      for (const double spread : {0.0, 0.001, 0.03, 0.2}) {
        for (const uint32_t channels : {1u, 16u, 1000u}) {
          const auto codes = Codes(shape, bits, spread, rng);
          Packed packed{{channels}, shape, {bits}};
          ASSERT_NO_FATAL_FAILURE(packed.Pack(codes)) << bits << " " << spread;
          EXPECT_TRUE(packed.Unpack() == codes) << bits << " bits, spread " << spread << ", " << channels;
          EXPECT_EQ(packed.outcome.fault, 0u);
        }
      }
    }
  }
}

TEST(ArithmeticCoding, IsAsShortAsTheEntropyAndFourPercent) {
  auto rng = testing::Rng(81);
  const FrameShape shape{2, 8192, 8};
  for (const uint32_t bits : {3u, 4u, 6u, 8u}) {
    for (const double spread : {0.02, 0.05}) {
      const auto codes = Codes(shape, bits, spread, rng);
      Packed packed{{16}, shape, {bits}};
      ASSERT_NO_FATAL_FAILURE(packed.Pack(codes));
      const double least = EntropyBits(shape, codes) / 8;
      const double header = static_cast<double>(AcStage::HeaderBytes({16}, shape));
      EXPECT_LE(static_cast<double>(packed.bytes.size()), 1.04 * least + header) << bits << " " << spread;
      EXPECT_GE(static_cast<double>(packed.bytes.size()), least * 0.9)
          << "the entropy of what was drawn is no upper bound";
    }
  }
}

TEST(ArithmeticCoding, NoiseGrowsByItsHeaderAndLittleMore) {
  auto rng = testing::Rng(82);
  const FrameShape shape{2, 256, 64};
  for (uint32_t bits = 1; bits <= 8; ++bits) {
    const auto codes = Codes(shape, bits, 0, rng);
    Packed packed{{16}, shape, {bits}};
    ASSERT_NO_FATAL_FAILURE(packed.Pack(codes));
    const uint64_t plain = shape.elements() * bits / 8;
    EXPECT_LE(packed.bytes.size(), plain + AcStage::HeaderBytes({16}, shape) + 8 * 5) << bits;
  }
}

/// Carries run through bytes of 0xFF: the ends of all ranges are met, with models as lopsided as they come.
TEST(RangeCoder, CarriesAndEndsAreRight) {
  auto rng = testing::Rng(83);
  for (int round = 0; round < 2000; ++round) {
    const uint32_t total = 2 + static_cast<uint32_t>(rng() % 65535),
                   cut = 1 + static_cast<uint32_t>(rng() % (total - 1));
    std::vector<bool> symbols(rng() % 200);
    const uint32_t last = static_cast<uint32_t>(rng() % 100);
    for (size_t i = 0; i < symbols.size(); ++i) symbols[i] = rng() % 100 < last;
    std::vector<uint8_t> bytes(symbols.size() * 2 + 16);
    RangeEncoder encoder;
    encoder.out = bytes.data();
    for (const bool upper : symbols) encoder.Put(upper ? cut : 0, upper ? total - cut : cut, total);
    encoder.Finish();
    ASSERT_LE(encoder.bytes, bytes.size());
    RangeDecoder decoder;
    decoder.in = bytes.data();
    decoder.bytes = encoder.bytes;
    decoder.Begin();
    for (size_t i = 0; i < symbols.size(); ++i) {
      const bool upper = decoder.Look(total) >= cut;
      ASSERT_EQ(upper, symbols[i]) << round << " " << i;
      decoder.Take(upper ? cut : 0, upper ? total - cut : cut);
    }
  }
}

TEST(RangeModel, FrequenciesAreNeverZeroAndSumToTheTotal) {
  RangeModel model;
  for (uint32_t bits = 1; bits <= 8; ++bits) {
    for (uint32_t mean = 0; mean < 256; mean += 5) {
      for (uint32_t shape = 0; shape < 256; ++shape) {
        const bool right = model.Make(bits, static_cast<uint8_t>(mean), static_cast<uint8_t>(shape));
        EXPECT_EQ(right, shape % 64 != 0 || (shape == 0 && mean == 0)) << "one way to say uniform";
        ASSERT_LE(model.total(), RangeModel::kShare + 1);
        for (uint32_t c = 0; c < model.codes; ++c) {
          ASSERT_GT(model.sums[c + 1], model.sums[c]);
          ASSERT_EQ(model.Find(model.sums[c]), c);
          ASSERT_EQ(model.Find(model.sums[c + 1] - 1), c);
        }
      }
    }
  }
}

/// CacheGen's order: neighbours' differences cost less than the values, and entropy coding brings that out.
TEST(ArithmeticCoding, PaysAfterAQuantiserWithOneStepForAll) {
  auto rng = testing::Rng(84);
  const FrameShape shape{2, 256, 64};
  const auto dense = MakeFrame(shape, Fill::kOutlierChannels, rng);
  const auto plain = MustParse("int(4,tok,0,sym)"), coded = MustParse("int(4,tok,0,sym)|ac");
  const auto a = Encoded(*plain, KvTensor::kKey, shape, dense), b = Encoded(*coded, KvTensor::kKey, shape, dense);
  EXPECT_LT(b.size(), a.size() * 9 / 10);
  const auto x = Decoded(*plain, KvTensor::kKey, shape, a), y = Decoded(*coded, KvTensor::kKey, shape, b);
  ASSERT_TRUE(x.ok() && y.ok());
  EXPECT_TRUE(*x == *y) << "the same codes";
}

TEST(ArithmeticCoding, EveryDamagedByteIsAnErrorOrOtherValues) {
  auto rng = testing::Rng(85);
  const FrameShape shape{2, 33, 20};
  const auto codec = MustParse("delta|int(4,tok)|ac(8)");
  const auto frame = Encoded(*codec, KvTensor::kKey, shape, MakeFrame(shape, Fill::kGaussian, rng));
  uint32_t refused = 0;
  for (size_t at = 0; at < frame.size(); ++at) {
    for (const uint8_t bit : {0x01, 0x80}) {
      auto damaged = frame;
      damaged[at] ^= std::byte{bit};
      refused += Decoded(*codec, KvTensor::kKey, shape, damaged).ok() ? 0 : 1;
    }
  }
  EXPECT_GT(refused, 0u) << "lengths at least";
  for (size_t size = 0; size < frame.size(); ++size) {
    const auto cut = std::vector<std::byte>(frame.begin(), frame.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(Decoded(*codec, KvTensor::kKey, shape, cut).ok()) << size;
  }
}

}  // namespace
}  // namespace kvasir
