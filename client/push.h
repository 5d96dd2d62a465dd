// SPDX-License-Identifier: Apache-2.0
// Push: layers of one block from the pages into parts, offered to the nodes that own its run.
//
//   queue --room--> slot --pack job--> header sealed --> outbox --> nodes pull and answer --> slot free, next pass or done
//
// A pass packs every part once and offers it to all its targets. Targets that fail are replaced once, by the next of the
// ranking, in a second pass that packs again: the pages are the caller's until the callback, and a slot is never held for
// a retry that may not come. A part that a node has already (AlreadyExists) counts as brought. Where the codec has
// planes, a cell is packed once and becomes a part a plane (client/seal.h).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "client/desk.h"
#include "client/outbox.h"
#include "client/router.h"
#include "kernels/row_jobs.h"
#include "store/api/part.h"

namespace kvasir::client {

/// What a caller asked, checked.
struct PushOrder {
  PushRequest request;
  std::shared_ptr<const CompiledView> view;
  uint32_t first_layer_group = 0, layer_groups = 0;
  uint32_t first_head_group = 0, head_groups = 0;
  Instant deadline;
  std::shared_ptr<DeviceEvent> after;  ///< in the caller's stream
  std::string selection_context;       ///< of the view; "" = it chooses no tokens
  std::shared_ptr<const ChainSelection> selection;  ///< of the whole chain, once it was made
  std::function<void(PushResult)> done;
};
/// Fills view and groups. InvalidArgument names what does not fit, or an input that the view needs. The Loop only.
absl::Status CheckPush(PushOrder& order, Desk& desk);

/// One push. Owned by shared_ptr: jobs and offers hold it. The Loop only.
class Push : public std::enable_shared_from_this<Push>, public OfferedFor {
 public:
  /// `changed` tells its engine that there is more to pack, or that it has ended.
  enum class Change : uint8_t { kMore, kEnded };
  Push(Desk& desk, Router& router, Outbox& outbox, PushOrder order, std::function<void(Change)> changed);
  void Begin();
  /// Packs the next part. False: nothing to pack now. ResourceExhausted: no room in staging.
  absl::StatusOr<bool> PackNext();
  /// Ends it with `why` as soon as no job of it is under way.
  void Stop(const absl::Status& why);
  bool finished() const { return finished_; }
  Instant deadline() const { return order_.deadline; }

  // OfferedFor
  const OfferedBlock& block() const override { return block_; }
  const CompiledView& view() const override { return *order_.view; }
  bool Wants(size_t target) const override { return !finished_ && stopped_.ok() && targets_[target].status.ok(); }
  void Answered(size_t target, uint64_t bytes, const absl::Status& status) override;

 private:
  static constexpr uint32_t kPasses = 2;
  struct Target {
    Owner owner;
    absl::Status status;       // the first thing that went wrong
  };
  PartHeader HeaderOf(const PackedPart& part, const PartGeometry& cell) const;
  void Packed(const std::shared_ptr<PackedPart>& part, const PartGeometry& cell, const absl::Status& status);
  bool ChooseTargets(size_t count);
  void Settle();
  void EndPass();
  void Finish(const absl::Status& status);
  uint32_t part_count() const { return order_.layer_groups * order_.head_groups; }
  bool AnyTarget() const;

  Desk& desk_;
  Router& router_;
  Outbox& outbox_;
  PushOrder order_;
  OfferedBlock block_;
  const std::function<void(Change)> changed_;
  uint32_t pass_ = 0;
  uint32_t next_part_ = 0;
  uint32_t jobs_ = 0;
  uint32_t offered_ = 0;       // (part, target) pairs not answered
  std::vector<Target> targets_;  // of this pass
  std::vector<NodeLink*> tried_;
  absl::Status first_failure_;
  PushResult result_;
  absl::Status stopped_;
  bool finished_ = false;
};

/// The pushes of a Session, oldest first, sharing the first half of staging.
class PushEngine {
 public:
  PushEngine(Desk& desk, Router& router);
  void Start(PushOrder order);
  /// Ends all with Aborted; those with jobs under way when these end.
  void Abort();

 private:
  void Pump();
  void ScheduleDeadline();
  Desk& desk_;
  Router& router_;
  Outbox outbox_;
  bool pump_posted_ = false;
  Loop::TimerId deadline_timer_ = 0;
  uint64_t next_ = 1;
  std::map<uint64_t, std::shared_ptr<Push>> pushes_;   // under way, by age
  std::map<uint64_t, std::shared_ptr<Push>> to_pack_;  // of these: parts are left to pack
};

}  // namespace kvasir::client
