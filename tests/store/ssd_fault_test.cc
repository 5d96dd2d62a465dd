// SPDX-License-Identifier: Apache-2.0
// Goal: whichever disk operation fails, and however: no crash, no wrong byte, no hang; what was acknowledged as durable
// is there after a clean restart. Method: one script of work, run again and again with the k-th operation failing, for
// k = 1, 2, ... until a run meets no failure; the same for recovery.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "store/tiers/ssd_tier_impl.h"
#include "tests/store/ssd_testing.h"
#include "tests/support/seed.h"

namespace kvasir {
namespace {

using testing::Append;
using testing::FaultyDisk;
using testing::MakePart;
using testing::PutValue;
using testing::ReadAndCheck;
using testing::SmallOptions;
using testing::TempDirectory;
using testing::TestPart;

enum class Fault { kError, kNoSpace, kShort };
/// From the k-th on, one operation or all.
enum class Lasting { kOnce, kForever };

FaultyDisk::Decide FailAt(uint64_t k, Fault fault, Lasting lasting) {
  return [=](uint64_t number, const DiskOp& op) -> FaultyDisk::Verdict {
    if (lasting == Lasting::kOnce ? number != k : number < k) return {};
    if (fault == Fault::kError) return {true, -EIO};
    const bool writes = op.kind == DiskOp::Kind::kWrite || op.kind == DiskOp::Kind::kAllocate;
    if (!writes) return {};  // reads and syncs need no space
    if (fault == Fault::kNoSpace || op.kind == DiskOp::Kind::kAllocate) return {true, -ENOSPC};
    // Half of it is written, and the rest is not.
    DiskOp half = op;
    half.bytes /= 2;
    return {true, half.bytes % kBlockBytes == 0 ? RunPlainly(half) : 0};
  };
}

SsdOptions TinyOptions(const std::string& directory) {
  SsdOptions options = SmallOptions(directory);
  options.bytes_max = 6 * 5 * kBlockBytes;  // six segments of four small parts: room runs short within the script
  options.segment_bytes = 5 * kBlockBytes;
  options.disk_threads = 1;
  return options;
}

/// What one run of the script was promised.
struct Promises {
  std::map<uint64_t, TestPart> durable;  ///< by number: must be there
  bool value = false;
  bool read_only = false;
  bool refused = false;  ///< something failed
};

/// Appends (every other one durable), replacements, drops, evictions, reads, a value. Never asserts that a call
/// succeeds: only that what it says is true.
Promises RunScript(SsdTier& tier) {
  Promises promises;
  std::mutex mutex;
  std::set<PartId> evicted;
  tier.OnEvicted([&](std::vector<PartId> parts) {
    std::lock_guard lock(mutex);
    evicted.insert(parts.begin(), parts.end());
  });
  std::map<uint64_t, std::pair<TestPart, SsdLocation>> held;
  for (uint64_t step = 0; step < 32; ++step) {
    const uint64_t number = step % 12 == 11 ? step - 3 : step;  // now and then an old one again
    TestPart part = MakePart(number, step + 1, step % 7 == 0 ? 7000 : 500);
    {
      std::lock_guard lock(mutex);
      evicted.erase(part.meta.id);
    }
    const auto location = Append(tier, part, step % 2 == 0);
    promises.refused |= !location.ok();
    if (!location.ok()) continue;
    if (step % 2 == 0 || promises.durable.count(number) == 1) promises.durable[number] = part;
    held[number] = {std::move(part), *location};
    if (step % 5 == 4) {
      const auto& [dropped, where] = held.begin()->second;
      const std::pair<PartId, SsdLocation> drop[] = {{dropped.meta.id, where}};
      tier.Drop(drop);
      promises.durable.erase(held.begin()->first);
      held.erase(held.begin());
    }
  }
  promises.value = PutValue(tier, "name", "value").ok();
  for (const auto& [number, entry] : held) {
    const auto& [part, location] = entry;
    const auto bytes = testing::Read(tier, location, part.meta.bytes);
    // A location that was evicted says so; any bytes that are given are the right ones.
    EXPECT_TRUE(!bytes.ok() || *bytes == part.bytes) << number;
    std::lock_guard lock(mutex);
    if (evicted.count(part.meta.id) == 1) promises.durable.erase(number);
  }
  promises.read_only = tier.Status().read_only;
  EXPECT_EQ(promises.read_only, !tier.Status().cause.empty());
  return promises;
}

void ExpectKept(const Promises& promises, const std::string& directory, uint64_t k) {
  SsdTier::Recovered recovered;
  auto tier = SsdTier::Open(TinyOptions(directory), &recovered);
  ASSERT_TRUE(tier.ok()) << "k = " << k << ": " << tier.status();
  std::map<PartId, RecoveredPart> found;
  for (const RecoveredPart& part : recovered.parts) {
    found[part.meta.id] = part;
    EXPECT_TRUE(ReadAndCheck(**tier, part.meta, part.location).ok()) << "k = " << k;
  }
  for (const auto& [number, part] : promises.durable) {
    const auto entry = found.find(part.meta.id);
    ASSERT_TRUE(entry != found.end()) << "k = " << k << ": durable part " << number << " is lost";
    const auto bytes = testing::Read(**tier, entry->second.location, part.meta.bytes);
    EXPECT_TRUE(bytes.ok() && *bytes == part.bytes) << "k = " << k << ": durable part " << number << " changed";
  }
  EXPECT_TRUE(!promises.value || recovered.values.size() == 1) << "k = " << k;
  EXPECT_LE(testing::SegmentFileBytes(directory), TinyOptions(directory).bytes_max);
}

class SsdFault : public ::testing::TestWithParam<std::tuple<Fault, Lasting>> {};
INSTANTIATE_TEST_SUITE_P(Kinds, SsdFault,
                         ::testing::Combine(::testing::Values(Fault::kError, Fault::kNoSpace, Fault::kShort),
                                            ::testing::Values(Lasting::kOnce, Lasting::kForever)));

TEST_P(SsdFault, OfTheKthOperationBreaksNoPromise) {
  const auto [fault, lasting] = GetParam();
  uint64_t k = 1;
  for (;; ++k) {
    TempDirectory directory(testing::FastDirectory());
    std::atomic<uint64_t> count{0};
    Promises promises;
    {
      auto tier = OpenWithDisk(TinyOptions(directory.path()),
                               std::make_unique<FaultyDisk>(FailAt(k, fault, lasting), &count), nullptr);
      ASSERT_TRUE(tier.ok()) << tier.status();
      promises = RunScript(**tier);
    }
    ExpectKept(promises, directory.path(), k);
    // Lack of space is no illness; a failed device is.
    EXPECT_TRUE(fault == Fault::kError || !promises.read_only) << "k = " << k;
    if (count < k) {
      EXPECT_FALSE(promises.refused) << "the clean run";
      break;
    }
    if (HasFailure()) break;
  }
  EXPECT_GT(k, 50u);
  std::printf("  %d operations, each failed once\n", static_cast<int>(k - 1));
}

TEST(SsdRecoveryFault, OfTheKthOperationForgetsNothing) {
  for (const Fault fault : {Fault::kError, Fault::kShort}) {
    TempDirectory directory(testing::FastDirectory());
    Promises promises;
    {
      auto tier = SsdTier::Open(TinyOptions(directory.path()), nullptr);
      ASSERT_TRUE(tier.ok());
      promises = RunScript(**tier);
    }
    uint64_t k = 1;
    for (;; ++k) {
      std::atomic<uint64_t> count{0};
      {
        SsdTier::Recovered recovered;
        auto tier = OpenWithDisk(TinyOptions(directory.path()),
                                 std::make_unique<FaultyDisk>(FailAt(k, fault, Lasting::kOnce), &count), &recovered);
        ASSERT_TRUE(tier.ok()) << tier.status();
        const bool failed = fault == Fault::kError && count >= k;
        EXPECT_EQ((*tier)->Status().read_only, failed) << "k = " << k;
        EXPECT_EQ(recovered.dropped > 0, failed) << "k = " << k;
        if (failed) {
          EXPECT_TRUE(absl::IsUnavailable(Append(**tier, MakePart(99, 99, 100), true).status()));
          EXPECT_TRUE(absl::IsUnavailable(PutValue(**tier, "other", "value")));
        }
        for (const RecoveredPart& part : recovered.parts) {
          EXPECT_TRUE(count < k || ReadAndCheck(**tier, part.meta, part.location).ok());
        }
      }
      ExpectKept(promises, directory.path(), k);
      if (count < k || HasFailure()) break;
    }
    EXPECT_GT(k, 10u);
  }
}

TEST(SsdFaultKinds, AFailedSyncIsNeverAskedAgain) {
  TempDirectory directory(testing::FastDirectory());
  std::atomic<uint64_t> count{0};
  uint64_t syncs = 0;
  bool armed = false;
  const auto decide = [&](uint64_t, const DiskOp& op) -> FaultyDisk::Verdict {
    if (op.kind != DiskOp::Kind::kSync) return {};
    ++syncs;
    return armed ? FaultyDisk::Verdict{true, -EIO} : FaultyDisk::Verdict{};
  };
  auto tier = OpenWithDisk(SmallOptions(directory.path()), std::make_unique<FaultyDisk>(decide, &count), nullptr);
  ASSERT_TRUE(tier.ok());
  const TestPart part = MakePart(1, 1, 100);
  const auto location = Append(**tier, part, true);
  ASSERT_TRUE(location.ok());
  armed = true;
  EXPECT_TRUE(absl::IsUnavailable(Append(**tier, MakePart(2, 2, 100), true).status()));
  const uint64_t asked = syncs;
  for (uint64_t i = 3; i < 6; ++i) {
    const absl::Status status = Append(**tier, MakePart(i, i, 100), i % 2 == 0).status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_NE(std::string(status.message()).find("fdatasync"), std::string::npos) << status;
  }
  EXPECT_EQ(syncs, asked);
  EXPECT_TRUE((*tier)->Status().read_only);
  EXPECT_TRUE(ReadAndCheck(**tier, part.meta, *location).ok()) << "reads go on";
}

/// In a process of its own: the index's files may grow to 1 MiB and no further.
int FillTheIndex(const std::string& directory) {
  signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{1 << 20, 1 << 20};
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
  SsdOptions options = SmallOptions(directory);
  auto tier = SsdTier::Open(options, nullptr);
  if (!tier.ok()) return 3;
  const TestPart part = MakePart(1, 1, 100);
  const auto location = Append(**tier, part, true);
  if (!location.ok()) return 4;
  absl::Status status;
  for (int i = 0; i < 100 && status.ok(); ++i) status = PutValue(**tier, "value", std::string(100000, 'v'));
  if (!absl::IsUnavailable(status) || !(*tier)->Status().read_only) return 5;
  if (Append(**tier, MakePart(2, 2, 100), false).ok()) return 6;
  return ReadAndCheck(**tier, part.meta, *location).ok() ? 0 : 7;
}

TEST(SsdFaultKinds, AnIndexThatCannotBeWrittenMakesTheTierReadOnly) {
  TempDirectory directory(testing::FastDirectory());
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";  // a fresh process: RocksDB's threads do not survive fork
  EXPECT_EXIT(_exit(FillTheIndex(directory.path())), ::testing::ExitedWithCode(0), "");
}

/// A file system of its own, so small that a file fills it.
class SmallDisk {
 public:
  SmallDisk() {
    mounted_ = mount("tmpfs", directory_.path().c_str(), "tmpfs", 0, "size=96m") == 0;
    error_ = errno;
  }
  ~SmallDisk() {
    if (mounted_) umount2(directory_.path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  int error() const { return error_; }
  std::string path(const std::string& name) const { return directory_.path() + "/" + name; }

 private:
  TempDirectory directory_;
  bool mounted_ = false;
  int error_ = 0;
};

TEST(SsdFaultKinds, AFullDiskTakesPartsAgainWhenThereIsRoom) {
  SmallDisk disk;
  if (!disk.mounted()) GTEST_SKIP() << "a file system of its own cannot be mounted: " << std::strerror(disk.error());
  SsdOptions options = SmallOptions(disk.path("ssd"));
  options.space_probe = std::chrono::milliseconds(10);
  std::map<uint64_t, std::pair<TestPart, SsdLocation>> promised;
  {
    auto tier = SsdTier::Open(options, nullptr);
    ASSERT_TRUE(tier.ok()) << tier.status();
    const auto append = [&](uint64_t number) {
      TestPart part = MakePart(number, number + 1, 500);
      const auto location = Append(**tier, part, true);
      if (location.ok()) promised[number] = {std::move(part), *location};
      return location.status();
    };
    for (uint64_t number = 0; number < 20; ++number) ASSERT_TRUE(append(number).ok());
    std::ofstream(disk.path("filler")) << std::string(128 << 20, 'x');  // as much as there is room for
    absl::Status refused;  // segments make way for each other on a full disk: it is the index that wants more
    for (int i = 0; refused.ok() && i < 1000; ++i) refused = PutValue(**tier, "value", std::string(100'000, 'v'));
    EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
    EXPECT_TRUE(absl::IsResourceExhausted(append(20))) << "no promise without the index";
    EXPECT_TRUE((*tier)->Vitals().out_of_space);
    EXPECT_FALSE((*tier)->Status().read_only) << (*tier)->Status().cause;
    for (const auto& [held, entry] : promised) EXPECT_TRUE(ReadAndCheck(**tier, entry.first.meta, entry.second).ok()) << held;
    std::filesystem::remove(disk.path("filler"));
    while ((*tier)->Vitals().out_of_space) std::this_thread::yield();  // it asks again by itself
    for (uint64_t number = 21; number < 41; ++number) EXPECT_TRUE(append(number).ok());
  }
  SsdTier::Recovered recovered;
  auto tier = SsdTier::Open(options, &recovered);
  ASSERT_TRUE(tier.ok()) << tier.status();
  std::map<PartId, SsdLocation> found;
  for (const RecoveredPart& part : recovered.parts) found[part.meta.id] = part.location;
  for (const auto& [number, entry] : promised) {
    const auto at = found.find(entry.first.meta.id);
    ASSERT_NE(at, found.end()) << number << " was promised";
    EXPECT_TRUE(ReadAndCheck(**tier, entry.first.meta, at->second).ok()) << number;
  }
}

}  // namespace
}  // namespace kvasir
