// SPDX-License-Identifier: Apache-2.0
// Fetch: one chain's blocks from their owners into the pages, as far as they are held.
//
//   Finder --held--> wanted parts, ordered by layer then block --Pump--> slot --Pull--> landed
//     ^                                                                                   | header, directory checked
//     |                                                                                unpack job (CRC, decode, scatter)
//     '-- a block that failed once, when nothing of it is under way --------- failed? ----'--> layer in place
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
  struct PartState {
    PartGrant grant;
    PartGeometry cell;
    uint32_t first_layer = 0, layers = 0;    // to bring: of the slice, not yet in place
    Slot slot;                               // from the pull to the end of the job
    PartFrame frame;
  };
  struct BlockState {
    HeldBlock held;
    std::vector<PartState> parts;
    std::vector<std::shared_ptr<const PartRows>> rows;  // for head extents: unpacked in this attempt
    std::vector<uint16_t> layer_left;        // per layer of the slice: parts still to come; kInPlace when done
    uint32_t layers_left = 0;
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
  void Pull(const Turn& turn, uint64_t offset, uint64_t bytes, void (Fetch::*landed)(const Turn&));
  void HeadLanded(const Turn& turn);
  void Landed(const Turn& turn);
  void FramesLanded(const Turn& turn);
  template <class Job>
  void Unpack(Job job, const Turn& turn, std::shared_ptr<PartRows> rows);
  void Unpacked(const Turn& turn, const absl::Status& status, std::shared_ptr<PartRows> rows);
  void DropPart(const Turn& turn, Miss cause, const absl::Status& why);
  bool Idle(const Turn& turn);
  absl::Status CheckHeader(const BlockState& block, PartState& part, uint64_t landed_bytes);
  std::pair<uint64_t, uint64_t> FrameRange(const PartState& part) const;
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
  const auto [begin, end] = FrameRange(part);
  const Slice& slice = order_.slice;
  job.codec = block.held.view->codec;
  job.part = part.cell;
  job.first_layer = part.first_layer;
  job.layers = part.layers;
  job.first_head = std::max(part.cell.first_head, slice.first_head);
  job.heads = std::min(part.cell.first_head + part.cell.heads, slice.first_head + slice.heads) - job.first_head;
  job.directory = part.frame.directory;
  job.frames = desk_.staging.Bytes(part.slot).subspan(part.grant.frames_offset + begin, end - begin);
  job.frames_offset = begin;
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
