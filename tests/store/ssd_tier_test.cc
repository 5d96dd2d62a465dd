// SPDX-License-Identifier: Apache-2.0
// Goal: what is appended is read back, across restarts, and space comes back without a lie. Method: parts whose bytes
// follow from their number, a small directory, every way the disk can be spoken to.
#include "store/tiers/ssd_tier.h"

#include <gtest/gtest.h>

#include <future>
#include <map>
#include <mutex>
#include <set>

#include "store/tiers/ssd_tier_impl.h"
#include "tests/store/ssd_testing.h"
#include "tests/support/seed.h"

namespace kvasir {
namespace {

using testing::Append;
using testing::CheckBytes;
using testing::MakePart;
using testing::PutValue;
using testing::Read;
using testing::ReadAndCheck;
using testing::SegmentFileBytes;
using testing::SmallOptions;
using testing::TempDirectory;
using testing::TestPart;

std::unique_ptr<SsdTier> MustOpen(const SsdOptions& options, SsdTier::Recovered* recovered = nullptr) {
  absl::StatusOr<std::unique_ptr<SsdTier>> tier = SsdTier::Open(options, recovered);
  EXPECT_TRUE(tier.ok()) << tier.status();
  return tier.ok() ? *std::move(tier) : nullptr;
}

/// The contract over every body of the disk: "" is SsdTier's own choice.
enum class Disk { kChosen, kPwrite, kMemoryFileSystem };
class SsdTierContract : public ::testing::TestWithParam<Disk> {
 protected:
  SsdTierContract()
      : directory_(GetParam() == Disk::kMemoryFileSystem ? testing::FastDirectory() : ""),
        options_(SmallOptions(directory_.path())) {}

  std::unique_ptr<SsdTier> Open(SsdTier::Recovered* recovered = nullptr) {
    if (GetParam() == Disk::kChosen) return MustOpen(options_, recovered);
    absl::StatusOr<std::unique_ptr<SsdTier>> tier = OpenWithDisk(options_, MakePwriteDisk(), recovered);
    EXPECT_TRUE(tier.ok()) << tier.status();
    return tier.ok() ? *std::move(tier) : nullptr;
  }

  TempDirectory directory_;
  SsdOptions options_;
};
INSTANTIATE_TEST_SUITE_P(Disks, SsdTierContract,
                         ::testing::Values(Disk::kChosen, Disk::kPwrite, Disk::kMemoryFileSystem));

TEST_P(SsdTierContract, GivesBackEverySizeNowAndAfterARestart) {
  options_.bytes_max = 64 << 20;
  options_.segment_bytes = 8 << 20;
  const std::vector<uint64_t> sizes = {2,    3,     4000,    4096 - 300,    4096,
                                       4097, 65536, 1 << 20, (1 << 20) + 1, (3 << 20) + 77};
  std::map<size_t, SsdLocation> locations;
  {
    auto tier = Open();
    for (size_t i = 0; i < sizes.size(); ++i) {
      const TestPart part = MakePart(i, i + 1, sizes[i]);
      const auto location = Append(*tier, part, i % 2 == 0);
      ASSERT_TRUE(location.ok()) << location.status();
      locations[i] = *location;
      const auto bytes = Read(*tier, *location, part.meta.bytes);
      ASSERT_TRUE(bytes.ok()) << bytes.status();
      EXPECT_TRUE(*bytes == part.bytes) << "size " << sizes[i];
    }
    EXPECT_EQ(tier->Status().parts, sizes.size());
    EXPECT_FALSE(tier->Status().read_only);
  }
  SsdTier::Recovered recovered;
  auto tier = Open(&recovered);
  EXPECT_EQ(recovered.parts.size(), sizes.size());
  EXPECT_EQ(recovered.dropped, 0u);
  EXPECT_EQ(recovered.generation_max, sizes.size());
  EXPECT_EQ(recovered.note, "");
  for (const RecoveredPart& found : recovered.parts) {
    const TestPart part = MakePart(found.meta.block_index, found.meta.generation, sizes[found.meta.block_index]);
    EXPECT_EQ(found.location, locations[found.meta.block_index]);
    EXPECT_TRUE(found.meta.id == part.meta.id && found.meta.parent == part.meta.parent &&
                found.meta.domain == part.meta.domain && found.meta.ns == part.meta.ns &&
                found.meta.shard == part.meta.shard && found.meta.token_count == part.meta.token_count &&
                found.meta.bytes == part.meta.bytes && found.meta.frames_offset == part.meta.frames_offset);
    const auto bytes = Read(*tier, found.location, part.meta.bytes);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    EXPECT_TRUE(*bytes == part.bytes);
  }
}

/// Planes of one cell are parts of their own: none replaces, drops or stands for another.
TEST_P(SsdTierContract, KeepsPlanesApart) {
  std::map<uint16_t, SsdLocation> locations;
  {
    auto tier = Open();
    for (const uint16_t plane : {1, 0, 2}) {
      const auto location = Append(*tier, MakePart(4, 10 + plane, 3000, plane), true);
      ASSERT_TRUE(location.ok()) << location.status();
      locations[plane] = *location;
    }
    const std::pair<PartId, SsdLocation> dropped{MakePart(4, 12, 3000, 2).meta.id, locations[2]};
    tier->Drop({&dropped, 1});
  }
  SsdTier::Recovered recovered;
  auto tier = Open(&recovered);
  ASSERT_EQ(recovered.parts.size(), 2u);
  EXPECT_EQ(recovered.dropped, 0u);
  for (const RecoveredPart& found : recovered.parts) {
    const uint16_t plane = found.meta.id.plane;
    const TestPart part = MakePart(4, 10 + plane, 3000, plane);
    EXPECT_EQ(found.meta.id, part.meta.id);
    EXPECT_EQ(found.location, locations[plane]);
    EXPECT_TRUE(ReadAndCheck(*tier, part.meta, found.location).ok()) << plane;
  }
}

TEST_P(SsdTierContract, ReadsIntoAlignedMemoryToo) {
  options_.bytes_max = 32 << 20;
  options_.segment_bytes = 8 << 20;
  auto tier = Open();
  for (uint64_t size : {uint64_t{5000}, uint64_t{3 << 20} + 5, uint64_t{4096} * 3 - 304}) {
    const TestPart part = MakePart(size, 1, size);
    const auto location = Append(*tier, part, false);
    ASSERT_TRUE(location.ok()) << location.status();
    AlignedBuffer into(part.meta.bytes);
    std::promise<absl::Status> answer;
    tier->Read(*location, {into.data(), part.meta.bytes},
               [&](absl::Status status) { answer.set_value(std::move(status)); });
    ASSERT_TRUE(answer.get_future().get().ok());
    EXPECT_TRUE(std::equal(part.bytes.begin(), part.bytes.end(), into.data()));
  }
}

TEST_P(SsdTierContract, DropsForgetAndStaleLocationsAreLeftAlone) {
  const TestPart old_copy = MakePart(1, 1, 100), new_copy = MakePart(1, 2, 100), other = MakePart(2, 3, 100);
  SsdLocation kept;
  {
    auto tier = Open();
    const auto stale = Append(*tier, old_copy, true), fresh = Append(*tier, new_copy, true);
    const auto dropped = Append(*tier, other, true);
    ASSERT_TRUE(stale.ok() && fresh.ok() && dropped.ok());
    const std::pair<PartId, SsdLocation> drops[] = {{old_copy.meta.id, *stale}, {other.meta.id, *dropped}};
    tier->Drop(drops);
    ASSERT_TRUE(PutValue(*tier, "behind", "the drop").ok());  // in order: the drop has been carried out
    EXPECT_EQ(tier->Status().parts, 1u);
    EXPECT_EQ(tier->Status().live, kBlockBytes);
    kept = *fresh;
  }
  SsdTier::Recovered recovered;
  auto tier = Open(&recovered);
  ASSERT_EQ(recovered.parts.size(), 1u);
  EXPECT_EQ(recovered.parts[0].meta.generation, 2u);
  EXPECT_EQ(recovered.parts[0].location, kept);
}

TEST_P(SsdTierContract, ValuesAreReplacedAndKept) {
  {
    auto tier = Open();
    ASSERT_TRUE(PutValue(*tier, "view/1", "first").ok());
    ASSERT_TRUE(PutValue(*tier, "view/1", std::string("sec\0nd", 6)).ok());
    ASSERT_TRUE(PutValue(*tier, "", "").ok());
  }
  SsdTier::Recovered recovered;
  auto tier = Open(&recovered);
  ASSERT_EQ(recovered.values.size(), 2u);
  EXPECT_EQ(recovered.values[0].name, "");
  EXPECT_EQ(recovered.values[1].name, "view/1");
  EXPECT_EQ(recovered.values[1].value, std::string("sec\0nd", 6));
}

TEST_P(SsdTierContract, SpaceIsReusedNeverExceededAndEvictionsAreReported) {
  std::map<uint64_t, std::pair<TestPart, SsdLocation>> held;
  std::mutex mutex;
  std::vector<PartId> evicted;
  auto tier = Open();
  tier->OnEvicted([&](std::vector<PartId> parts) {
    std::lock_guard lock(mutex);
    evicted.insert(evicted.end(), parts.begin(), parts.end());
  });
  auto rng = testing::Rng(7);
  for (uint64_t number = 0; number < 400; ++number) {
    TestPart part = MakePart(number, number + 1, 2 + rng() % 20000);
    const auto location = Append(*tier, part, number % 8 == 0);
    ASSERT_TRUE(location.ok()) << location.status();
    held[number] = {std::move(part), *location};
    ASSERT_LE(SegmentFileBytes(directory_.path()), options_.bytes_max);
  }
  EXPECT_GT(evicted.size(), 0u);
  std::set<PartId> gone(evicted.begin(), evicted.end());
  EXPECT_EQ(gone.size(), evicted.size()) << "reported twice";
  uint64_t live = 0, live_bytes = 0;
  for (const auto& [number, entry] : held) {
    const auto& [part, location] = entry;
    const absl::Status status = ReadAndCheck(*tier, part.meta, location);
    EXPECT_EQ(status.ok(), gone.count(part.meta.id) == 0) << number << ": " << status;
    EXPECT_TRUE(status.ok() || absl::IsDataLoss(status)) << status;
    live += status.ok() ? 1 : 0;
    live_bytes += status.ok() ? PadToBlock(part.meta.bytes) : 0;
  }
  EXPECT_EQ(tier->Status().parts, live);
  EXPECT_EQ(tier->Status().live, live_bytes);
  tier.reset();
  SsdTier::Recovered recovered;
  tier = Open(&recovered);
  EXPECT_EQ(recovered.parts.size(), live);
  EXPECT_EQ(recovered.dropped, 0u);
}

TEST_P(SsdTierContract, ASegmentThatIsReadIsNotReused) {
  // Readers go round while a writer pushes everything out: each read gives the right bytes, or says that they are gone.
  auto tier = Open();
  std::atomic<uint64_t> wrong{0}, right{0}, open_reads{0};
  for (uint64_t number = 0; number < 300; ++number) {
    const TestPart part = MakePart(number, number + 1, 12000);
    const auto location = Append(*tier, part, false);
    ASSERT_TRUE(location.ok()) << location.status();
    for (int copy = 0; copy < 4; ++copy) {
      auto into = std::make_shared<std::vector<std::byte>>(part.meta.bytes);
      ++open_reads;
      tier->Read(*location, *into, [&, into, meta = part.meta](absl::Status status) {
        if (status.ok()) ++(CheckBytes(meta, *into).ok() ? right : wrong);
        --open_reads;
        open_reads.notify_all();
      });
    }
  }
  for (uint64_t left = open_reads; left != 0; left = open_reads) open_reads.wait(left);
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(right, 0u);
}

TEST(SsdTier, SaysHowItSpeaksToTheDisk) {
  TempDirectory directory;
  auto tier = MustOpen(SmallOptions(directory.path()));
  const std::string io = tier->Status().io;
  EXPECT_TRUE(io.starts_with("io_uring, ") || io.starts_with("pread/pwrite (io_uring: ")) << io;
  EXPECT_TRUE(io.ends_with(", O_DIRECT") || io.ends_with(", buffered")) << io;
  std::printf("disk: %s\n", io.c_str());
}

TEST(SsdTier, ACarelessCopyOfADurablePartIsDurableToo) {
  TempDirectory directory;
  std::atomic<uint64_t> count{0};
  uint64_t syncs = 0;
  const auto count_syncs = [&](uint64_t, const DiskOp& op) {
    syncs += op.kind == DiskOp::Kind::kSync ? 1 : 0;
    return testing::FaultyDisk::Verdict{};
  };
  auto tier =
      OpenWithDisk(SmallOptions(directory.path()), std::make_unique<testing::FaultyDisk>(count_syncs, &count), nullptr);
  ASSERT_TRUE(tier.ok());
  ASSERT_TRUE(Append(**tier, MakePart(1, 1, 100), true).ok());
  const uint64_t before = syncs;
  ASSERT_TRUE(Append(**tier, MakePart(2, 2, 100), false).ok());
  EXPECT_EQ(syncs, before);
  ASSERT_TRUE(Append(**tier, MakePart(1, 3, 100), false).ok());
  EXPECT_EQ(syncs, before + 1);
}

TEST(SsdTier, RefusesWhatCannotBe) {
  TempDirectory directory;
  SsdOptions options = SmallOptions(directory.path());
  auto tier = MustOpen(options);
  EXPECT_TRUE(absl::IsInvalidArgument(Append(*tier, MakePart(1, 1, 100000), false).status()));  // > segment
  TestPart part = MakePart(1, 1, 100);
  part.meta.bytes += 1;
  EXPECT_TRUE(absl::IsInvalidArgument(Append(*tier, part, false).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(PutValue(*tier, std::string(5000, 'n'), "")));
  EXPECT_TRUE(absl::IsDataLoss(Read(*tier, {}, 100).status()));
  EXPECT_TRUE(absl::IsDataLoss(Read(*tier, {1, 1, 4096}, 100).status()));
  const auto location = Append(*tier, MakePart(1, 1, 100), false);
  ASSERT_TRUE(location.ok());
  EXPECT_TRUE(
      absl::IsDataLoss(Read(*tier, {location->segment, location->incarnation + 1, location->offset}, 100).status()));
  EXPECT_TRUE(
      absl::IsDataLoss(Read(*tier, {location->segment, location->incarnation, location->offset + 4096}, 100).status()));
  EXPECT_TRUE(absl::IsDataLoss(Read(*tier, {location->segment, location->incarnation, 0}, 100).status()));
  EXPECT_TRUE(absl::IsDataLoss(Read(*tier, *location, 5000).status()));
  options.bytes_max = 1000;
  EXPECT_TRUE(absl::IsInvalidArgument(SsdTier::Open(options, nullptr).status()));
}

TEST(SsdTier, QueuesAreBounded) {
  // The writer stands still inside its first write; exactly queued_max more may wait.
  TempDirectory directory;
  SsdOptions options = SmallOptions(directory.path());
  options.queued_max = 3;
  std::atomic<uint64_t> count{0};
  std::promise<void> entered, leave;
  std::shared_future<void> may_leave = leave.get_future().share();
  bool first = true;
  const auto hold = [&](uint64_t, const DiskOp& op) {
    if (op.kind == DiskOp::Kind::kWrite && op.offset > 0 && std::exchange(first, false)) {
      entered.set_value();
      may_leave.wait();
    }
    return testing::FaultyDisk::Verdict{};
  };
  auto tier = OpenWithDisk(options, std::make_unique<testing::FaultyDisk>(hold, &count), nullptr);
  ASSERT_TRUE(tier.ok());
  std::vector<TestPart> parts;
  for (uint64_t i = 0; i < 5; ++i) parts.push_back(MakePart(i, i + 1, 100));
  std::vector<std::promise<absl::Status>> answers(5);
  const auto append = [&](size_t i) {
    (*tier)->Append(parts[i].meta, parts[i].bytes, false,
                    [&answers, i](absl::StatusOr<SsdLocation> location) { answers[i].set_value(location.status()); });
  };
  append(0);
  entered.get_future().wait();
  for (size_t i = 1; i < 5; ++i) append(i);
  EXPECT_TRUE(absl::IsResourceExhausted(answers[4].get_future().get()));
  leave.set_value();
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(answers[i].get_future().get().ok()) << i;
}

TEST(SsdTier, EveryAnswerComesOnceWhenItCloses) {
  TempDirectory directory;
  std::atomic<uint64_t> answers{0};
  std::vector<TestPart> parts;
  for (uint64_t i = 0; i < 200; ++i) parts.push_back(MakePart(i, i + 1, 5000));
  {
    SsdOptions options = SmallOptions(directory.path());
    options.group_commit = std::chrono::milliseconds(1);
    auto tier = MustOpen(options);
    for (const TestPart& part : parts) {
      tier->Append(part.meta, part.bytes, true, [&](absl::StatusOr<SsdLocation>) { ++answers; });
      tier->PutValue({"n", "v"}, [&](absl::Status) { ++answers; });
    }
  }
  EXPECT_EQ(answers, 2 * parts.size());
}

}  // namespace
}  // namespace kvasir
