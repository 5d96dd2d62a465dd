// SPDX-License-Identifier: Apache-2.0
// Goal: a part is believed only when it is exactly what was expected. Method: every bit of header, padding and
// directory damaged in turn, every length cut, every field wrong under a root that fits.
#include "store/api/part.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/seed.h"

namespace kvasir {
namespace {

struct Sample {
  std::vector<std::byte> bytes;
  PartExpectation expect;
  uint64_t frames_offset = 0;
};

template <class Digest>
void Fill(Digest& digest, uint8_t (&field)[32], uint8_t seed) {
  for (size_t i = 0; i < 32; ++i) digest.bytes[i] = field[i] = static_cast<uint8_t>(seed + i);
}

/// Three layers, K and V: six frames of odd lengths, one of them empty.
Sample MakeSample() {
  Sample s;
  PartHeader h;
  Fill(s.expect.id.key, h.key, 1);
  Fill(s.expect.id.view, h.view_digest, 50);
  Fill(s.expect.ns, h.namespace_digest, 100);
  s.expect.id.layer_group = h.layer_group = 2;
  s.expect.id.head_group = h.head_group = 1;
  h.first_layer = 16;
  h.layers = 3;
  h.first_head = 1;
  h.heads = 1;
  h.token_count = 16;
  h.writer = 77;
  const std::string spec = "P:raw";
  const std::vector<uint32_t> lengths = {1, 16, 17, 0, 100, 33};
  std::vector<FrameEntry> directory;
  uint64_t area = 0;
  for (const uint32_t length : lengths) {
    directory.push_back({static_cast<uint32_t>(area), length, 0, 0});
    area = AlignFrame(area + length);
  }
  s.frames_offset = FramesOffset(static_cast<uint32_t>(spec.size()), static_cast<uint32_t>(directory.size()));
  s.bytes.resize(s.frames_offset + area);
  auto rng = testing::Rng(1);
  for (FrameEntry& entry : directory) {
    const auto frame = std::span(s.bytes).subspan(s.frames_offset + entry.offset, entry.length);
    for (std::byte& b : frame) b = static_cast<std::byte>(rng());
    entry.crc32c = Crc32c(frame);
  }
  SealHeader(h, spec, directory, area, s.bytes);
  return s;
}

/// Changes a header field and makes the root fit again: what a careless or lying writer could send.
template <class Change>
std::vector<std::byte> Resealed(const Sample& s, Change change) {
  std::vector<std::byte> bytes = s.bytes;
  PartHeader h;
  std::memcpy(&h, bytes.data(), sizeof h);
  std::vector<FrameEntry> directory(h.frame_count);
  const std::string spec(reinterpret_cast<const char*>(bytes.data()) + sizeof h, h.spec_bytes);
  std::byte* at = bytes.data() + DirectoryOffset(h.spec_bytes);
  std::memcpy(directory.data(), at, directory.size() * sizeof(FrameEntry));
  change(h, directory);
  ComputeRoot(h, spec, directory, h.root);
  std::memcpy(bytes.data(), &h, sizeof h);
  std::memcpy(at, directory.data(), directory.size() * sizeof(FrameEntry));
  return bytes;
}

std::string Refusal(const std::vector<std::byte>& bytes, const PartExpectation& expect) {
  const auto parsed = ParsePart(bytes, expect);
  if (parsed.ok()) return "accepted";
  EXPECT_EQ(parsed.status().code(), absl::StatusCode::kDataLoss) << parsed.status();
  return std::string(parsed.status().message());
}

TEST(Part, ReadsWhatWasSealed) {
  const Sample s = MakeSample();
  const auto part = ParsePart(s.bytes, s.expect);
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ(part->spec, "P:raw");
  EXPECT_EQ(part->directory.size(), 6u);
  EXPECT_EQ(part->frames_offset, s.frames_offset);
  EXPECT_EQ(part->total_bytes, s.bytes.size());
  EXPECT_EQ(part->header.writer, 77u);
  EXPECT_EQ(IdOf(part->header), s.expect.id);
  EXPECT_TRUE(CheckFrames(s.bytes, *part).ok());
  const auto without_frames = std::span(s.bytes).first(s.frames_offset);
  EXPECT_TRUE(ParsePart(without_frames, s.expect).ok());
  EXPECT_EQ(CheckFrames(without_frames, *part).code(), absl::StatusCode::kDataLoss);
}

TEST(Part, EveryDamagedBitIsRefused) {
  Sample s = MakeSample();
  const auto damaged = [&](size_t bit) {
    s.bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    const bool strict = ParsePart(s.bytes, s.expect).ok();
    const bool any = ParseAnyPart(s.bytes).ok();
    s.bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(strict) << "byte " << bit / 8;
    return any;
  };
  constexpr size_t kGeneration = offsetof(PartHeader, generation);
  for (size_t bit = 0; bit < s.frames_offset * 8; ++bit) {
    // The generation is the store's stamp, not under the root: only the expectation catches it.
    const bool is_generation = bit / 8 >= kGeneration && bit / 8 < kGeneration + 8;
    EXPECT_EQ(damaged(bit), is_generation) << "byte " << bit / 8;
  }
}

TEST(Part, EveryDamagedBitOfTheFrameAreaIsFound) {
  Sample s = MakeSample();
  const auto part = ParsePart(s.bytes, s.expect);
  ASSERT_TRUE(part.ok());
  for (size_t bit = s.frames_offset * 8; bit < s.bytes.size() * 8; ++bit) {
    s.bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_EQ(CheckFrames(s.bytes, *part).code(), absl::StatusCode::kDataLoss) << "byte " << bit / 8;
    s.bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
  s.bytes[s.frames_offset + part->directory[4].offset] ^= std::byte{1};
  EXPECT_EQ(CheckFrames(s.bytes, *part).message(), "part: frame 4: its CRC32C does not fit");
}

TEST(Part, EveryLengthBelowTheFramesIsRefused) {
  const Sample s = MakeSample();
  for (size_t length = 0; length < s.frames_offset; ++length) {
    const std::vector<std::byte> cut(s.bytes.begin(), s.bytes.begin() + static_cast<std::ptrdiff_t>(length));
    EXPECT_EQ(Refusal(cut, s.expect).rfind("part: length: ", 0), 0u) << length;
  }
}

TEST(Part, AnotherPartIsRefusedByName) {
  const Sample s = MakeSample();
  const auto refusal = [&](auto change) {
    PartExpectation other = s.expect;
    change(other);
    return Refusal(s.bytes, other);
  };
  EXPECT_EQ(refusal([](auto& e) { e.id.key.bytes[31] ^= 1; }), "part: key: is another block's");
  EXPECT_EQ(refusal([](auto& e) { e.id.view.bytes[0] ^= 1; }), "part: view_digest: is another view's");
  EXPECT_EQ(refusal([](auto& e) { e.ns.bytes[0] ^= 1; }), "part: namespace_digest: is another namespace's");
  EXPECT_EQ(refusal([](auto& e) { e.id.layer_group = 3; }), "part: layer_group: is 2, must be 3");
  EXPECT_EQ(refusal([](auto& e) { e.id.head_group = 0; }), "part: head_group: is 1, must be 0");
  EXPECT_EQ(refusal([](auto& e) { e.id.plane = 1; }), "part: plane: is 0, must be 1");
  EXPECT_EQ(refusal([](auto& e) { e.generation = 9; }), "part: generation: is 0, must be 9");
}

TEST(Part, AFittingRootDoesNotMakeAWrongFieldRight) {
  const Sample s = MakeSample();
  const auto refusal = [&](auto change) { return Refusal(Resealed(s, change), s.expect); };
  using H = PartHeader;
  using D = std::vector<FrameEntry>;
  EXPECT_EQ(refusal([](H&, D&) {}), "accepted");
  EXPECT_EQ(refusal([](H& h, D&) { h.version = 2; }), "part: version: is 2, must be 1");
  EXPECT_EQ(refusal([](H& h, D&) { h.header_bytes = 128; }), "part: header_bytes: is 128, must be 256");
  EXPECT_EQ(refusal([](H& h, D&) { h.plane = 1; }), "part: plane: is 1, must be 0");
  EXPECT_EQ(refusal([](H& h, D&) { h.planes = 1; }), "part: planes: is 1, must be 2 to 8");
  EXPECT_EQ(refusal([](H& h, D&) { h.planes = 9; }), "part: planes: is 9, must be 2 to 8");
  EXPECT_EQ(refusal([](H& h, D&) { h.planes = 2; }), "part: planes_digest: is zero");
  EXPECT_EQ(refusal([](H& h, D&) { h.planes_digest[15] = 5; }),
            "part: planes_digest: is not zero for a part that is not cut");
  EXPECT_EQ(refusal([](H& h, D&) { h.tag[31] = 1; }).rfind("part: tag: ", 0), 0u);
  EXPECT_EQ(refusal([](H& h, D&) { h.layers = 0; }), "part: layers: is 0, must be 1 to 65520");
  EXPECT_EQ(refusal([](H& h, D&) { h.first_layer = 65534; }), "part: layers: is 3, must be 1 to 2");
  EXPECT_EQ(refusal([](H& h, D&) { h.layers = 4; }), "part: frame_count: is 6, neither 1 nor 2 for 4 layers");
  EXPECT_EQ(refusal([](H& h, D&) { h.heads = 0; }), "part: heads: is 0, must be 1 to 65535");
  EXPECT_EQ(refusal([](H& h, D&) { h.token_count = 0; }), "part: token_count: is 0");
  EXPECT_EQ(refusal([](H& h, D&) { h.frame_count = 4097; }), "part: frame_count: is 4097, must be 1 to 4096");
  EXPECT_EQ(refusal([](H& h, D&) { h.spec_bytes = 513; }), "part: spec_bytes: is 513, must be 1 to 512");
  EXPECT_EQ(refusal([](H& h, D&) { h.frames_bytes = ~0ull; }).rfind("part: frames_bytes: ", 0), 0u);
  EXPECT_EQ(refusal([](H& h, D&) { h.frames_bytes += 16; }).rfind("part: directory: ", 0), 0u);
  EXPECT_EQ(refusal([](H&, D& d) { d[1].offset = 32; }).rfind("part: directory: ", 0), 0u);
  EXPECT_EQ(refusal([](H&, D& d) { d[5].length = 0xFFFFFFFF; }).rfind("part: directory: ", 0), 0u);
}

/// The upper of two planes: what it says of planes is checked like everything else, and is under the root.
TEST(Part, APlaneSaysWhichOfHowManyAndOfWhat) {
  const Sample s = MakeSample();
  Sample upper = s;
  upper.expect.id.plane = 1;
  upper.bytes = Resealed(s, [](PartHeader& h, std::vector<FrameEntry>& d) {
    h.plane = 1;
    h.planes = 2;
    ComputePlanesDigest(std::vector<std::vector<FrameEntry>>{d, d}, h.planes_digest);
  });
  const auto part = ParsePart(upper.bytes, upper.expect);
  ASSERT_TRUE(part.ok()) << part.status();
  EXPECT_EQ(IdOf(part->header), upper.expect.id);
  EXPECT_EQ(Refusal(upper.bytes, s.expect), "part: plane: is 1, must be 0");
  const std::vector<std::byte> lowest = Resealed(upper, [](PartHeader& h, std::vector<FrameEntry>&) { h.plane = 0; });
  EXPECT_EQ(Refusal(lowest, s.expect), "accepted");
  for (const std::vector<std::byte>& bytes : {lowest, upper.bytes}) {
    uint32_t reserved = 0;  // what readers that know no planes take these four bytes for, and refuse unless it is 0
    std::memcpy(&reserved, bytes.data() + offsetof(PartHeader, plane), sizeof reserved);
    EXPECT_NE(reserved, 0u);
  }
  for (const size_t at :
       {offsetof(PartHeader, plane), offsetof(PartHeader, planes), offsetof(PartHeader, planes_digest)}) {
    std::vector<std::byte> damaged = upper.bytes;
    damaged[at + 1] ^= std::byte{1};
    EXPECT_NE(Refusal(damaged, upper.expect), "accepted") << at;
  }
  const auto refusal = [&](auto change) { return Refusal(Resealed(upper, change), upper.expect); };
  using H = PartHeader;
  using D = std::vector<FrameEntry>;
  EXPECT_EQ(refusal([](H& h, D&) { h.plane = 2; }), "part: plane: is 2, must be 0 to 1");
  EXPECT_EQ(refusal([](H& h, D&) { h.plane = 0; }), "part: plane: is 0, must be 1");
  EXPECT_EQ(refusal([](H& h, D&) { h.planes = 0; }), "part: plane: is 1, must be 0");
  EXPECT_EQ(refusal([](H& h, D&) { std::memset(h.planes_digest, 0, 16); }), "part: planes_digest: is zero");
}

/// The digest is of all planes in their order, and of nothing that differs between two writers of the same bytes.
TEST(Part, PlanesOfTwoWritesAreToldApart) {
  const std::vector<FrameEntry> a = {{0, 20, 7, 0}}, b = {{0, 20, 8, 0}};
  using Planes = std::vector<std::vector<FrameEntry>>;
  PartHeader base, other;
  ComputePlanesDigest(Planes{a, b}, base.planes_digest);
  ComputePlanesDigest(Planes{a, b}, other.planes_digest);
  other.writer = 5;
  EXPECT_TRUE(CheckSameWrite(base, other).ok());
  for (const Planes& planes : {Planes{a, a}, Planes{b, a}, Planes{a}, Planes{a, b, b}}) {
    ComputePlanesDigest(planes, other.planes_digest);
    EXPECT_EQ(CheckSameWrite(base, other).code(), absl::StatusCode::kDataLoss);
  }
}

TEST(Part, TheStampIsNotUnderTheRoot) {
  Sample s = MakeSample();
  StampGeneration(s.bytes, 41);
  EXPECT_EQ(Refusal(s.bytes, s.expect), "part: generation: is 41, must be 0");
  s.expect.generation = 41;
  EXPECT_TRUE(ParsePart(s.bytes, s.expect).ok());
  s.expect.generation = PartExpectation::kAnyGeneration;
  EXPECT_TRUE(ParsePart(s.bytes, s.expect).ok());
}

TEST(Part, SealHeaderTakesNothingDerivedFromItsCaller) {
  const Sample s = MakeSample();
  auto part = ParsePart(s.bytes, s.expect);
  ASSERT_TRUE(part.ok());
  PartHeader h = part->header;
  h.magic = 1;
  h.generation = 5;
  h.frame_count = 7;
  h.tag[0] = 8;
  std::vector<std::byte> again = s.bytes;
  SealHeader(h, part->spec, part->directory, s.bytes.size() - s.frames_offset, again);
  EXPECT_EQ(again, s.bytes);
}

}  // namespace
}  // namespace kvasir
