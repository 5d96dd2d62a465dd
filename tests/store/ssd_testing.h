// SPDX-License-Identifier: Apache-2.0
// What the tests of the SSD tier share: parts made from a number, calls that wait for their answer, a disk that fails
// where it is told to.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "store/tiers/disk_io.h"
#include "store/tiers/ssd_tier.h"

namespace kvasir::testing {

/// A sealed part, uncut or an upper plane. Same number, generation and size: same bytes; the number alone makes its
/// PartId.
struct TestPart {
  PartMeta meta;
  std::vector<std::byte> bytes;
};
/// `area_bytes` of payload in two frames (K and V of one layer), at least 2.
/// `plane`: another one than the number says, up to 2.
TestPart MakePart(uint64_t number, uint64_t generation, uint64_t area_bytes, std::optional<uint16_t> plane = {});

/// The bytes are exactly those of the part that `meta` speaks of: header, root, frames.
absl::Status CheckBytes(const PartMeta& meta, std::span<const std::byte> bytes);

// The calls, waiting for their answer.
absl::StatusOr<SsdLocation> Append(SsdTier& tier, const TestPart& part, bool durable);
absl::StatusOr<std::vector<std::byte>> Read(SsdTier& tier, const SsdLocation& location, uint64_t bytes);
absl::Status PutValue(SsdTier& tier, const std::string& name, const std::string& value);
/// Reads and checks.
absl::Status ReadAndCheck(SsdTier& tier, const PartMeta& meta, const SsdLocation& location);

/// An empty directory of the test's own, removed with its contents.
class TempDirectory {
 public:
  explicit TempDirectory(const std::string& under = "");  ///< ::testing::TempDir() unless told otherwise
  ~TempDirectory();
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Where tests go that open hundreds of tiers and ask nothing of the device: a file system in memory if there is one.
std::string FastDirectory();

/// Of all segment files of a tier's directory.
uint64_t SegmentFileBytes(const std::string& directory);
std::vector<std::string> SegmentFiles(const std::string& directory);
/// XORs one byte of a file.
void FlipByte(const std::string& path, uint64_t offset);

/// Small: 16 segments of 64 KiB.
SsdOptions SmallOptions(const std::string& directory);

/// Passes operations on to plain system calls, except those that `decide` gives a result for. `decide` sees the number
/// of the operation (from 1), and may be called by several threads.
class FaultyDisk final : public DiskIo {
 public:
  struct Verdict {
    bool fail = false;
    int64_t result = 0;
  };
  using Decide = std::function<Verdict(uint64_t number, const DiskOp& op)>;
  FaultyDisk(Decide decide, std::atomic<uint64_t>* count) : decide_(std::move(decide)), count_(count) {}

  void Run(std::span<DiskOp> ops) override;
  std::string Name() const override { return "faulty"; }

 private:
  Decide decide_;
  std::atomic<uint64_t>* count_;  ///< the test's: outlives the tier
};

}  // namespace kvasir::testing
