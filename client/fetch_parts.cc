// SPDX-License-Identifier: Apache-2.0
// A fetch's parts: pulling, checking, unpacking.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/fetch.h"

namespace kvasir::client {

absl::StatusOr<bool> Fetch::PullNext() {
  if (finished_ || !planned_ || ready_.empty()) return false;
  const Turn turn = *ready_.begin();
  BlockState& block = At(turn.block);
  PartState& part = block.parts[turn.part];
  Arena& arena = desk_.staging.fetches();
  const uint64_t bytes = PlanSlot(part);
  if (bytes > arena.size()) {
    ready_.erase(ready_.begin());
    FailBlock(turn.block, Miss::kUnavailable,
              absl::ResourceExhaustedError(
                  absl::StrCat("a part of ", bytes, " bytes does not fit into half of staging_bytes")));
    return true;
  }
  const std::optional<Slot> slot = arena.Allocate(bytes);
  if (!slot) return absl::ResourceExhaustedError("staging");
  ready_.erase(ready_.begin());
  part.slot = *slot;
  ++block.under_way;
  PullPlane(turn);
  return true;
}

/// The plane whose turn it is: whole, or its header first where not all layers are wanted.
void Fetch::PullPlane(const Turn& turn) {
  PartState& part = At(turn.block).parts[turn.part];
  const PartGrant& grant = part.now().grant;
  const bool whole = part.first_layer == part.cell.first_layer && part.layers == part.cell.layers;
  if (whole) return Pull(turn, 0, grant.bytes, &Fetch::Landed);
  Pull(turn, 0, grant.frames_offset, &Fetch::HeadLanded);
}

/// Brings bytes of a plane to their place in the slot, then calls `landed`. The slot is given back here when that
/// fails: at once, or when the transport releases it. What failed above plane 0 is left out where nothing can land in
/// the slot any more.
void Fetch::Pull(const Turn& turn, uint64_t offset, uint64_t bytes, void (Fetch::*landed)(const Turn&)) {
  BlockState& block = At(turn.block);
  PartState& part = block.parts[turn.part];
  const PlaneState& plane = part.now();
  const uint32_t number = part.bringing;
  const std::shared_ptr<Path> path = block.held.lease->path();
  absl::StatusOr<RemoteSpan> remote = RemoteSpan::Decode(plane.grant.grant);
  auto failed = [self = shared_from_this(), turn](Miss cause, const absl::Status& status) {
    --self->At(turn.block).under_way;
    self->FailBlock(turn.block, cause, status);
    self->BlockQuiet(turn.block);
  };
  if (!path->up() || !remote.ok() || remote->length != plane.grant.bytes) {
    if (number > 0) return LeaveOut(turn, number);
    desk_.staging.fetches().Free(part.slot);
    if (!path->up()) return failed(Miss::kUnavailable, absl::UnavailableError("the connection ended"));
    return failed(Miss::kHeader, absl::DataLossError("a grant that does not cover its part"));
  }
  const Piece piece{desk_.staging.Bytes(part.slot).subspan(plane.at + offset, bytes), remote->Slice(offset, bytes)};
  const Instant begin = desk_.loop.Now();
  // A node that falls silent in the middle may not eat the time of another that holds the block, too.
  const auto left = std::max(Duration::zero(), std::chrono::duration_cast<Duration>(order_.deadline - begin));
  const Instant until = begin + std::min(desk_.options.call_deadline, finder_->MoreOwners(turn.block) ? left / 2 : left);
  auto done = [self = shared_from_this(), turn, number, bytes, begin, until, landed, failed, path,
               slot = part.slot](PullResult result) {
    Instant& landed_at = self->landed_at_[path.get()];
    if (result.status.ok()) {
      landed_at = self->desk_.loop.Now();
      self->moved_bytes_ += bytes;
      self->desk_.Trace({.what = "pull", .block = turn.block, .layer = turn.layer, .begin = begin,
                         .end = self->desk_.loop.Now(), .bytes = bytes});
      return (self.get()->*landed)(turn);
    }
    const bool late = self->desk_.loop.Now() >= self->order_.deadline;
    const bool silent = absl::IsDeadlineExceeded(result.status) && until < self->order_.deadline && landed_at <= begin;
    if (number > 0 && !result.quarantined) {
      self->LeaveOut(turn, number);
    } else {
      if (!result.quarantined) self->desk_.staging.fetches().Free(slot);
      failed(late ? Miss::kLate : Miss::kUnavailable, result.status);
    }
    if (silent && path->up()) path->link->Fail(result.status);
  };
  auto released = [&desk = desk_, slot = part.slot] { desk.staging.fetches().Free(slot); };
  path->connection->Pull({&piece, 1}, until, std::move(done), std::move(released));
}

/// What landed may still be anything: it is checked against what was asked for.
absl::Status Fetch::CheckHeader(const BlockState& block, PartState& part, uint64_t landed_bytes) {
  const CompiledView& view = *block.held.view;
  PlaneState& plane = part.now();
  PartExpectation expect;
  expect.id = {.key = (*order_.request.chain)[block.held.block],
               .view = view.digest,
               .layer_group = plane.grant.layer_group,
               .head_group = plane.grant.head_group,
               .plane = plane.grant.plane};
  expect.ns = desk_.ns_digest;
  expect.generation = plane.grant.generation;
  absl::StatusOr<PartFrame> frame = ParsePart(desk_.staging.Bytes(part.slot).subspan(plane.at, landed_bytes), expect);
  if (!frame.ok()) return frame.status();
  const PartHeader& header = frame->header;
  const bool same_cell = header.first_layer == part.cell.first_layer && header.layers == part.cell.layers &&
                         header.first_head == part.cell.first_head && header.heads == part.cell.heads &&
                         header.token_count == part.cell.tokens;
  if (!same_cell) return absl::DataLossError("the header names another rectangle");
  if (frame->spec != view.view.spec) return absl::DataLossError("the part was made by another spec");
  if (header.planes != (view.view.planes > 1 ? view.view.planes : 0))
    return absl::DataLossError("the part has another number of planes");
  if (frame->directory.size() != FrameCount(desk_.options.ns.layout, part.cell)) return absl::DataLossError("frame_count");
  if (frame->frames_offset != plane.grant.frames_offset || frame->total_bytes != plane.grant.bytes) {
    return absl::DataLossError("the part has another length than its grant");
  }
  const Result<bool> directory = CheckDirectory(frame->directory, header.frames_bytes);
  if (!directory.ok()) return absl::DataLossError(directory.error().message);
  plane.frame = *std::move(frame);
  return absl::OkStatus();
}

/// Bytes of a plane were not what they should be: its node looks at its own copy.
void Fetch::Report(const Turn& turn, uint32_t plane) {
  const BlockState& block = At(turn.block);
  const PartGrant& grant = block.parts[turn.part].planes[plane].grant;
  const std::shared_ptr<Path>& path = block.held.lease->path();
  const DamagedPart damaged{(*order_.request.chain)[turn.block], block.held.view->view, grant.layer_group,
                            grant.head_group, grant.plane};
  if (path->up()) path->link->ReportDamage(path->shard, damaged);
}

/// Frees the slot and counts the part's work as ended.
void Fetch::DropPart(const Turn& turn, Miss cause, const absl::Status& why) {
  BlockState& block = At(turn.block);
  desk_.staging.fetches().Free(block.parts[turn.part].slot);
  // Found by a fetch that still waits for the part: one that has finished (its leases are gone) drops with kNone.
  if (cause == Miss::kHeader || cause == Miss::kCrc) Report(turn, 0);
  --block.under_way;
  if (cause != Miss::kNone) FailBlock(turn.block, cause, why);
  BlockQuiet(turn.block);
}

/// Nobody waits for this part any more.
bool Fetch::Idle(const Turn& turn) { return finished_ || beyond(turn.block) || At(turn.block).failed != Miss::kNone; }

void Fetch::HeadLanded(const Turn& turn) {
  BlockState& block = At(turn.block);
  PartState& part = block.parts[turn.part];
  if (Idle(turn)) return DropPart(turn, Miss::kNone, {});
  const absl::Status status = CheckHeader(block, part, part.now().grant.frames_offset);
  if (!status.ok()) return Damaged(turn, status);
  const auto [begin, end] = FrameRange(part, part.now());
  if (begin == end) return FramesLanded(turn);  // nothing of this plane in these layers
  Pull(turn, part.now().grant.frames_offset + begin, end - begin, &Fetch::FramesLanded);
}

void Fetch::Landed(const Turn& turn) {
  BlockState& block = At(turn.block);
  PartState& part = block.parts[turn.part];
  if (Idle(turn)) return DropPart(turn, Miss::kNone, {});
  const absl::Status status = CheckHeader(block, part, part.now().grant.bytes);
  if (!status.ok()) return Damaged(turn, status);
  FramesLanded(turn);
}

/// The header of a plane is not what was asked for.
void Fetch::Damaged(const Turn& turn, const absl::Status& why) {
  const uint32_t plane = At(turn.block).parts[turn.part].bringing;
  if (plane == 0) return DropPart(turn, Miss::kHeader, why);
  Report(turn, plane);
  LeaveOut(turn, plane);
}

/// Bytes [first, second) of the frame area that hold the layers to bring: frames are layer-major.
std::pair<uint64_t, uint64_t> Fetch::FrameRange(const PartState& part, const PlaneState& plane) const {
  const KvLayout& layout = desk_.options.ns.layout;
  const std::vector<FrameEntry>& directory = plane.frame.directory;
  const uint32_t first = FrameIndex(layout, part.cell, part.first_layer, KvTensor::kKey);
  const uint32_t last = first + part.layers * layout.tensors() - 1;
  const uint64_t end = std::min<uint64_t>(AlignFrame(uint64_t{directory[last].offset} + directory[last].length),
                                          plane.frame.header.frames_bytes);
  return {directory[first].offset, end};
}

/// One plane of it: the next one, or the device.
void Fetch::FramesLanded(const Turn& turn) {
  if (Idle(turn)) return DropPart(turn, Miss::kNone, {});
  PartState& part = At(turn.block).parts[turn.part];
  if (part.bringing > 0 && !CheckSameWrite(part.planes[0].frame.header, part.now().frame.header).ok()) {
    return LeaveOut(turn, part.bringing);
  }
  if (part.bringing + 1 == part.planes.size()) return PlanesLanded(turn);
  ++part.bringing;
  PullPlane(turn);
}

void Fetch::Unpacked(const Turn& turn, const absl::Status& status, std::shared_ptr<PartRows> rows) {
  if (!status.ok()) return DropPart(turn, absl::IsDataLoss(status) ? Miss::kCrc : Miss::kUnavailable, status);
  BlockState& block = At(turn.block);
  if (rows != nullptr) block.rows.push_back(std::move(rows));
  const PartState& part = block.parts[turn.part];
  const auto had = static_cast<uint32_t>(part.planes.size());
  block.planes = std::min(block.planes, had);
  desk_.Count(Counter::kPlanesMissed, PlanesWanted(block.held.view->view) - had);
  for (uint32_t layer = part.first_layer; layer < part.first_layer + part.layers; ++layer) {
    uint16_t& left = block.layer_left[layer - order_.slice.first_layer];
    if (left == kInPlace || --left > 0) continue;
    left = kInPlace;
    --block.layers_left;
    if (order_.request.extents == nullptr) order_.gate->Raise(layer, turn.block - order_.request.first_block);
  }
  DropPart(turn, Miss::kNone, {});
}

}  // namespace kvasir::client
