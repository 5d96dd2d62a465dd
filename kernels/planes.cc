// SPDX-License-Identifier: Apache-2.0
// Host memory only: bytes are moved and checksummed, never decoded.
#include "kernels/planes.h"

#include <algorithm>
#include <cstring>

#include "kernels/portable.h"

namespace kvasir {
namespace {

/// Where plane `plane` of a frame of `length` bytes lies in it.
struct Slice {
  uint64_t begin, end;
};
Slice SliceOf(const Codec& codec, KvTensor tensor, const FrameShape& shape, uint32_t plane, uint64_t length) {
  const uint64_t begin = plane == 0 ? 0 : codec.PlaneEnd(tensor, shape, plane - 1);
  return {std::min(begin, length), std::min(codec.PlaneEnd(tensor, shape, plane), length)};
}

/// Puts zeros from `end` to the next frame. Answers where that begins.
uint64_t Pad(std::span<std::byte> area, uint64_t end) {
  const uint64_t next = AlignFrame(end);
  std::memset(area.data() + end, 0, next - end);
  return next;
}

std::span<const std::byte> BytesOf(const LandedPlane& plane, uint32_t frame) {
  const FrameEntry& entry = plane.directory[frame];
  if (entry.length == 0) return {};
  return plane.frames.subspan(entry.offset - plane.frames_offset, entry.length);
}

}  // namespace

uint64_t MaxPlaneAreaBytes(const Codec& codec, const KvLayout& layout, const PartGeometry& part, uint32_t plane) {
  uint64_t layer = 0;
  for (uint32_t t = 0; t < layout.tensors(); ++t) {
    const KvTensor tensor = static_cast<KvTensor>(t);
    const FrameShape shape = ShapeOfFrame(layout, part, tensor);
    const Slice most = SliceOf(codec, tensor, shape, plane, codec.MaxFrameBytes(tensor, shape));
    layer += AlignFrame(most.end - most.begin);
  }
  return layer * part.layers;
}

CutPlane CutOutPlane(const Codec& codec, const KvLayout& layout, const PartGeometry& part, uint32_t plane,
                     std::span<const FrameEntry> directory, std::span<const std::byte> area, std::span<std::byte> out) {
  KERNELS_CHECK(directory.size() == FrameCount(layout, part));
  CutPlane cut;
  cut.directory.resize(directory.size());
  for (size_t i = 0; i < directory.size(); ++i) {
    const KvTensor tensor = static_cast<KvTensor>(i % layout.tensors());
    const Slice slice = SliceOf(codec, tensor, ShapeOfFrame(layout, part, tensor), plane, directory[i].length);
    const uint64_t bytes = slice.end - slice.begin;
    KERNELS_CHECK(AlignFrame(cut.area_bytes + bytes) <= out.size());
    const std::span<std::byte> to = out.subspan(cut.area_bytes, bytes);
    if (bytes > 0) std::memcpy(to.data(), area.data() + directory[i].offset + slice.begin, bytes);
    cut.directory[i] = {static_cast<uint32_t>(cut.area_bytes), static_cast<uint32_t>(bytes), Crc32c(to),
                        directory[i].positions};
    cut.area_bytes = Pad(out, cut.area_bytes + bytes);
  }
  return cut;
}

uint32_t SoundPlanes(std::span<const LandedPlane> planes, uint32_t first, uint32_t count) {
  for (uint32_t p = 0; p < planes.size(); ++p) {
    for (uint32_t i = first; i < first + count; ++i) {
      if (Crc32c(BytesOf(planes[p], i)) != planes[p].directory[i].crc32c) return p;
    }
  }
  return static_cast<uint32_t>(planes.size());
}

uint64_t JoinedBytes(std::span<const LandedPlane> planes, uint32_t first, uint32_t count) {
  uint64_t bytes = 0;
  for (uint32_t i = first; i < first + count; ++i) {
    uint64_t frame = 0;
    for (const LandedPlane& plane : planes) frame += plane.directory[i].length;
    bytes += AlignFrame(frame);
  }
  return bytes;
}

uint64_t JoinPlanes(std::span<const LandedPlane> planes, uint32_t first, uint32_t count,
                    std::vector<FrameEntry>& directory, std::span<std::byte> out) {
  directory.assign(planes[0].directory.size(), {});
  uint64_t offset = 0, begin = 0;
  for (uint32_t i = 0; i < directory.size(); ++i) {
    if (i == first) begin = offset;
    FrameEntry& entry = directory[i];
    entry.offset = static_cast<uint32_t>(offset);
    entry.positions = planes[0].directory[i].positions;
    for (const LandedPlane& plane : planes) {
      if (i >= first && i < first + count && plane.directory[i].length > 0) {
        const std::span<const std::byte> bytes = BytesOf(plane, i);
        const std::span<std::byte> to = out.subspan(offset - begin + entry.length, bytes.size());
        std::memcpy(to.data(), bytes.data(), bytes.size());
        entry.crc32c = Crc32c(to, entry.crc32c);
      }
      entry.length += plane.directory[i].length;
    }
    const uint64_t end = offset + entry.length;
    if (i >= first && i < first + count) Pad(out.subspan(0, AlignFrame(end) - begin), end - begin);
    offset = AlignFrame(end);
  }
  return begin;
}

}  // namespace kvasir
