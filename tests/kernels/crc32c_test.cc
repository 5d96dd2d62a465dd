// SPDX-License-Identifier: Apache-2.0
// Goal: Crc32c is the published function, folded, by instruction and by table, at every length and start.
// Method: RFC 3720's vectors; the bodies against each other; cut anywhere and continued.
#include "gtest/gtest.h"
#include "kernels/frame_directory.h"
#include "tests/support/seed.h"

namespace kvasir {
namespace {

std::span<const std::byte> Bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

TEST(Crc32c, PublishedVectors) {
  EXPECT_EQ(Crc32c(Bytes("123456789")), 0xE3069283u);
  EXPECT_EQ(Crc32c(Bytes(std::string(32, '\0'))), 0x8A9136AAu);
  EXPECT_EQ(Crc32c(Bytes(std::string(32, '\xFF'))), 0x62A8AB43u);
  EXPECT_EQ(Crc32c({}), 0u);
}

TEST(Crc32c, EveryBodyEqualsTheTableAndContinues) {
  auto rng = testing::Rng(2);
  std::vector<std::byte> data(40000);
  for (std::byte& b : data) b = static_cast<std::byte>(rng());
  for (int i = 0; i < 2000; ++i) {
    const size_t begin = rng() % 64;
    const size_t size = i < 1000 ? static_cast<size_t>(i) : rng() % (data.size() - begin);
    const std::span<const std::byte> span = std::span(data).subspan(begin, size);
    const uint32_t whole = Crc32c(span);
    ASSERT_EQ(whole, Crc32cByTable(span)) << begin << " " << size;
    ASSERT_EQ(whole, Crc32cByInstruction(span)) << begin << " " << size;
    const size_t cut = size == 0 ? 0 : rng() % size;
    ASSERT_EQ(whole, Crc32c(span.subspan(cut), Crc32c(span.first(cut)))) << cut << " of " << size;
  }
}

}  // namespace
}  // namespace kvasir
