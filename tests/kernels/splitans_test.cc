// SPDX-License-Identifier: Apache-2.0
// Goal: splitexp(ans) gives back every bit of bf16 and fp16, stays within MaxFrameBytes, comes near the entropy of the
// exponents, and no damaged byte leads out of its memory or changes a length. Method: frames of every character and
// size around the lanes and chunks, all 65,536 patterns, each byte of a frame damaged in turn; entropy in double.
#include <algorithm>
#include <cmath>

#include "gtest/gtest.h"
#include "kernels/simd/bodies.h"
#include "kernels/stages/p_splitans.h"
#include "tests/kernels/frames.h"

namespace kvasir {
namespace {

using testing::Decoded;
using testing::Encoded;
using testing::Fill;
using testing::MakeFrame;
using testing::MustParse;

const char* const kSpec = "splitexp(ans)";
constexpr ElementType kHalves[] = {ElementType::kBfloat16, ElementType::kFloat16};

void Set(std::vector<std::byte>& dense, uint64_t i, uint32_t value) {
  Store16(reinterpret_cast<uint8_t*>(dense.data()) + 2 * i, value);
}

uint32_t ExponentAt(const FrameShape& shape, const std::vector<std::byte>& dense, uint64_t i) {
  const uint32_t x = Load16(reinterpret_cast<const uint8_t*>(dense.data()) + 2 * i);
  return TakeApart(shape.element == ElementType::kFloat16, x).exponent;
}

/// The frame, after it was seen to come back whole and to be the same every time.
std::vector<std::byte> RoundTrip(const FrameShape& shape, const std::vector<std::byte>& dense) {
  const auto codec = MustParse(kSpec);
  const auto frame = Encoded(*codec, KvTensor::kKey, shape, dense);
  EXPECT_EQ(Encoded(*codec, KvTensor::kKey, shape, dense), frame) << "the same bytes each time";
  const auto back = Decoded(*codec, KvTensor::kKey, shape, frame);
  EXPECT_TRUE(back.ok()) << (back.ok() ? "" : back.error().message);
  if (back.ok()) {
    EXPECT_TRUE(*back == dense) << shape.heads << " " << shape.tokens << " " << shape.dim;
  }
  return frame;
}

TEST(SplitAns, EveryFillAndSizeIsBitExact) {
  auto rng = testing::Rng(70);
  // Around one step of 64 lanes, around one chunk of 16,384 values, one row, one channel, heads that end inside a step.
  const FrameShape shapes[] = {{1, 1, 1},     {1, 1, 63},    {1, 1, 64},    {1, 1, 65},    {1, 1, 128},
                               {1, 127, 1},   {3, 43, 3},    {2, 7, 80},    {5, 20, 33},   {1, 128, 128},
                               {1, 129, 127}, {1, 16385, 1}, {2, 129, 128}, {1, 256, 128}, {8, 256, 64}};
  for (FrameShape shape : shapes) {
    for (const ElementType type : kHalves) {
      shape.element = type;
      for (const Fill fill : testing::kAllFills) {
        const auto frame = RoundTrip(shape, MakeFrame(shape, fill, rng));
        EXPECT_LE(frame.size(), shape.bytes() + kSplitAnsGrowthMax);
      }
    }
  }
}

TEST(SplitAns, EveryTokenCountOfAGrownBlockIsBitExact) {
  auto rng = testing::Rng(71);
  for (uint32_t tokens = 1; tokens <= 272; ++tokens) {
    FrameShape shape{1, tokens, 64, kHalves[tokens % 2]};
    RoundTrip(shape, MakeFrame(shape, Fill::kOutlierChannels, rng));
  }
}

TEST(SplitAns, EveryPatternIsKept) {
  for (const ElementType type : kHalves) {
    const FrameShape shape{1, 512, 128, type};
    for (const uint32_t stride : {1u, 257u, 1023u}) {  // odd strides mix the exponents
      std::vector<std::byte> dense(shape.bytes());
      for (uint32_t i = 0; i < 65536; ++i) Set(dense, i, i * stride % 65536);
      RoundTrip(shape, dense);
    }
  }
}

TEST(SplitAns, InfinitiesNansAndDenormalsThatTheSampleMissesEscape) {
  auto rng = testing::Rng(72);
  for (const ElementType type : kHalves) {
    const FrameShape shape{2, 512, 128, type};
    const bool half = type == ElementType::kFloat16;
    const uint32_t odd[] = {
        half ? 0x7C00u : 0x7F80u, half ? 0xFC00u : 0xFF80u, half ? 0x7E01u : 0x7FC1u, 0x0001u, 0x8001u, 0x0000u};
    auto dense = MakeFrame(shape, Fill::kGaussian, rng);
    const uint64_t plain = RoundTrip(shape, dense).size();
    for (uint64_t i = 0; i < 200; ++i) Set(dense, rng() % shape.elements(), odd[i % std::size(odd)]);
    const uint64_t with = RoundTrip(shape, dense).size();
    EXPECT_LE(with, plain + 200 * 3) << "an escape costs about two bytes";
  }
}

TEST(SplitAns, ComesNearTheEntropyOfTheExponents) {
  auto rng = testing::Rng(73);
  const FrameShape shape{1, 256, 128, ElementType::kBfloat16};
  const auto dense = MakeFrame(shape, Fill::kGaussian, rng);
  double counts[256] = {}, bits = 0;
  const double n = static_cast<double>(shape.elements());
  for (uint64_t i = 0; i < shape.elements(); ++i) counts[ExponentAt(shape, dense, i)] += 1;
  for (const double c : counts) bits += c > 0 ? c * std::log2(n / c) : 0;
  const double exponents = static_cast<double>(RoundTrip(shape, dense).size()) - n;  // bytes; the rest is as it was
  EXPECT_GE(exponents, bits / 8 * 0.99);
  EXPECT_LE(exponents, bits / 8 * 1.03);
}

TEST(SplitAns, OriginsMakeChannelsOfDifferentSizeCheap) {
  auto rng = testing::Rng(74);
  const FrameShape shape{2, 256, 128, ElementType::kBfloat16};
  std::normal_distribution<float> normal;
  std::vector<std::byte> even(shape.bytes()), uneven(shape.bytes());
  for (uint64_t i = 0; i < shape.elements(); ++i) {
    const float x = normal(rng);
    StoreElement(shape.element, x, reinterpret_cast<uint8_t*>(&even[2 * i]));
    StoreElement(shape.element, std::ldexp(x, static_cast<int>(i % shape.dim * 7 % 11)),
                 reinterpret_cast<uint8_t*>(&uneven[2 * i]));
  }
  const uint64_t one = RoundTrip(shape, even).size(), other = RoundTrip(shape, uneven).size();
  // The origins themselves, and 1 % for medians of a sample that miss by one.
  EXPECT_LE(other, one + 1 + shape.heads * shape.dim / 2 + one / 100);
}

TEST(SplitAns, NoiseIsStoredAndTheBoundIsReached) {
  auto rng = testing::Rng(75);
  const auto codec = MustParse(kSpec);
  for (const ElementType type : kHalves) {
    for (FrameShape shape :
         {FrameShape{1, 1, 5}, FrameShape{1, 64, 64}, FrameShape{1, 257, 128}, FrameShape{1, 33, 577}}) {
      shape.element = type;
      const uint64_t bound = codec->MaxFrameBytes(KvTensor::kKey, shape);
      EXPECT_LE(bound, shape.bytes() + kSplitAnsGrowthMax);
      EXPECT_EQ(RoundTrip(shape, MakeFrame(shape, Fill::kAnyBits, rng)).size(), bound);
    }
  }
}

TEST(SplitAns, EveryDamagedByteIsAnErrorOrOtherValues) {
  auto rng = testing::Rng(76);
  const auto codec = MustParse(kSpec);
  for (const ElementType type : kHalves) {
    for (const Fill fill : {Fill::kGaussian, Fill::kOutlierChannels, Fill::kConstant, Fill::kAnyBits}) {
      const FrameShape shape{2, 37, 64, type};
      const auto dense = MakeFrame(shape, fill, rng);
      const auto good = Encoded(*codec, KvTensor::kKey, shape, dense);
      for (uint64_t i = 0; i < good.size(); ++i) {
        auto bad = good;
        bad[i] ^= static_cast<std::byte>(i % 2 == 0 ? 1 + rng() % 255 : 0xFF);
        const auto back = Decoded(*codec, KvTensor::kKey, shape, bad);  // exact memory: the sanitizer sees over-reads
        ASSERT_TRUE(back.ok() || back.error().code == ErrorCode::kDataLoss) << i;
      }
      for (uint64_t length = 0; length < good.size(); length += length < 64 ? 1 : 13) {
        const auto back = Decoded(*codec, KvTensor::kKey, shape, std::span(good).first(length));
        ASSERT_FALSE(back.ok()) << "cut at " << length;
        ASSERT_EQ(back.error().code, ErrorCode::kDataLoss);
      }
      auto longer = good;
      longer.push_back(std::byte{0});
      EXPECT_FALSE(Decoded(*codec, KvTensor::kKey, shape, longer).ok());
    }
  }
}

TEST(SplitAns, DamagedFieldsAreNamed) {
  auto rng = testing::Rng(77);
  const FrameShape shape{1, 256, 64, ElementType::kBfloat16};
  const auto codec = MustParse(kSpec);
  const auto good = Encoded(*codec, KvTensor::kKey, shape, MakeFrame(shape, Fill::kGaussian, rng));
  const SplitAnsFrame f = LayOutSplitAns(shape);
  const auto says = [&](uint64_t at, uint32_t value) {
    auto bad = good;
    bad[at] = static_cast<std::byte>(value);
    const auto back = Decoded(*codec, KvTensor::kKey, shape, bad);
    return back.ok() ? std::string("ok") : back.error().message;
  };
  ASSERT_EQ(good[f.mode_at()], std::byte{1});
  EXPECT_NE(says(f.mode_at(), 3).find("mode is 3"), std::string::npos);
  EXPECT_NE(says(f.mode_at() + 1, 0).find("model"), std::string::npos);    // no runs
  EXPECT_NE(says(f.mode_at() + 3, 255).find("model"), std::string::npos);  // a run of too many
  EXPECT_NE(says(f.mode_at() + 4, 0).find("model"), std::string::npos);    // a frequency of none
}

TEST(SplitAns, TakesHalvesOnly) {
  EXPECT_FALSE(MustParse(kSpec)->Check(KvTensor::kKey, {1, 1, 1, ElementType::kFloat32}).ok());
}

// ---- rans.h ----

/// The body with AVX-512 against the reference: the same bytes, the same values, the same answer to damage.
TEST(SplitAns, TheWideBodyGivesTheSameBits) {
  auto rng = testing::Rng(71);
  uint32_t compared = 0;
  for (const uint32_t count : {64u, 65u, 100u, 127u, 128u, 1000u, kSplitAnsChunk}) {
    for (const Fill fill : testing::kAllFills) {
      const FrameShape shape{1, 1, count, ElementType::kBfloat16};
      const auto dense = MakeFrame(shape, fill, rng);
      const auto* in = reinterpret_cast<const uint8_t*>(dense.data());
      SplitAnsCoding coding{LayOutSplitAns(shape), {}, {}};
      std::vector<uint8_t> origins(count + kSplitAnsLanes);
      for (uint8_t& o : origins) o = static_cast<uint8_t>(rng() % 3);
      coding.origins = {origins.data(), 0, count, count};
      uint32_t counts[256] = {};
      for (uint32_t i = 0; i < count; i += 1 + rng() % 3) ++counts[(ExponentAt(shape, dense, i) - origins[i]) & 255];
      uint32_t total = 0;
      for (const uint32_t c : counts) total += c;
      coding.model = ChooseModel(counts, total);
      std::vector<uint8_t> rest(count), fixed(count), tail(kSplitAnsTailRoom), fixed_wide(count),
          tail_wide(kSplitAnsTailRoom);
      const uint32_t bytes =
          EncodeSplitAnsChunk(coding, {0, count, in, fixed.data(), tail.data() + tail.size(), rest.data()});
      const uint32_t wide =
          simd::EncodeSplitAns(coding, {0, count, in, fixed_wide.data(), tail_wide.data() + tail.size(), rest.data()});
      if (wide == 0) GTEST_SKIP() << "this CPU has no AVX-512 VBMI2";
      ASSERT_EQ(wide, bytes) << count;
      ASSERT_EQ(fixed_wide, fixed);
      std::vector<uint8_t> coded(tail.end() - bytes, tail.end());
      ASSERT_TRUE(std::equal(coded.begin(), coded.end(), tail_wide.end() - bytes));
      for (int damage = 0; damage < 40; ++damage) {
        if (damage > 0) coded[rng() % coded.size()] ^= static_cast<uint8_t>(1 + rng() % 255);
        if (damage > 30 && coded.size() > kSplitAnsStateBytes) coded.pop_back();
        std::vector<uint8_t> out(2 * count), out_wide(2 * count);
        bool right = false;
        ASSERT_TRUE(simd::DecodeSplitAns(coding, {0, count, fixed.data(), coded, out_wide.data()}, right));
        ASSERT_EQ(DecodeSplitAnsChunk(coding, {0, count, fixed.data(), coded, out.data()}), right)
            << count << " " << damage;
        if (right) {
          ASSERT_EQ(out_wide, out);
        }
        if (damage == 0) {
          ASSERT_TRUE(right && std::equal(out.begin(), out.end(), in));
        }
        ++compared;
      }
    }
  }
  EXPECT_EQ(compared, 7u * 40 * std::size(testing::kAllFills));
}

TEST(Rans, PopUndoesPushForEveryStateAndFrequency) {
  for (uint32_t frequency = 1; frequency < kRansTotal; ++frequency) {
    const uint32_t first = kRansTotal - frequency;
    for (uint32_t x = kRansLeast; x < 65536; x += 1 + x % 7) {
      const uint32_t kept = RansEmits(x, frequency) ? x >> 8 : x;
      const uint32_t pushed = RansPush(kept, frequency, first);
      ASSERT_TRUE(pushed >= kRansLeast && pushed < 65536) << x << " " << frequency;
      ASSERT_EQ(RansPop(pushed, frequency, first), kept);
      ASSERT_EQ(kept < kRansLeast, RansEmits(x, frequency)) << "the decoder takes a byte where the encoder gave one";
    }
  }
}

TEST(Rans, FrequenciesSumToTheTotalAndNoneIsZero) {
  auto rng = testing::Rng(78);
  for (int i = 0; i < 2000; ++i) {
    const uint32_t count = 2 + static_cast<uint32_t>(rng() % 255);
    std::vector<uint32_t> weights(count);
    uint32_t total = 0;
    for (uint32_t& w : weights) total += w = static_cast<uint32_t>(rng() % (i % 3 == 0 ? 2 : 1000));
    if (total == 0) total = weights[0] = 1;
    uint8_t frequencies[256];
    RansFrequencies(weights.data(), count, total, frequencies);
    uint32_t sum = 0;
    for (uint32_t k = 0; k < count; ++k) sum += frequencies[k];
    ASSERT_EQ(sum, kRansTotal);
    ASSERT_GE(*std::min_element(frequencies, frequencies + count), 1);
  }
  for (const uint32_t v : {1u, 2u, 3u, 1000u, 4096u, 65535u, 0xFFFFFFFFu}) {
    EXPECT_EQ(Log2In4096ths(v), static_cast<uint32_t>(std::floor(std::log2(static_cast<double>(v)) * 4096))) << v;
  }
}

}  // namespace
}  // namespace kvasir
