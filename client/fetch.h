// SPDX-License-Identifier: Apache-2.0
// Fetch: one chain's blocks from their owners into the pages, as far as they are held.
//
//   Finder --held--> wanted parts, ordered by layer then block --Pump--> slot --Pull--> landed
//     ^                                                                                   | header, directory checked
//     |                                                                                unpack job (CRC, decode, scatter)
//     '-- a block that failed once, when nothing of it is under way --------- failed? ----'--> layer in place
//
// Where the view has planes, those of a cell are pulled one after the other into one slot and joined (fetch_planes.cc):
//
//   [ plane 0, as it landed | plane 1, as it landed | frames made of both ]
//
// A plane above the lowest that does not come, or not as it should be, is left out with those above it: no miss, but
// counted.
//
// A block that fails on the node that held it is asked of the next owner once; failing again, or found nowhere, it is the
// gap, and the fetch brings what lies before it. Layers of a block that are in place are not written again.
//
// Into head extents, a part's rows are unpacked to memory of their own, and placed all together at the end: where a head
// begins follows from the lengths of all blocks. A block that is asked again then begins anew.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "client/desk.h"
#include "client/finder.h"
#include "client/layer_gate.h"
#include "client/router.h"
#include "kernels/row_jobs.h"
#include "store/api/part.h"

namespace kvasir::client {

/// What a caller asked, after its defaults were filled in.
struct FetchOrder {
  FetchId id = 0;
  FetchRequest request;
  Slice slice;
  std::vector<std::string> accept;           ///< canonical
  Instant deadline;
  std::shared_ptr<LayerGate> gate;
  std::shared_ptr<DeviceEvent> after;        ///< in the caller's stream
  std::function<void(FetchResult)> done;
};
/// Fills blocks, first_layer, layers and heads; InvalidArgument names what does not fit.
absl::StatusOr<Slice> SliceOfFetch(FetchRequest& request, const Namespace& ns);

class FetchEngine;

/// One fetch. Owned by shared_ptr: pulls and jobs hold it. The Loop only.
class Fetch : public std::enable_shared_from_this<Fetch> {
 public:
  Fetch(FetchEngine& engine, Desk& desk, Router& router, FetchOrder order);
  void Start();
  /// Starts the next pull. False: nothing is left to pull now. ResourceExhausted: no room in staging.
  absl::StatusOr<bool> PullNext();
  /// Ends it early with what is in place; waits for its jobs only.
  void Stop(const absl::Status& why, Miss cause);
  const FetchOrder& order() const { return order_; }

 private:
  struct PlaneState {
    PartGrant grant;
    PartFrame frame;                         // once its header landed
    uint64_t at = 0;                         // where its part begins in the slot
  };
  /// A cell: one part, or one a plane.
  struct PartState {
    std::vector<PlaneState> planes;          // lowest first, without a gap; at least one
    uint32_t bringing = 0;                   // the plane that is being pulled
    PartGeometry cell;
    uint32_t first_layer = 0, layers = 0;    // to bring: of the slice, not yet in place
    Slot slot;                               // from the pull to the end of the job
    std::vector<FrameEntry> joined;          // of frames made of several planes, which lie in the slot
    uint64_t joined_at = 0;                  //   from here on
    PlaneState& now() { return planes[bringing]; }
    bool pending() const {
      return std::any_of(planes.begin(), planes.end(), [](const PlaneState& plane) { return plane.grant.pending; });
    }
  };
  struct BlockState {
    HeldBlock held;
    std::vector<PartState> parts;
    std::vector<std::shared_ptr<const PartRows>> rows;  // for head extents: unpacked in this attempt
    std::vector<uint16_t> layer_left;        // per layer of the slice: parts still to come; kInPlace when done
    uint32_t layers_left = 0;
    uint32_t planes = kPlanesMax;            // the fewest that a part in place was made of
    uint32_t under_way = 0;                  // pulls and jobs
    bool granted = false;
    bool retried = false;
    Miss failed = Miss::kNone;               // of this attempt: waits for under_way == 0
    absl::Status why;
  };
  static constexpr uint16_t kInPlace = 0xffff;
  /// Work in the order in which an engine needs it.
  struct Turn {
    uint32_t layer, block, part;
    auto operator<=>(const Turn&) const = default;
  };

  // Finding.
  void Held(HeldBlock held);
  void Leased(const std::shared_ptr<Lease>& lease);
  void LeaseEvent(const std::shared_ptr<Lease>& lease, const WatchEvent& event);
  void PartReady(const std::shared_ptr<Lease>& lease, const PartsReady::Ready& ready);
  // Bringing (fetch_parts.cc).
  void PullPlane(const Turn& turn);
  void Pull(const Turn& turn, uint64_t offset, uint64_t bytes, void (Fetch::*landed)(const Turn&));
  void HeadLanded(const Turn& turn);
  void Landed(const Turn& turn);
  void Damaged(const Turn& turn, const absl::Status& why);
  void FramesLanded(const Turn& turn);
  template <class Job>
  void Unpack(Job job, const Turn& turn, std::shared_ptr<PartRows> rows);
  void Unpacked(const Turn& turn, const absl::Status& status, std::shared_ptr<PartRows> rows);
  void DropPart(const Turn& turn, Miss cause, const absl::Status& why);
  bool Idle(const Turn& turn);
  absl::Status CheckHeader(const BlockState& block, PartState& part, uint64_t landed_bytes);
  std::pair<uint64_t, uint64_t> FrameRange(const PartState& part, const PlaneState& plane) const;
  void Report(const Turn& turn, uint32_t plane);
  // Planes (fetch_planes.cc).
  uint32_t PlanesWanted(const View& view) const;
  uint64_t PlanSlot(PartState& part) const;
  void LeaveOut(const Turn& turn, uint32_t plane);
  void PlanesLanded(const Turn& turn);
  bool JoinPlanes(const Turn& turn);
  void Submit(const Turn& turn);
  // Into head extents (fetch_rows.cc).
  void UnpackRows(const Turn& turn);
  void PlaceRows();
  void RowsPlaced(absl::Status status);
  // Ending.
  void FailBlock(uint32_t block, Miss cause, const absl::Status& why);
  void BlockQuiet(uint32_t block);
  void Cut(uint32_t block, absl::Status why);
  void MaybeFinish();
  void Finish();
  BlockState& At(uint32_t block) { return blocks_[block - order_.request.first_block]; }
  bool beyond(uint32_t block) const { return block - order_.request.first_block >= found_; }

  FetchEngine& engine_;
  Desk& desk_;
  FetchOrder order_;
  std::shared_ptr<Finder> finder_;           // shared with its calls under way
  std::vector<BlockState> blocks_;
  std::vector<std::shared_ptr<Lease>> leases_;
  std::set<Turn> ready_;
  uint32_t found_ = 0;                       // blocks before the first gap known
  uint32_t complete_ = 0;                    // leading blocks all of whose layers are in place
  uint32_t jobs_ = 0;
  absl::Status gap_why_;
  Loop::TimerId deadline_timer_ = 0;
  uint64_t moved_bytes_ = 0;
  std::map<const Path*, Instant> landed_at_; // when something came over it last: slow is not silent
  bool planned_ = false;                     // every owner answered once
  bool placing_ = false;                     // the rows of all blocks found are being placed, or are
  bool finished_ = false;
};

/// Hands a part's frames, landed and checked, to the device. `rows`: kept until then.
template <class Job>
void Fetch::Unpack(Job job, const Turn& turn, std::shared_ptr<PartRows> rows) {
  BlockState& block = At(turn.block);
  PartState& part = block.parts[turn.part];
  const PlaneState& base = part.planes[0];
  const auto [begin, end] = FrameRange(part, base);
  const Slice& slice = order_.slice;
  job.codec = block.held.view->codec;
  job.part = part.cell;
  job.first_layer = part.first_layer;
  job.layers = part.layers;
  job.first_head = std::max(part.cell.first_head, slice.first_head);
  job.heads = std::min(part.cell.first_head + part.cell.heads, slice.first_head + slice.heads) - job.first_head;
  job.directory = part.joined.empty() ? base.frame.directory : part.joined;
  job.frames = desk_.staging.Bytes(part.slot).subspan(base.at + base.grant.frames_offset + begin, end - begin);
  job.frames_offset = begin;
  if (!part.joined.empty()) {
    job.frames = desk_.staging.Bytes(part.slot).subspan(part.joined_at);
    const uint32_t first = FrameIndex(desk_.options.ns.layout, part.cell, part.first_layer, KvTensor::kKey);
    job.frames_offset = part.joined[first].offset;
  }
  ++jobs_;
  const Instant started = desk_.loop.Now();
  desk_.bench.Submit(std::move(job), order_.request.stream, order_.after,
                     [self = shared_from_this(), turn, started, rows = std::move(rows)](const absl::Status& status) {
                       self->desk_.Trace({.what = "decode", .block = turn.block, .layer = turn.layer, .begin = started,
                                          .end = self->desk_.loop.Now(), .bytes = 0});
                       --self->jobs_;
                       self->Unpacked(turn, status, rows);
                       self->MaybeFinish();
                     });
}

/// The fetches under way, sharing the second half of staging: oldest first.
class FetchEngine {
 public:
  FetchEngine(Desk& desk, Router& router);
  void Start(FetchOrder order);
  /// Ends all with Aborted; those with jobs under way when these end.
  void Abort();
  /// Pulls as long as there is room. Cheap to ask for: runs once per turn of the Loop.
  void Pump();
  void Gone(FetchId id) { fetches_.erase(id); }

 private:
  Desk& desk_;
  Router& router_;
  bool pump_posted_ = false;
  std::map<FetchId, std::shared_ptr<Fetch>> fetches_;
};

}  // namespace kvasir::client
