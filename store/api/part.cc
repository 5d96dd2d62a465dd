// SPDX-License-Identifier: Apache-2.0
// Sealing a part's header and believing one from outside: each field has one check, each check names its field, and no
// length is followed before it has been compared with what is there.
#include "store/api/part.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/codec.h"
#include "store/api/status.h"
#include "transport/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace kvasir {
namespace {

absl::Status Damaged(const std::string& field, const std::string& why) {
  return absl::DataLossError(absl::StrCat("part: ", field, ": ", why));
}
absl::Status Differs(const char* field, uint64_t met, uint64_t expected) {
  return Damaged(field, absl::StrCat("is ", met, ", must be ", expected));
}
absl::Status OutOfRange(const char* field, uint64_t met, uint64_t min, uint64_t max) {
  return Damaged(field, absl::StrCat("is ", met, ", must be ", min, " to ", max));
}

template <size_t N>
bool AllZero(const uint8_t (&bytes)[N]) {
  return std::all_of(std::begin(bytes), std::end(bytes), [](uint8_t b) { return b == 0; });
}

template <class Tag>
void CopyTo(const uint8_t (&from)[32], Digest32<Tag>& to) {
  std::memcpy(to.bytes.data(), from, sizeof from);
}
template <class Tag>
bool Same(const uint8_t (&bytes)[32], const Digest32<Tag>& digest) {
  return std::memcmp(bytes, digest.bytes.data(), sizeof bytes) == 0;
}

/// Fields that stand alone: what they are does not depend on others.
absl::Status CheckConstants(const PartHeader& h) {
  if (h.magic != PartHeader::kMagic) return Differs("magic", h.magic, PartHeader::kMagic);
  if (h.version != PartHeader::kVersion) return Differs("version", h.version, PartHeader::kVersion);
  if (h.header_bytes != sizeof(PartHeader)) return Differs("header_bytes", h.header_bytes, sizeof(PartHeader));
  if (!AllZero(h.tag)) return Damaged("tag", "is not zero, and no policy of this version writes one");
  return absl::OkStatus();
}

/// A part that is not cut says nothing of planes; one that is says which of how many, and of what.
absl::Status CheckPlanes(const PartHeader& h) {
  if (h.planes == 1 || h.planes > kPlanesMax) return OutOfRange("planes", h.planes, 2, kPlanesMax);
  if (h.planes == 0 && h.plane != 0) return Differs("plane", h.plane, 0);
  if (h.planes != 0 && h.plane >= h.planes) return OutOfRange("plane", h.plane, 0, h.planes - 1u);
  if (AllZero(h.planes_digest) != (h.planes == 0)) {
    return Damaged("planes_digest", h.planes == 0 ? "is not zero for a part that is not cut" : "is zero");
  }
  return absl::OkStatus();
}

/// Counts and lengths, before anything is read or allocated by them.
absl::Status CheckCounts(const PartHeader& h) {
  constexpr uint32_t kEnd = 1u << 16;  // of layer and head numbers
  if (h.layers == 0 || uint32_t{h.first_layer} + h.layers > kEnd) {
    return OutOfRange("layers", h.layers, 1, kEnd - h.first_layer);
  }
  if (h.heads == 0 || uint32_t{h.first_head} + h.heads > kEnd) {
    return OutOfRange("heads", h.heads, 1, kEnd - h.first_head);
  }
  if (h.token_count == 0) return Damaged("token_count", "is 0");
  if (h.frame_count == 0 || h.frame_count > kFramesPerPartMax) {
    return OutOfRange("frame_count", h.frame_count, 1, kFramesPerPartMax);
  }
  if (h.frame_count != h.layers && h.frame_count != 2u * h.layers) {
    return Damaged("frame_count", absl::StrCat("is ", h.frame_count, ", neither 1 nor 2 for ", h.layers, " layers"));
  }
  if (h.spec_bytes == 0 || h.spec_bytes > kSpecBytesMax) {
    return OutOfRange("spec_bytes", h.spec_bytes, 1, kSpecBytesMax);
  }
  const uint64_t frames_max = kPartBytesMax - FramesOffset(h.spec_bytes, h.frame_count);
  if (h.frames_bytes > frames_max) return OutOfRange("frames_bytes", h.frames_bytes, 0, frames_max);
  return absl::OkStatus();
}

absl::Status CheckRoot(const PartFrame& frame) {
  std::array<uint8_t, sizeof(PartHeader::root)> root;
  ComputeRoot(frame.header, frame.spec, frame.directory, root);
  if (std::memcmp(root.data(), frame.header.root, root.size()) != 0) {
    return Damaged("root", "does not fit header, spec and directory");
  }
  return absl::OkStatus();
}

absl::Status CheckExpectation(const PartHeader& h, const PartExpectation& expect) {
  if (!Same(h.key, expect.id.key)) return Damaged("key", "is another block's");
  if (!Same(h.view_digest, expect.id.view)) return Damaged("view_digest", "is another view's");
  if (!Same(h.namespace_digest, expect.ns)) return Damaged("namespace_digest", "is another namespace's");
  if (h.layer_group != expect.id.layer_group) return Differs("layer_group", h.layer_group, expect.id.layer_group);
  if (h.head_group != expect.id.head_group) return Differs("head_group", h.head_group, expect.id.head_group);
  if (h.plane != expect.id.plane) return Differs("plane", h.plane, expect.id.plane);
  if (expect.generation != PartExpectation::kAnyGeneration && h.generation != expect.generation) {
    return Differs("generation", h.generation, expect.generation);
  }
  return absl::OkStatus();
}

}  // namespace

void ComputeRoot(const PartHeader& header, std::string_view spec, std::span<const FrameEntry> directory,
                 std::span<uint8_t, 16> out) {
  PartHeader under = header;
  under.generation = 0;
  std::fill(std::begin(under.root), std::end(under.root), uint8_t{0});
  std::fill(std::begin(under.tag), std::end(under.tag), uint8_t{0});
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  XXH3_128bits_update(&state, &under, sizeof under);
  XXH3_128bits_update(&state, spec.data(), spec.size());
  XXH3_128bits_update(&state, directory.data(), directory.size_bytes());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
  static_assert(sizeof canonical.digest == 16);
  std::memcpy(out.data(), canonical.digest, out.size());
}

void ComputePlanesDigest(std::span<const std::vector<FrameEntry>> directories, std::span<uint8_t, 16> out) {
  XXH3_state_t state;
  XXH3_128bits_reset(&state);
  for (const std::vector<FrameEntry>& directory : directories) {
    XXH3_128bits_update(&state, directory.data(), directory.size() * sizeof(FrameEntry));
  }
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(&state));
  std::memcpy(out.data(), canonical.digest, out.size());
}

void SealHeader(PartHeader header, std::string_view spec, std::span<const FrameEntry> directory, uint64_t area_bytes,
                std::span<std::byte> part) {
  const auto spec_bytes = static_cast<uint32_t>(spec.size());
  const auto frame_count = static_cast<uint32_t>(directory.size());
  KVASIR_CHECK(!spec.empty() && spec.size() <= kSpecBytesMax, "the spec must have 1 to kSpecBytesMax bytes");
  KVASIR_CHECK(!directory.empty() && directory.size() <= kFramesPerPartMax, "a part has 1 to kFramesPerPartMax frames");
  KVASIR_CHECK(part.size() >= FramesOffset(spec_bytes, frame_count), "no room for header, spec and directory");
  header.magic = PartHeader::kMagic;
  header.version = PartHeader::kVersion;
  header.header_bytes = sizeof(PartHeader);
  header.frame_count = frame_count;
  header.spec_bytes = spec_bytes;
  header.frames_bytes = area_bytes;
  header.generation = 0;
  std::fill(std::begin(header.tag), std::end(header.tag), uint8_t{0});
  ComputeRoot(header, spec, directory, header.root);

  const uint64_t directory_offset = DirectoryOffset(spec_bytes);
  std::memcpy(part.data(), &header, sizeof header);
  std::memset(part.data() + sizeof header, 0, directory_offset - sizeof header);  // the spec's padding is zero
  std::memcpy(part.data() + sizeof header, spec.data(), spec.size());
  std::memcpy(part.data() + directory_offset, directory.data(), directory.size_bytes());
}

absl::StatusOr<PartFrame> ParseAnyPart(std::span<const std::byte> bytes) {
  PartFrame frame;
  if (bytes.size() < sizeof frame.header) {
    return Damaged("length", absl::StrCat(bytes.size(), " bytes, the header has ", sizeof frame.header));
  }
  std::memcpy(&frame.header, bytes.data(), sizeof frame.header);
  const PartHeader& h = frame.header;
  if (absl::Status s = CheckConstants(h); !s.ok()) return s;
  if (absl::Status s = CheckPlanes(h); !s.ok()) return s;
  if (absl::Status s = CheckCounts(h); !s.ok()) return s;
  frame.frames_offset = FramesOffset(h.spec_bytes, h.frame_count);
  frame.total_bytes = frame.frames_offset + h.frames_bytes;
  if (bytes.size() < frame.frames_offset) {
    return Damaged("length", absl::StrCat(bytes.size(), " bytes, the frames begin at ", frame.frames_offset));
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  const uint64_t directory_offset = DirectoryOffset(h.spec_bytes);
  frame.spec = {text + sizeof h, h.spec_bytes};
  const std::string_view padding(text + sizeof h + h.spec_bytes, directory_offset - sizeof h - h.spec_bytes);
  if (padding.find_first_not_of('\0') != padding.npos) return Damaged("spec", "its padding is not zero");
  frame.directory.resize(h.frame_count);
  std::memcpy(frame.directory.data(), bytes.data() + directory_offset, h.frame_count * sizeof(FrameEntry));
  if (absl::Status s = CheckRoot(frame); !s.ok()) return s;
  if (const auto good = CheckDirectory(frame.directory, h.frames_bytes); !good.ok()) {
    return Damaged("directory", good.error().message);
  }
  return frame;
}

absl::StatusOr<PartFrame> ParsePart(std::span<const std::byte> bytes, const PartExpectation& expect) {
  absl::StatusOr<PartFrame> frame = ParseAnyPart(bytes);
  if (!frame.ok()) return frame;
  if (absl::Status s = CheckExpectation(frame->header, expect); !s.ok()) return s;
  return frame;
}

PartId IdOf(const PartHeader& header) {
  PartId id;
  CopyTo(header.key, id.key);
  CopyTo(header.view_digest, id.view);
  id.layer_group = header.layer_group;
  id.head_group = header.head_group;
  id.plane = header.plane;
  return id;
}

absl::Status CheckSameWrite(const PartHeader& base, const PartHeader& upper) {
  if (std::memcmp(base.planes_digest, upper.planes_digest, sizeof base.planes_digest) != 0) {
    return Damaged("planes_digest", "is that of other frames: the plane is of another write");
  }
  return absl::OkStatus();
}

absl::Status CheckFrames(std::span<const std::byte> part, const PartFrame& frame) {
  if (part.size() < frame.total_bytes) {
    return Damaged("length", absl::StrCat(part.size(), " bytes, header and directory say ", frame.total_bytes));
  }
  const std::span<const std::byte> area = part.subspan(frame.frames_offset, frame.total_bytes - frame.frames_offset);
  for (size_t i = 0; i < frame.directory.size(); ++i) {
    const FrameEntry& entry = frame.directory[i];
    if (Crc32c(area.subspan(entry.offset, entry.length)) != entry.crc32c) {
      return Damaged(absl::StrCat("frame ", i), "its CRC32C does not fit");
    }
    const uint64_t end = uint64_t{entry.offset} + entry.length;
    const std::span<const std::byte> padding = area.subspan(end, AlignFrame(end) - end);
    if (std::any_of(padding.begin(), padding.end(), [](std::byte b) { return b != std::byte{0}; })) {
      return Damaged(absl::StrCat("frame ", i), "its padding is not zero");
    }
  }
  return absl::OkStatus();
}

void StampGeneration(std::span<std::byte> part, uint64_t generation) {
  KVASIR_CHECK(part.size() >= sizeof(PartHeader), "no header to stamp");
  std::memcpy(part.data() + offsetof(PartHeader, generation), &generation, sizeof generation);
}

}  // namespace kvasir
