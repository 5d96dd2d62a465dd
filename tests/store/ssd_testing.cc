// SPDX-License-Identifier: Apache-2.0
// Parts, waiting calls and failing disks for the tests of the SSD tier.
#include "tests/store/ssd_testing.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <future>
#include <random>

#include "tests/support/seed.h"
#include "transport/check.h"

namespace kvasir::testing {
namespace {

template <class Digest>
void FillDigest(Digest& digest, uint64_t number, uint64_t salt) {
  auto rng = Rng(number * 8 + salt);
  for (uint8_t& byte : digest.bytes) byte = static_cast<uint8_t>(rng());
}

void FillRandom(std::span<std::byte> bytes, std::mt19937_64& rng) {
  for (size_t at = 0; at < bytes.size(); at += 8) {
    const uint64_t word = rng();
    std::memcpy(bytes.data() + at, &word, std::min<size_t>(8, bytes.size() - at));
  }
}

}  // namespace

TestPart MakePart(uint64_t number, uint64_t generation, uint64_t area_bytes, std::optional<uint16_t> plane) {
  static const std::string kSpec = "P:raw";
  TestPart part;
  PartMeta& meta = part.meta;
  FillDigest(meta.id.key, number, 1);
  FillDigest(meta.id.view, 0, 2);
  FillDigest(meta.parent, number, 3);
  FillDigest(meta.domain, 0, 4);
  FillDigest(meta.ns, 0, 5);
  meta.id.layer_group = static_cast<uint16_t>(number % 5);
  meta.id.head_group = static_cast<uint16_t>(number % 300);
  meta.id.plane = plane.value_or(static_cast<uint16_t>(number % 3));
  meta.shard = static_cast<uint32_t>(number % 3);
  meta.block_index = static_cast<uint32_t>(number);
  meta.token_count = 16;
  meta.generation = generation;
  FillDigest(meta.run, number, 6);
  meta.replicas = 1 + static_cast<uint32_t>(number % 3);

  PartHeader header;
  std::memcpy(header.key, meta.id.key.bytes.data(), 32);
  std::memcpy(header.view_digest, meta.id.view.bytes.data(), 32);
  std::memcpy(header.namespace_digest, meta.ns.bytes.data(), 32);
  header.layers = header.heads = 1;
  header.layer_group = meta.id.layer_group;
  header.head_group = meta.id.head_group;
  header.plane = meta.id.plane;
  header.planes = meta.id.plane > 0 ? 3 : 0;
  header.planes_digest[0] = meta.id.plane > 0 ? 1 : 0;
  header.block_index = meta.block_index;
  header.token_count = meta.token_count;

  const auto first = static_cast<uint32_t>(area_bytes / 2);
  const auto second_at = static_cast<uint32_t>(AlignFrame(first));
  std::vector<FrameEntry> directory = {{0, first, 0, 0}, {second_at, static_cast<uint32_t>(area_bytes) - first, 0, 0}};
  const uint64_t area = FrameAreaBytes(directory);
  meta.frames_offset = static_cast<uint32_t>(FramesOffset(static_cast<uint32_t>(kSpec.size()), 2));
  part.bytes.resize(meta.frames_offset + area);
  meta.bytes = part.bytes.size();
  auto rng = Rng(number * 1000003 + generation + 7919 * meta.id.plane);
  for (FrameEntry& entry : directory) {
    const auto frame = std::span(part.bytes).subspan(meta.frames_offset + entry.offset, entry.length);
    FillRandom(frame, rng);
    entry.crc32c = Crc32c(frame);
  }
  SealHeader(header, kSpec, directory, area, part.bytes);
  StampGeneration(part.bytes, generation);
  return part;
}

absl::Status CheckBytes(const PartMeta& meta, std::span<const std::byte> bytes) {
  absl::StatusOr<PartFrame> part = ParsePart(bytes, {meta.id, meta.ns, meta.generation});
  return part.ok() ? CheckFrames(bytes, *part) : part.status();
}

// Answers are moved, not copied: ThreadSanitizer does not see the reference counts of the system's Abseil.
absl::StatusOr<SsdLocation> Append(SsdTier& tier, const TestPart& part, bool durable) {
  std::promise<absl::StatusOr<SsdLocation>> answer;
  tier.Append(part.meta, part.bytes, durable,
              [&answer](absl::StatusOr<SsdLocation> location) { answer.set_value(std::move(location)); });
  return answer.get_future().get();
}

absl::StatusOr<std::vector<std::byte>> Read(SsdTier& tier, const SsdLocation& location, uint64_t bytes) {
  std::vector<std::byte> into(bytes);
  std::promise<absl::Status> answer;
  tier.Read(location, into, [&answer](absl::Status status) { answer.set_value(std::move(status)); });
  absl::Status status = answer.get_future().get();
  if (!status.ok()) return status;
  return into;
}

absl::Status PutValue(SsdTier& tier, const std::string& name, const std::string& value) {
  std::promise<absl::Status> answer;
  tier.PutValue({name, value}, [&answer](absl::Status status) { answer.set_value(std::move(status)); });
  return answer.get_future().get();
}

absl::Status ReadAndCheck(SsdTier& tier, const PartMeta& meta, const SsdLocation& location) {
  absl::StatusOr<std::vector<std::byte>> bytes = Read(tier, location, meta.bytes);
  return bytes.ok() ? CheckBytes(meta, *bytes) : bytes.status();
}

TempDirectory::TempDirectory(const std::string& under) {
  path_ = (under.empty() ? ::testing::TempDir() : under) + "/kvasir_ssd_XXXXXX";
  KVASIR_CHECK(mkdtemp(path_.data()) != nullptr, "no temporary directory");
}

TempDirectory::~TempDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string FastDirectory() { return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ""; }

std::vector<std::string> SegmentFiles(const std::string& directory) {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(directory + "/segments")) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

uint64_t SegmentFileBytes(const std::string& directory) {
  uint64_t total = 0;
  for (const std::string& file : SegmentFiles(directory)) total += std::filesystem::file_size(file);
  return total;
}

void FlipByte(const std::string& path, uint64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const char byte = static_cast<char>(file.get() ^ 0x40);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(byte);
  KVASIR_CHECK(file.good(), "could not damage the file");
}

SsdOptions SmallOptions(const std::string& directory) {
  SsdOptions options;
  options.directory = directory;
  options.bytes_max = 1 << 20;
  options.segment_bytes = 64 << 10;
  options.group_commit = Duration::zero();
  return options;
}

void FaultyDisk::Run(std::span<DiskOp> ops) {
  for (DiskOp& op : ops) {
    const Verdict verdict = decide_(++*count_, op);
    op.result = verdict.fail ? verdict.result : RunPlainly(op);
  }
}

}  // namespace kvasir::testing
