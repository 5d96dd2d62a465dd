// SPDX-License-Identifier: Apache-2.0
// Cutting copies what was stored, on the Loop; encoding, which is more work, is the device's.
#include "client/seal.h"

#include <cstddef>
#include <cstring>
#include <utility>

#include "kernels/planes.h"

namespace kvasir::client {
namespace {

constexpr uint64_t AlignPart(uint64_t bytes) { return (bytes + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment; }

void NoteRoot(PackedPart& part) {
  std::memcpy(part.root, part.bytes().data() + offsetof(PartHeader, root), sizeof part.root);
}

}  // namespace

SlotPlan PlanSlot(const CompiledView& view, const KvLayout& layout, const PartGeometry& cell) {
  SlotPlan plan;
  plan.room = plan.area = FramesOffset(static_cast<uint32_t>(view.view.spec.size()), FrameCount(layout, cell));
  if (view.view.planes > 1) {
    plan.area = 0;
    for (uint32_t plane = 0; plane < view.view.planes; ++plane) {
      plan.planes.push_back(plan.area);
      plan.area = AlignPart(plan.area + plan.room + MaxPlaneAreaBytes(*view.codec, layout, cell, plane));
    }
  }
  plan.bytes = plan.area + MaxFrameAreaBytes(*view.codec, layout, cell);
  return plan;
}

std::vector<std::shared_ptr<PackedPart>> SealParts(const PartHeader& header, const CompiledView& view,
                                                   const KvLayout& layout, const PartGeometry& cell,
                                                   const std::shared_ptr<PackedPart>& part) {
  const SlotPlan plan = PlanSlot(view, layout, cell);
  const PackResult& packed = part->packed;
  if (plan.planes.empty()) {
    SealHeader(header, view.view.spec, packed.directory, packed.area_bytes, part->bytes().first(plan.room));
    NoteRoot(*part);
    part->Shrink(plan.room + packed.area_bytes);
    return {part};
  }
  const std::span<std::byte> slot = part->bytes();
  std::vector<std::vector<FrameEntry>> directories;
  std::vector<uint64_t> areas;
  for (uint32_t plane = 0; plane < plan.planes.size(); ++plane) {
    const uint64_t begin = plan.planes[plane] + plan.room;
    const uint64_t end = plane + 1 < plan.planes.size() ? plan.planes[plane + 1] : plan.area;
    CutPlane cut = CutOutPlane(*view.codec, layout, cell, plane, packed.directory,
                               slot.subspan(plan.area, packed.area_bytes), slot.subspan(begin, end - begin));
    directories.push_back(std::move(cut.directory));
    areas.push_back(cut.area_bytes);
  }
  PartHeader of_plane = header;
  of_plane.planes = static_cast<uint16_t>(plan.planes.size());
  ComputePlanesDigest(directories, of_plane.planes_digest);
  std::vector<std::shared_ptr<PackedPart>> parts;
  for (uint16_t plane = 0; plane < plan.planes.size(); ++plane) {
    of_plane.plane = plane;
    SealHeader(of_plane, view.view.spec, directories[plane], areas[plane], slot.subspan(plan.planes[plane], plan.room));
    auto made = std::make_shared<PackedPart>(part, plan.planes[plane], plan.room + areas[plane]);
    made->layer_group = header.layer_group;
    made->head_group = header.head_group;
    made->plane = plane;
    NoteRoot(*made);
    parts.push_back(std::move(made));
  }
  part->Shrink(plan.planes.back() + plan.room + areas.back());
  return parts;
}

}  // namespace kvasir::client
