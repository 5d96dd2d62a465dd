// SPDX-License-Identifier: Apache-2.0
// Goal: every SIMD body gives the bits of the reference, both ways, on every instruction set of this CPU.
// Method: random shapes, specs and data; encoded frames and decoded elements compared with memcmp, one target after
// another.
#include "gtest/gtest.h"
#include "kernels/simd/bodies.h"
#include "tests/kernels/each_target.h"  // before Highway's own headers
#include "tests/kernels/frames.h"

namespace kvasir {
namespace {

using testing::Fill;
using testing::ForEachTarget;
using testing::MakeFrame;

const uint8_t* Bytes(const std::vector<std::byte>& v) { return reinterpret_cast<const uint8_t*>(v.data()); }
uint8_t* Bytes(std::vector<std::byte>& v) { return reinterpret_cast<uint8_t*>(v.data()); }

void CompareInt(const IntSpec& spec, const FrameShape& shape, const std::vector<std::byte>& dense) {
  const IntFrame f = LayOutIntFrame(spec, shape);
  std::vector<std::byte> codes(uint64_t{shape.tokens} * shape.dim), scratch;
  std::vector<std::byte> expected(f.frame_bytes), got(f.frame_bytes, std::byte{0xCD});
  EncodeIntFrameReference(f, Bytes(dense), Bytes(expected), Bytes(codes));
  if (!simd::EncodeIntFrame(f, Bytes(dense), Bytes(got), scratch, Destination::kCache)) return;
  ASSERT_EQ(got, expected) << "encode";
  got.assign(got.size(), std::byte{0xCD});
  ASSERT_TRUE(simd::EncodeIntFrame(f, Bytes(dense), Bytes(got), scratch, Destination::kMemory));
  ASSERT_EQ(got, expected) << "encode past the caches";
  std::vector<std::byte> back(shape.bytes()), back_expected(shape.bytes());
  DecodeIntFrameReference(f, Bytes(expected), Bytes(back_expected));
  ASSERT_TRUE(simd::DecodeIntFrame(f, Bytes(expected), Bytes(back), scratch, Destination::kMemory));
  ASSERT_EQ(back, back_expected) << "decode";
}

TEST(SameBits, IntOverRandomShapes) {
  ForEachTarget([] {
    auto rng = testing::Rng(30);
    for (int i = 0; i < 400; ++i) {
      const uint32_t groups[] = {0, 32, 64, 96, 128, 7};
      const IntSpec spec{std::vector<uint32_t>{8, 4, 3, 2}[rng() % 4], rng() % 2 == 0, groups[rng() % 6],
                         rng() % 3 == 0};
      const FrameShape shape{static_cast<uint32_t>(1 + rng() % 3), static_cast<uint32_t>(1 + rng() % 70),
                             static_cast<uint32_t>(32 * (1 + rng() % 7)),
                             rng() % 3 == 0 ? ElementType::kFloat16 : ElementType::kBfloat16};
      const Fill fill = testing::kAllFills[rng() % 7];
      SCOPED_TRACE("bits " + std::to_string(spec.bits) + (spec.by_channel ? " chan " : " tok ") +
                   std::to_string(spec.group) + (spec.symmetric ? " sym" : " asym") + " tokens " +
                   std::to_string(shape.tokens) + " dim " + std::to_string(shape.dim) + " fill " +
                   std::to_string(static_cast<int>(fill)));
      ASSERT_NO_FATAL_FAILURE(CompareInt(spec, shape, MakeFrame(shape, fill, rng)));
    }
  });
}

TEST(SameBits, IntOverEveryElementPattern) {
  ForEachTarget([] {
    for (const ElementType type : {ElementType::kBfloat16, ElementType::kFloat16}) {
      // Each pattern beside zero, so that it is the least or the greatest of its group, and alone in its group.
      for (const uint32_t tokens : {1u, 2u}) {
        const FrameShape shape{1, tokens, 65536, type};
        std::vector<std::byte> dense(shape.bytes());
        for (uint32_t i = 0; i < 65536; ++i) Store16(Bytes(dense) + 2 * i, i);
        for (const uint32_t bits : {8u, 3u}) {
          for (const bool symmetric : {false, true}) {
            ASSERT_NO_FATAL_FAILURE(CompareInt({bits, true, 0, symmetric}, shape, dense))
                << bits << symmetric << tokens;
            ASSERT_NO_FATAL_FAILURE(CompareInt({bits, false, 32, symmetric}, shape, dense))
                << bits << symmetric << tokens;
          }
        }
      }
    }
  });
}

TEST(SameBits, IntDecodeOfAnyParameters) {
  ForEachTarget([] {
    auto rng = testing::Rng(31);
    for (int i = 0; i < 200; ++i) {
      const IntSpec spec{std::vector<uint32_t>{8, 4, 3, 2}[rng() % 4], rng() % 2 == 0, 32, rng() % 2 == 0};
      const FrameShape shape{1, 40, 96, rng() % 2 == 0 ? ElementType::kFloat16 : ElementType::kBfloat16};
      const IntFrame f = LayOutIntFrame(spec, shape);
      std::vector<std::byte> frame(f.frame_bytes), scratch, got(shape.bytes()), expected(shape.bytes());
      for (std::byte& b : frame) b = static_cast<std::byte>(rng());
      for (uint64_t at = 0; at < f.codes_at; at += 2) {
        if (IsBadParameter(Load16(Bytes(frame) + at))) Store16(Bytes(frame) + at, Load16(Bytes(frame) + at) & 0xBFFF);
      }
      DecodeIntFrameReference(f, Bytes(frame), Bytes(expected));
      const bool done = simd::DecodeIntFrame(f, Bytes(frame), Bytes(got), scratch, Destination::kCache);
      ASSERT_TRUE(!done || got == expected);
    }
  });
}

TEST(SameBits, SplitExpChunks) {
  ForEachTarget([] {
    auto rng = testing::Rng(32);
    const SplitFormat format;
    const FrameShape shape{1, 8, 128};
    for (int i = 0; i < 500; ++i) {
      std::vector<std::byte> dense = MakeFrame(shape, testing::kAllFills[rng() % 7], rng);
      for (uint64_t n = rng() % 24; n > 0; --n) dense[rng() % dense.size()] = static_cast<std::byte>(rng());
      const uint32_t fixed_bytes = format.fixed_bytes(kSplitChunk), tail_bytes = format.stored_tail_bytes(kSplitChunk);
      std::vector<std::byte> fixed(fixed_bytes), tail(tail_bytes), got_fixed(fixed_bytes), got_tail(tail_bytes);
      const SplitChunk expected =
          EncodeSplitChunkReference(format, Bytes(dense), kSplitChunk, Bytes(fixed), Bytes(tail));
      SplitChunk got;
      const Destination destination = rng() % 2 == 0 ? Destination::kCache : Destination::kMemory;
      if (simd::EncodeSplitChunk(Bytes(dense), Bytes(got_fixed), Bytes(got_tail), got, destination)) {
        ASSERT_EQ(got.top, expected.top);
        ASSERT_EQ(got.mode, expected.mode);
        ASSERT_EQ(got.escapes, expected.escapes);
        ASSERT_EQ(got_fixed, fixed);
        ASSERT_EQ(std::memcmp(got_tail.data(), tail.data(), 3 * expected.escapes), 0);
      }
      SplitChunk any = expected;  // or a top that the encoder would not have chosen
      any.mode = 0;
      if (rng() % 2 == 0) any.top = static_cast<uint8_t>(rng());
      std::vector<std::byte> back(shape.bytes()), back_expected(shape.bytes());
      DecodeSplitChunkReference(format, any, Bytes(fixed), Bytes(tail), kSplitChunk, Bytes(back_expected));
      const bool done = simd::DecodeSplitChunk(Bytes(fixed), Bytes(tail), any, Bytes(back), destination);
      ASSERT_TRUE(!done || back == back_expected);
    }
  });
}

}  // namespace
}  // namespace kvasir
