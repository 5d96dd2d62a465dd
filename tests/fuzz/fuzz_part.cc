// SPDX-License-Identifier: Apache-2.0
// ParsePart and CheckFrames, before and behind the root: each input is parsed as it is, then with constants and root
// made to fit, so that mutation reaches the checks that a checksum would hide.
#include <cstring>

#include "kernels/codec.h"
#include "store/api/part.h"
#include "tests/fuzz/fuzz.h"

namespace kvasir::fuzzing {
namespace {

void Parse(std::span<const std::byte> bytes) {
  const auto part = ParseAnyPart(bytes);
  if (!part.ok()) return Require(part.status().code() == absl::StatusCode::kDataLoss, "a damaged part is DataLoss");
  Require(part->frames_offset <= bytes.size(), "header, spec and directory were there");
  Require(part->total_bytes == part->frames_offset + part->header.frames_bytes, "the total is the sum");
  Require(part->directory.size() == part->header.frame_count, "a directory entry a frame");
  const auto* spec = reinterpret_cast<const std::byte*>(part->spec.data());
  Require(spec == bytes.data() + sizeof(PartHeader), "the spec is inside");
  PartExpectation expect;
  expect.id = IdOf(part->header);
  std::memcpy(expect.ns.bytes.data(), part->header.namespace_digest, 32);
  expect.generation = part->header.generation;
  Require(ParsePart(bytes, expect).ok(), "a part is what it says it is");
  expect.id.key.bytes[0] ^= 1;
  Require(!ParsePart(bytes, expect).ok(), "and no other");
  expect.id.key.bytes[0] ^= 1;
  expect.id.plane ^= 1;
  Require(!ParsePart(bytes, expect).ok(), "and no other plane");
  const PartHeader& h = part->header;
  Require(h.planes == 0 ? h.plane == 0 : h.planes > 1 && h.planes <= kPlanesMax && h.plane < h.planes,
          "one of its planes");
  CheckFrames(bytes, *part).IgnoreError();
}

/// Makes constants and root fit, where lengths allow it.
void Fit(std::span<std::byte> bytes) {
  PartHeader h;
  if (bytes.size() < sizeof h) return;
  std::memcpy(&h, bytes.data(), sizeof h);
  const PartHeader good;
  h.magic = good.magic;
  h.version = good.version;
  h.header_bytes = good.header_bytes;
  if (h.spec_bytes > kSpecBytesMax || h.frame_count > kFramesPerPartMax) return;
  if (FramesOffset(h.spec_bytes, h.frame_count) > bytes.size()) return;
  std::vector<FrameEntry> directory(h.frame_count);
  if (h.frame_count > 0) {
    std::memcpy(directory.data(), bytes.data() + DirectoryOffset(h.spec_bytes), h.frame_count * sizeof(FrameEntry));
  }
  ComputeRoot(h, {reinterpret_cast<const char*>(bytes.data()) + sizeof h, h.spec_bytes}, directory, h.root);
  std::memcpy(bytes.data(), &h, sizeof h);
}

}  // namespace

void Run(std::span<const uint8_t> input) {
  std::vector<std::byte> bytes(input.size());
  if (!input.empty()) std::memcpy(bytes.data(), input.data(), input.size());
  Parse(bytes);
  Fit(bytes);
  Parse(bytes);
}

std::vector<std::string> Seeds() {
  std::vector<std::string> seeds;
  for (const uint16_t layers : {1, 8, 2}) {
    PartHeader h;
    if (layers == 2) {
      h.plane = 1;
      h.planes = 2;
      h.planes_digest[0] = 1;
    }
    h.layers = layers;
    h.heads = 1;
    h.token_count = 16;
    const std::string spec = layers == 1 ? "P:raw" : "Q:int(4,tok,64,asym)|P:bits";
    std::vector<FrameEntry> directory;
    uint64_t area = 0;
    for (uint32_t i = 0; i < 2u * layers; ++i) {
      directory.push_back({static_cast<uint32_t>(area), 20, 0, 0});
      area = AlignFrame(area + 20);
    }
    const uint64_t offset = FramesOffset(static_cast<uint32_t>(spec.size()), 2u * layers);
    std::vector<std::byte> part(offset + area);
    for (FrameEntry& entry : directory) entry.crc32c = Crc32c(std::span(part).subspan(offset + entry.offset, 20));
    SealHeader(h, spec, directory, area, part);
    seeds.emplace_back(reinterpret_cast<const char*>(part.data()), part.size());
  }
  return seeds;
}

}  // namespace kvasir::fuzzing
