// SPDX-License-Identifier: Apache-2.0
// Goal: whatever happens to the files of a closed tier, it opens again, keeps what is whole, drops and counts the rest,
// and goes on. Method: every kind of damage to segments and to each file of the index, on copies of one directory.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "store/tiers/ssd_segment_file.h"
#include "store/tiers/ssd_tier.h"
#include "tests/store/ssd_testing.h"
#include "tests/support/seed.h"

namespace kvasir {
namespace {

using testing::Append;
using testing::FlipByte;
using testing::MakePart;
using testing::PutValue;
using testing::ReadAndCheck;
using testing::SegmentFileBytes;
using testing::SmallOptions;
using testing::TempDirectory;

constexpr uint64_t kParts = 60;
constexpr uint64_t kAreaBytes = 9000;  // three blocks a part: five parts a segment

/// A directory of kParts parts, closed. `locations` by number.
class SsdRecovery : public ::testing::Test {
 protected:
  SsdRecovery() : directory_(testing::FastDirectory()), options_(SmallOptions(directory_.path())) {
    // Two lives: the index has both a table and a log.
    for (uint64_t life = 0; life < 2; ++life) {
      auto tier = SsdTier::Open(options_, nullptr);
      EXPECT_TRUE(tier.ok()) << tier.status();
      for (uint64_t number = life * kParts / 2; number < (life + 1) * kParts / 2; ++number) {
        const auto location = Append(**tier, MakePart(number, number + 1, kAreaBytes), number % 2 == 0);
        EXPECT_TRUE(location.ok()) << location.status();
        if (location.ok()) locations_[number] = *location;
      }
    }
  }

  std::string Segment(uint32_t id) const { return SegmentPath(directory_.path() + "/segments", id); }
  uint64_t PartsIn(uint32_t id) const {
    uint64_t count = 0;
    for (const auto& [number, location] : locations_) count += location.segment == id ? 1 : 0;
    return count;
  }

  /// Opens, checks every part that recovery vouches for, lets the tier work on, and once more.
  SsdTier::Recovered OpenAndUse() {
    SsdTier::Recovered recovered;
    auto tier = SsdTier::Open(options_, &recovered);
    EXPECT_TRUE(tier.ok()) << tier.status();
    if (!tier.ok()) return recovered;
    std::set<PartId> evicted;  // written by the tier's writer, before the answer that is waited for
    (*tier)->OnEvicted([&](std::vector<PartId> parts) { evicted.insert(parts.begin(), parts.end()); });
    EXPECT_FALSE((*tier)->Status().read_only) << (*tier)->Status().cause;
    for (const RecoveredPart& part : recovered.parts) {
      EXPECT_TRUE(ReadAndCheck(**tier, part.meta, part.location).ok());
    }
    const auto fresh = MakePart(1000, 1000, kAreaBytes);
    const auto location = Append(**tier, fresh, true);
    EXPECT_TRUE(location.ok()) << location.status();
    EXPECT_TRUE(location.ok() && ReadAndCheck(**tier, fresh.meta, *location).ok());
    EXPECT_LE(SegmentFileBytes(directory_.path()), options_.bytes_max);
    // What was there before is still what it was, or was evicted for the new one.
    for (const RecoveredPart& part : recovered.parts) {
      EXPECT_EQ(ReadAndCheck(**tier, part.meta, part.location).ok(), evicted.count(part.meta.id) == 0);
    }
    tier->reset();
    SsdTier::Recovered again;
    tier = SsdTier::Open(options_, &again);
    EXPECT_TRUE(tier.ok()) << tier.status();
    EXPECT_EQ(again.parts.size(), recovered.parts.size() - evicted.size() + 1);
    EXPECT_EQ(again.dropped, 0u) << "what was dropped stays dropped";
    return recovered;
  }

  TempDirectory directory_;
  SsdOptions options_;
  std::map<uint64_t, SsdLocation> locations_;
};

TEST_F(SsdRecovery, KeepsAllOfAWholeDirectory) {
  const SsdTier::Recovered recovered = OpenAndUse();
  EXPECT_EQ(recovered.parts.size(), kParts);
  EXPECT_EQ(recovered.dropped, 0u);
  EXPECT_EQ(recovered.generation_max, kParts);
}

TEST_F(SsdRecovery, DropsAPartWithADamagedHeader) {
  FlipByte(Segment(locations_[7].segment), locations_[7].offset + 20);
  const SsdTier::Recovered recovered = OpenAndUse();
  EXPECT_EQ(recovered.parts.size(), kParts - 1);
  EXPECT_EQ(recovered.dropped, 1u);
  for (const RecoveredPart& part : recovered.parts) EXPECT_NE(part.meta.block_index, 7u);
}

TEST_F(SsdRecovery, ADamagedFrameIsFoundByItsReader) {
  FlipByte(Segment(locations_[7].segment), locations_[7].offset + 5000);
  SsdTier::Recovered recovered;
  auto tier = SsdTier::Open(options_, &recovered);
  ASSERT_TRUE(tier.ok());
  EXPECT_EQ(recovered.parts.size(), kParts);
  for (const RecoveredPart& part : recovered.parts) {
    EXPECT_EQ(ReadAndCheck(**tier, part.meta, part.location).ok(), part.meta.block_index != 7);
  }
}

TEST_F(SsdRecovery, DropsWhatATruncatedSegmentLost) {
  const uint32_t segment = locations_[7].segment;
  for (uint64_t bytes : {uint64_t{40000}, uint64_t{30000}, kBlockBytes, uint64_t{100}, uint64_t{0}}) {
    std::filesystem::resize_file(Segment(segment), bytes);
    uint64_t lost = 0;
    for (const auto& [number, location] : locations_) {
      lost += location.segment == segment && location.offset + 3 * kBlockBytes > bytes ? 1 : 0;
    }
    SsdTier::Recovered recovered;
    auto tier = SsdTier::Open(options_, &recovered);
    ASSERT_TRUE(tier.ok()) << tier.status();
    EXPECT_EQ(recovered.parts.size(), kParts - lost) << bytes;
    for (const RecoveredPart& part : recovered.parts) {
      EXPECT_TRUE(ReadAndCheck(**tier, part.meta, part.location).ok());
    }
    if (!std::filesystem::exists(Segment(segment))) break;  // empty and of an odd size: removed
  }
  OpenAndUse();
}

TEST_F(SsdRecovery, DropsWhatAMissingSegmentHeld) {
  std::filesystem::remove(Segment(2));
  const SsdTier::Recovered recovered = OpenAndUse();
  EXPECT_EQ(recovered.parts.size(), kParts - PartsIn(2));
  EXPECT_EQ(recovered.dropped, PartsIn(2));
}

TEST_F(SsdRecovery, FindsOutSwappedSegments) {
  std::filesystem::rename(Segment(1), Segment(99));
  std::filesystem::rename(Segment(3), Segment(1));
  std::filesystem::rename(Segment(99), Segment(3));
  const uint64_t lost = PartsIn(1) + PartsIn(3);
  SsdTier::Recovered recovered;
  {
    auto tier = SsdTier::Open(options_, &recovered);
    ASSERT_TRUE(tier.ok());
    EXPECT_EQ(recovered.dropped, lost);
    // The first reuses of their space: the old locations name nothing.
    for (uint64_t number = 200; number < 212; ++number) {
      ASSERT_TRUE(Append(**tier, MakePart(number, number, kAreaBytes), false).ok());
    }
    for (const auto& [number, location] : locations_) {
      const bool gone = location.segment == 1 || location.segment == 3;
      EXPECT_EQ(ReadAndCheck(**tier, MakePart(number, number + 1, kAreaBytes).meta, location).ok(), !gone) << number;
    }
  }
  OpenAndUse();
}

TEST_F(SsdRecovery, DropsAllOfASegmentWithADamagedHeader) {
  for (uint64_t at : {0, 4, 8, 12, 16, 24, 36}) FlipByte(Segment(2), at);
  const SsdTier::Recovered recovered = OpenAndUse();
  EXPECT_EQ(recovered.dropped, PartsIn(2));
}

TEST_F(SsdRecovery, FitsALowerLimit) {
  options_.bytes_max = 512 << 10;
  const SsdTier::Recovered recovered = OpenAndUse();
  EXPECT_EQ(recovered.parts.size() + recovered.dropped, kParts);
  EXPECT_GT(recovered.dropped, 0u);
  EXPECT_GT(recovered.parts.size(), kParts / 4);
}

TEST_F(SsdRecovery, SegmentsOfAnotherSizeAreReadAndThenReplaced) {
  options_.segment_bytes = 128 << 10;
  {
    SsdTier::Recovered recovered;
    auto tier = SsdTier::Open(options_, &recovered);
    ASSERT_TRUE(tier.ok());
    EXPECT_EQ(recovered.parts.size(), kParts);
    for (uint64_t number = 200; number < 300; ++number) {
      const auto part = MakePart(number, number, kAreaBytes);
      const auto location = Append(**tier, part, false);
      ASSERT_TRUE(location.ok()) << location.status();
      ASSERT_TRUE(ReadAndCheck(**tier, part.meta, *location).ok());
      ASSERT_LE(SegmentFileBytes(directory_.path()), options_.bytes_max);
    }
  }
  for (const std::string& file : testing::SegmentFiles(directory_.path())) {
    EXPECT_EQ(std::filesystem::file_size(file), options_.segment_bytes);
  }
  OpenAndUse();
}

/// Each file of the index, damaged in each way.
enum class Damage { kDelete, kEmpty, kHalf, kFlip, kGarbage };
class SsdIndexDamage : public SsdRecovery, public ::testing::WithParamInterface<Damage> {};
INSTANTIATE_TEST_SUITE_P(Ways, SsdIndexDamage,
                         ::testing::Values(Damage::kDelete, Damage::kEmpty, Damage::kHalf, Damage::kFlip,
                                           Damage::kGarbage));

void Apply(Damage damage, const std::string& path) {
  const uint64_t bytes = std::filesystem::file_size(path);
  if (damage == Damage::kDelete) std::filesystem::remove(path);
  if (damage == Damage::kEmpty) std::filesystem::resize_file(path, 0);
  if (damage == Damage::kHalf) std::filesystem::resize_file(path, bytes / 2);
  if (damage == Damage::kFlip && bytes > 0) FlipByte(path, bytes / 2);
  if (damage == Damage::kGarbage) {
    auto rng = testing::Rng(bytes);
    std::string garbage(bytes, '\0');
    for (char& c : garbage) c = static_cast<char>(rng());
    std::ofstream(path, std::ios::binary) << garbage;
  }
}

TEST_P(SsdIndexDamage, NeverKeepsTheTierFromOpening) {
  TempDirectory whole(testing::FastDirectory());
  std::filesystem::copy(directory_.path(), whole.path(), std::filesystem::copy_options::recursive);
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(whole.path() + "/index"))
    names.push_back(entry.path().filename());
  ASSERT_GE(names.size(), 4u);
  for (const std::string& name : names) {
    std::filesystem::remove_all(directory_.path());
    std::filesystem::copy(whole.path(), directory_.path(), std::filesystem::copy_options::recursive);
    Apply(GetParam(), directory_.path() + "/index/" + name);
    const SsdTier::Recovered recovered = OpenAndUse();
    EXPECT_LE(recovered.parts.size(), kParts);
    std::printf("  %-20s parts %zu of %zu, dropped %zu %s\n", name.c_str(), recovered.parts.size(),
                static_cast<size_t>(kParts), static_cast<size_t>(recovered.dropped), recovered.note.c_str());
  }
}

}  // namespace
}  // namespace kvasir
