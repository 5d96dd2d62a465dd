// SPDX-License-Identifier: Apache-2.0
// Goal: every part acknowledged as durable survives kill -9. Method: a child opens the directory, checks every part
// that was ever acknowledged, then appends and writes its acknowledgements into memory shared with the parent, until it
// dies: at a disk operation drawn by the seed, or wherever the parent's SIGKILL meets it. This process opens no tier
// itself: RocksDB's threads would not survive the fork.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <future>
#include <map>
#include <mutex>

#include "store/tiers/ssd_tier_impl.h"
#include "tests/store/ssd_testing.h"
#include "tests/support/seed.h"

namespace kvasir {
namespace {

using testing::FaultyDisk;
using testing::MakePart;
using testing::TempDirectory;
using testing::TestPart;

constexpr uint64_t kCycles = 30;
constexpr uint64_t kPartsMax = 20000;
constexpr uint64_t kInFlight = 4;  ///< appends a child keeps under way, so that commits hold several

enum : uint8_t { kUnknown, kDurable, kGone };

/// Between parent and children. A byte a part: what the tier has promised of it.
struct Ledger {
  std::atomic<uint64_t> next;  ///< number of the next part: never used twice
  std::atomic<uint8_t> promised[kPartsMax];
  uint64_t area_bytes(uint64_t number) const { return 2 + number * 7919 % 12000; }
};

SsdOptions OptionsOf(const std::string& directory, uint64_t cycle) {
  SsdOptions options = testing::SmallOptions(directory);
  options.group_commit = std::chrono::milliseconds(cycle % 3 == 0 ? 1 : 0);
  options.disk_threads = 1 + cycle % 3;
  return options;
}

[[noreturn]] void Complain(const std::string& what) {
  std::fprintf(stderr, "child: %s\n", what.c_str());
  _exit(1);
}

/// One life of the tier.
class Child {
 public:
  Child(Ledger& ledger, int pipe) : ledger_(ledger), pipe_(pipe) {}

  /// `dies_at`: the disk operation before which it kills itself; 0 = the parent does.
  void Open(const SsdOptions& options, uint64_t dies_at) {
    const auto die = [dies_at](uint64_t number, const DiskOp&) {
      if (number == dies_at) kill(getpid(), SIGKILL);
      return FaultyDisk::Verdict{};
    };
    auto tier = dies_at == 0 ? SsdTier::Open(options, &recovered_)
                             : OpenWithDisk(options, std::make_unique<FaultyDisk>(die, &operations_), &recovered_);
    if (!tier.ok()) Complain(tier.status().ToString());
    tier_ = *std::move(tier);
    tier_->OnEvicted([this](std::vector<PartId> parts) {
      std::lock_guard lock(mutex_);
      for (const PartId& id : parts) ledger_.promised[numbers_.at(id)] = kGone;
    });
  }

  /// Every promised part is there with its bytes; and no other bytes are wrong.
  void Check() {
    if (recovered_.dropped != 0) Complain("entries were dropped: " + std::to_string(recovered_.dropped));
    std::map<uint64_t, bool> found;
    for (const RecoveredPart& recovered : recovered_.parts) {
      const uint64_t number = recovered.meta.block_index;
      const TestPart part = MakePart(number, number + 1, ledger_.area_bytes(number));
      numbers_[part.meta.id] = number;
      const auto bytes = testing::Read(*tier_, recovered.location, part.meta.bytes);
      if (!bytes.ok() || *bytes != part.bytes) Complain("wrong bytes of part " + std::to_string(number));
      found[number] = true;
    }
    for (uint64_t number = 0; number < ledger_.next; ++number) {
      if (ledger_.promised[number] == kDurable && !found[number])
        Complain("lost durable part " + std::to_string(number));
    }
  }

  /// Appends until the end. Every third part is not durable.
  [[noreturn]] void Work() {
    std::vector<TestPart> parts(kInFlight);
    std::vector<std::promise<void>> answers(kInFlight);
    for (;;) {
      for (uint64_t slot = 0; slot < kInFlight; ++slot) {
        const uint64_t number = ledger_.next++;
        if (number >= kPartsMax) Complain("out of numbers");
        parts[slot] = MakePart(number, number + 1, ledger_.area_bytes(number));
        {
          std::lock_guard lock(mutex_);
          numbers_[parts[slot].meta.id] = number;
        }
        answers[slot] = {};
        tier_->Append(parts[slot].meta, parts[slot].bytes, number % 3 != 0,
                      [&, slot, number](absl::StatusOr<SsdLocation> location) {
                        if (!location.ok()) Complain(location.status().ToString());
                        if (number % 3 != 0) ledger_.promised[number] = kDurable;
                        answers[slot].set_value();
                      });
      }
      for (auto& answer : answers) answer.get_future().wait();
      if (write(pipe_, "a", 1) != 1) _exit(2);  // a step done: the parent may strike
    }
  }

 private:
  Ledger& ledger_;
  const int pipe_;
  std::atomic<uint64_t> operations_{0};
  SsdTier::Recovered recovered_;
  std::mutex mutex_;
  std::map<PartId, uint64_t> numbers_;
  std::unique_ptr<SsdTier> tier_;
};

/// Waits for `steps` of the child's, then kills it wherever it is.
void StrikeAfter(pid_t child, int pipe, uint64_t steps) {
  char step;
  for (uint64_t i = 0; i < steps && read(pipe, &step, 1) == 1; ++i) {
  }
  kill(child, SIGKILL);
}

TEST(SsdKill, EveryDurableAcknowledgementSurvives) {
  TempDirectory directory;
  void* shared = mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  Ledger& ledger = *new (shared) Ledger{};
  auto rng = testing::Rng(9);
  for (uint64_t cycle = 0; cycle <= kCycles; ++cycle) {
    const bool last = cycle == kCycles;  // looks only
    const uint64_t dies_at = cycle % 2 == 0 ? 0 : 1 + rng() % 250;
    const uint64_t steps = 1 + rng() % 25;
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(ends[0]);
      Child life(ledger, ends[1]);
      life.Open(OptionsOf(directory.path(), cycle), last ? 0 : dies_at);
      life.Check();
      if (last) _exit(0);
      life.Work();
    }
    close(ends[1]);
    if (!last && dies_at == 0) StrikeAfter(child, ends[0], steps);
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    close(ends[0]);
    if (last) {
      EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    } else {
      ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "cycle " << cycle;
    }
  }
  uint64_t durable = 0, gone = 0;
  for (uint64_t number = 0; number < ledger.next; ++number) {
    durable += ledger.promised[number] == kDurable ? 1 : 0;
    gone += ledger.promised[number] == kGone ? 1 : 0;
  }
  EXPECT_GT(durable, 0u);
  std::printf("kills %d: %d parts, %d durable kept, %d evicted, 0 lost\n", static_cast<int>(kCycles),
              static_cast<int>(ledger.next), static_cast<int>(durable), static_cast<int>(gone));
  munmap(shared, sizeof(Ledger));
}

}  // namespace
}  // namespace kvasir
