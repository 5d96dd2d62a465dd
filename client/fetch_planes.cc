// SPDX-License-Identifier: Apache-2.0
// A fetch's planes: how many, where they land, what becomes of one that is missing, and the frames that they make.
//
// Joining checks and copies what was stored, on the Loop; decoding, which is more work, is the device's. A part of one plane is
// decoded where it landed.
#include <algorithm>
#include <utility>

#include "client/fetch.h"
#include "kernels/planes.h"

namespace kvasir::client {
namespace {

constexpr uint64_t AlignPart(uint64_t bytes) { return (bytes + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment; }

}  // namespace

uint32_t Fetch::PlanesWanted(const View& view) const {
  return kvasir::client::PlanesWanted(view, order_.request.planes);
}

/// Gives every plane its place. Answers the bytes of the slot: the planes, and room for the frames they make.
uint64_t Fetch::PlanSlot(PartState& part) const {
  uint64_t bytes = 0, joined = 0;
  for (PlaneState& plane : part.planes) {
    plane.at = bytes;
    bytes += part.planes.size() > 1 ? AlignPart(plane.grant.bytes) : plane.grant.bytes;
    joined += plane.grant.bytes - plane.grant.frames_offset;
  }
  part.joined_at = bytes;
  return part.planes.size() > 1 ? bytes + joined : bytes;
}

/// Goes on without plane `plane` and those above it.
void Fetch::LeaveOut(const Turn& turn, uint32_t plane) {
  PartState& part = At(turn.block).parts[turn.part];
  part.planes.resize(plane);
  part.bringing = plane - 1;
  PlanesLanded(turn);
}

/// All planes that will come are there.
void Fetch::PlanesLanded(const Turn& turn) {
  if (Idle(turn)) return DropPart(turn, Miss::kNone, {});
  const PartState& part = At(turn.block).parts[turn.part];
  if (part.planes.size() > 1 && !JoinPlanes(turn)) {
    return DropPart(turn, Miss::kCrc, absl::DataLossError("plane 0: checksum of a frame is wrong"));
  }
  Submit(turn);
}

/// False when plane 0 is damaged. A damaged plane above it is left out.
bool Fetch::JoinPlanes(const Turn& turn) {
  PartState& part = At(turn.block).parts[turn.part];
  const KvLayout& layout = desk_.options.ns.layout;
  const uint32_t first = FrameIndex(layout, part.cell, part.first_layer, KvTensor::kKey);
  const uint32_t count = part.layers * layout.tensors();
  const std::span<std::byte> slot = desk_.staging.Bytes(part.slot);
  std::vector<LandedPlane> landed;
  for (const PlaneState& plane : part.planes) {
    const auto [begin, end] = FrameRange(part, plane);
    landed.push_back(
        {plane.frame.directory, slot.subspan(plane.at + plane.grant.frames_offset + begin, end - begin), begin});
  }
  const uint32_t sound = SoundPlanes(landed, first, count);
  if (sound == 0) return false;
  if (sound < landed.size()) {
    Report(turn, sound);
    landed.resize(sound);
    part.planes.resize(sound);
  }
  // One plane alone is decoded as it lies there, checked once more by the device.
  if (sound > 1) kvasir::JoinPlanes(landed, first, count, part.joined, slot.subspan(part.joined_at));
  return true;
}

/// To the device.
void Fetch::Submit(const Turn& turn) {
  if (order_.request.extents != nullptr) return UnpackRows(turn);
  UnpackJob job;
  job.cache = order_.request.cache;
  job.pages = order_.request.pages;
  Unpack(std::move(job), turn, nullptr);
}

}  // namespace kvasir::client
