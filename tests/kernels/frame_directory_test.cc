// SPDX-License-Identifier: Apache-2.0
// Goal: no directory passes whose offsets could lead anywhere but to its own frames. Method: a good one, then each
// field of each entry damaged; the message names entry and field.
#include "kernels/frame_directory.h"

#include "gtest/gtest.h"
#include "tests/support/seed.h"

namespace kvasir {
namespace {

std::vector<FrameEntry> Good() { return {{0, 100, 7, 0}, {112, 16, 8, 0}, {128, 0, 0, 0}, {128, 1, 9, 2}}; }
constexpr uint64_t kGoodArea = 144;

TEST(FrameDirectory, GoodOnesPass) {
  EXPECT_TRUE(CheckDirectory(Good(), kGoodArea).ok());
  EXPECT_EQ(FrameAreaBytes(Good()), kGoodArea);
  EXPECT_TRUE(CheckDirectory({}, 0).ok());
  EXPECT_EQ(FrameAreaBytes({}), 0u);
}

TEST(FrameDirectory, EachDamagedFieldIsNamed) {
  for (size_t i = 0; i < Good().size(); ++i) {
    for (const uint32_t delta : {1u, 16u, 0x80000000u, 0xFFFFFFF0u}) {
      std::vector<FrameEntry> bad = Good();
      bad[i].offset += delta;
      Result<bool> checked = CheckDirectory(bad, kGoodArea);
      ASSERT_FALSE(checked.ok()) << i << " " << delta;
      EXPECT_EQ(checked.error().code, ErrorCode::kDataLoss);
      EXPECT_NE(checked.error().message.find("entry " + std::to_string(i)), std::string::npos)
          << checked.error().message;
      EXPECT_NE(checked.error().message.find("offset"), std::string::npos) << checked.error().message;
    }
    for (const uint32_t delta : {16u, 0x40000000u, 0xFFFFFF00u}) {
      std::vector<FrameEntry> bad = Good();
      bad[i].length += delta;
      ASSERT_FALSE(CheckDirectory(bad, kGoodArea).ok()) << i << " " << delta;
    }
  }
  std::vector<FrameEntry> bad = Good();
  bad[2].crc32c = 1;
  EXPECT_FALSE(CheckDirectory(bad, kGoodArea).ok());
}

TEST(FrameDirectory, TheAreaMustFit) {
  EXPECT_FALSE(CheckDirectory(Good(), kGoodArea - 16).ok());
  EXPECT_FALSE(CheckDirectory(Good(), kGoodArea + 16).ok());
  EXPECT_FALSE(CheckDirectory({}, 16).ok());
  const std::vector<FrameEntry> many(kFramesPerPartMax + 1);
  EXPECT_FALSE(CheckDirectory(many, 0).ok());
}

TEST(FrameDirectory, WhatPassesStaysInside) {
  auto rng = testing::Rng(3);
  for (int i = 0; i < 20000; ++i) {
    std::vector<FrameEntry> entries = Good();
    uint32_t* words = reinterpret_cast<uint32_t*>(entries.data());
    words[rng() % (entries.size() * 4)] = static_cast<uint32_t>(rng() % 200);
    if (!CheckDirectory(entries, kGoodArea).ok()) continue;
    for (const FrameEntry& e : entries) ASSERT_LE(uint64_t{e.offset} + e.length, kGoodArea);
  }
}

}  // namespace
}  // namespace kvasir
