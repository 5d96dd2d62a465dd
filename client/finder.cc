// SPDX-License-Identifier: Apache-2.0
// Asking owners, and judging what they answer.
#include "client/finder.h"

#include <algorithm>
#include <bit>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/api/part.h"

namespace kvasir::client {

/// What one Acquire asks.
struct Finder::Group {
  Owner owner;
  bool last_resort = true;         // no block of it has another owner left
  std::vector<AcquiredRun> runs;
  Instant begin;
  Loop::TimerId timer = 0;
  bool answered = false;
};

Finder::Finder(Desk& desk, Router& router, Wish wish, Handlers handlers)
    : desk_(desk), router_(router), wish_(std::move(wish)), handlers_(std::move(handlers)), run_blocks_(router.run_blocks()),
      gap_(wish_.first_block + wish_.blocks) {
  asked_.resize(wish_.blocks);
  for (uint32_t block = wish_.first_block; block < wish_.first_block + wish_.blocks; block += run_blocks_ - block % run_blocks_) {
    owners_.push_back(router_.Readers(RunOf(block)));
    if (owners_.back().size() > kReadersMax) owners_.back().resize(kReadersMax);
  }
  for (uint32_t block = wish_.first_block; block < wish_.first_block + wish_.blocks; ++block) {
    const size_t owners = OwnersOf(block).size();
    At(block).left = owners == 0 ? 0 : ~uint64_t{0} >> (64 - owners);
  }
}

const std::vector<Owner>& Finder::OwnersOf(uint32_t block) const {
  return owners_[block / run_blocks_ - wish_.first_block / run_blocks_];
}

bool Finder::MoreOwners(uint32_t block) const {
  return asked_[block - wish_.first_block].left != 0;
}

/// The next in rank; one that failed a moment ago only when no other is left, since it may be back. Nullptr: nobody is left.
const Owner* Finder::NextOwner(uint32_t block) {
  Asked& asked = At(block);
  const std::vector<Owner>& owners = OwnersOf(block);
  uint64_t well = 0;
  for (uint64_t left = asked.left; left != 0; left &= left - 1) {
    const auto rank = static_cast<uint32_t>(std::countr_zero(left));
    if (!owners[rank].link->paused()) well |= uint64_t{1} << rank;
  }
  if (asked.left == 0) return nullptr;
  asked.last = static_cast<uint32_t>(std::countr_zero(well != 0 ? well : asked.left));
  if (static_cast<int>(asked.last) != std::countr_zero(asked.left)) desk_.Count(Counter::kFailovers);
  asked.left &= ~(uint64_t{1} << asked.last);
  return &owners[asked.last];
}

void Finder::Ask(const std::vector<uint32_t>& blocks) {
  to_ask_.insert(to_ask_.end(), blocks.begin(), blocks.end());
  if (std::exchange(flush_posted_, true)) return;
  desk_.loop.Post([self = shared_from_this()] {
    self->flush_posted_ = false;
    if (!self->stopped_) self->Flush();
  });
}

/// One Acquire per (node, shard), runs ascending.
void Finder::Flush() {
  std::vector<uint32_t> blocks = std::exchange(to_ask_, {});
  std::sort(blocks.begin(), blocks.end());
  std::map<std::pair<NodeLink*, uint32_t>, std::vector<std::shared_ptr<Group>>> groups;
  size_t in_last = 0;  // blocks of the last group of the owner met last: bounded by kBlocksPerAcquireMax
  for (const uint32_t block : blocks) {
    if (block >= gap_) break;
    const Owner* next = NextOwner(block);
    if (next == nullptr) {
      const Asked& asked = At(block);
      gap_ = block;
      const bool nobody = OwnersOf(block).empty();
      handlers_.missing(block, asked.worst == Miss::kNone ? Miss::kUnavailable : asked.worst,
                        nobody ? absl::UnavailableError("the cluster has no members") : asked.why);
      break;
    }
    const Owner owner = *next;
    auto& list = groups[{owner.link, owner.shard}];
    in_last = 0;
    if (!list.empty()) for (const AcquiredRun& run : list.back()->runs) in_last += run.keys.size();
    if (list.empty() || in_last >= kBlocksPerAcquireMax) {
      list.push_back(std::make_shared<Group>());
      list.back()->owner = owner;
    }
    Group& group = *list.back();
    if (MoreOwners(block)) group.last_resort = false;
    const bool continues = !group.runs.empty() && block % run_blocks_ != 0 &&
                           group.runs.back().first_block + group.runs.back().keys.size() == block;
    if (!continues) group.runs.push_back({.first_block = block, .keys = {}, .run = RunOf(block)});
    group.runs.back().keys.push_back((*wish_.chain)[block]);
  }
  if (stopped_) return;
  for (auto& [where, list] : groups) groups_under_way_ += static_cast<uint32_t>(list.size());
  for (auto& [where, list] : groups) {
    for (auto& group : list) Send(std::move(group));
  }
  Settle();
}

void Finder::Send(std::shared_ptr<Group> group) {
  const Instant now = desk_.loop.Now();
  const Duration left = std::max(Duration::zero(), std::chrono::duration_cast<Duration>(wish_.deadline - now));
  // A silent owner may not eat the time of the next one.
  Duration patience = std::min(desk_.options.call_deadline, group->last_resort ? left : left / 2);
  if (group->owner.link->paused()) patience = std::min(patience, kPausedPatience);
  const Instant until = now + patience;
  group->begin = now;
  auto self = shared_from_this();
  group->timer = desk_.loop.At(until, [self, group] {
    self->Answered(group, absl::DeadlineExceededError("an owner did not answer in time"), nullptr);
  });
  Owner owner = group->owner;
  owner.link->PathTo(owner.shard, [self, group, until](absl::StatusOr<std::shared_ptr<Path>> path) {
    if (!path.ok()) return self->Answered(group, path.status(), nullptr);
    if (group->answered) return;
    AcquireRequest request;
    request.epoch = self->router_.EpochOf(*(*path)->link);
    request.runs = group->runs;
    request.accept = self->wish_.accept;
    request.first_layer = self->wish_.slice.first_layer;
    request.layers = self->wish_.slice.layers;
    request.first_head = self->wish_.slice.first_head;
    request.heads = self->wish_.slice.heads;
    request.match_only = self->wish_.match_only;
    request.planes = self->wish_.planes;
    request.deadline = std::chrono::duration_cast<Duration>(self->wish_.deadline - self->desk_.loop.Now());
    (*path)->link->Acquire(*path, std::move(request), until, [self, group, path = *path](absl::StatusOr<AcquireReply> reply) {
      self->Answered(group, std::move(reply), path);
    });
  }, NodeLink::WhilePaused::kTry);
}

void Finder::Answered(const std::shared_ptr<Group>& group, absl::StatusOr<AcquireReply> reply, const std::shared_ptr<Path>& path) {
  if (std::exchange(group->answered, true) || stopped_) {
    if (reply.ok() && reply->lease != 0) path->link->Release(path->shard, reply->lease);
    return;
  }
  desk_.loop.Cancel(group->timer);
  --groups_under_way_;
  desk_.Trace({.what = "acquire", .block = group->runs[0].first_block, .layer = wish_.slice.first_layer,
               .begin = group->begin, .end = desk_.loop.Now(), .bytes = 0});
  if (reply.ok()) {
    TakeRuns(*group, *reply, path);
  } else {
    for (const AcquiredRun& run : group->runs) {
      for (uint32_t i = 0; i < run.keys.size(); ++i) {
        // A stale session or epoch is renewed by the link: the same owner is asked once more.
        Asked& asked = At(run.first_block + i);
        if (absl::IsAborted(reply.status()) && !std::exchange(asked.again, true)) asked.left |= uint64_t{1} << asked.last;
        NotHeld(run.first_block + i, Miss::kUnavailable, reply.status());
      }
    }
  }
  Settle();
}

void Finder::TakeRuns(Group& group, AcquireReply& reply, const std::shared_ptr<Path>& path) {
  std::shared_ptr<Lease> lease;
  if (reply.lease != 0 && !wish_.match_only) {
    lease = std::make_shared<Lease>(desk_.links, path, reply.lease, reply.lease_for);
    handlers_.leased(lease);
  }
  size_t next = 0;  // of reply.blocks
  for (size_t r = 0; r < group.runs.size(); ++r) {
    const AcquiredRun& run = group.runs[r];
    if (r < reply.spread.size() && reply.spread[r] > 0) router_.NoteSpread(run.run, reply.spread[r]);
    const uint32_t held = r < reply.held.size() ? std::min<uint32_t>(reply.held[r], static_cast<uint32_t>(run.keys.size())) : 0;
    for (uint32_t i = 0; i < run.keys.size(); ++i) {
      const uint32_t index = run.first_block + i;
      if (stopped_) return;
      if (i >= held) {
        NotHeld(index, Miss::kAbsent, absl::NotFoundError(absl::StrCat("block ", index, " is not stored")));
        continue;
      }
      HeldBlock found{index, nullptr, {}, lease};
      const absl::Status status = wish_.match_only ? absl::OkStatus() : TakeBlock(reply, next++, found);
      if (status.ok()) {
        handlers_.held(std::move(found));
      } else {
        NotHeld(index, Miss::kHeader, status);
      }
    }
  }
}

/// Moves the answer's block number `i` into `found`, if it is what was asked for.
absl::Status Finder::TakeBlock(AcquireReply& reply, size_t i, HeldBlock& found) const {
  if (found.lease == nullptr || i >= reply.blocks.size() || reply.blocks[i].block_index != found.block) {
    return absl::DataLossError("an answer that does not name the blocks it claims");
  }
  AcquiredBlock& block = reply.blocks[i];
  absl::StatusOr<std::shared_ptr<const CompiledView>> view = ViewOf(reply, block);
  if (!view.ok()) return view.status();
  if (absl::Status status = CheckBlock(**view, block); !status.ok()) return status;
  found.view = *std::move(view);
  found.parts = std::move(block.parts);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const CompiledView>> Finder::ViewOf(const AcquireReply& reply, const AcquiredBlock& block) const {
  if (block.view >= reply.views.size()) return absl::DataLossError("a block in a view that was not named");
  const View& view = reply.views[block.view];
  if (!Accepts(wish_.accept, view)) return absl::DataLossError(absl::StrCat("view '", view.spec, "' was not accepted"));
  return desk_.views.ToRead(view);
}

/// Exactly the cells that cover the slice, layer-major, of lengths that can be. Of a cell with planes the lowest must
/// be there.
absl::Status Finder::CheckBlock(const CompiledView& compiled, const AcquiredBlock& block) const {
  const View& view = compiled.view;
  const Namespace& ns = desk_.options.ns;
  const Slice& slice = wish_.slice;
  const uint32_t first_layer_group = slice.first_layer / view.layers_per_part;
  const uint32_t last_layer_group = (slice.first_layer + slice.layers - 1) / view.layers_per_part;
  const uint32_t first_head_group = slice.first_head / view.heads_per_part;
  const uint32_t last_head_group = (slice.first_head + slice.heads - 1) / view.heads_per_part;
  if (block.token_count != ns.block_tokens) return absl::DataLossError("a block with another number of tokens");
  const uint32_t planes = PlanesWanted(view, wish_.planes);
  size_t p = 0;
  for (uint32_t l = first_layer_group; l <= last_layer_group; ++l) {
    for (uint32_t h = first_head_group; h <= last_head_group; ++h) {
      const PartGeometry cell = view.Geometry(ns.layout, l, h, 0, ns.block_tokens);
      const uint64_t frames = FramesOffset(static_cast<uint32_t>(view.spec.size()), FrameCount(ns.layout, cell));
      uint32_t plane = 0;
      for (; plane < planes && p < block.parts.size(); ++plane, ++p) {
        const PartGrant& part = block.parts[p];
        if (part.layer_group != l || part.head_group != h || part.plane != plane) break;
        if (part.pending) continue;
        if (part.frames_offset != frames || part.bytes < frames || part.bytes > kPartBytesMax) {
          return absl::DataLossError("a part of a length that cannot be");
        }
      }
      if (plane == 0) return absl::DataLossError("parts that do not cover the slice");
    }
  }
  if (p != block.parts.size()) return absl::DataLossError("more parts than the slice has");
  return absl::OkStatus();
}

/// Notes the cause and asks on.
void Finder::NotHeld(uint32_t block, Miss cause, const absl::Status& why) {
  Asked& asked = At(block);
  // Silence and nonsense say more than "I do not have it".
  if (asked.worst == Miss::kNone || asked.worst == Miss::kAbsent) {
    asked.worst = cause;
    asked.why = why;
  }
  if (cause != Miss::kAbsent && MoreOwners(block)) desk_.Count(Counter::kFailovers);
  Ask({block});
}

void Finder::Settle() {
  if (groups_under_way_ == 0 && to_ask_.empty() && !flush_posted_ && !stopped_) handlers_.idle();
}

void CountMiss(const Desk& desk, Miss cause, uint64_t blocks) {
  switch (cause) {
    case Miss::kNone: return;
    case Miss::kAbsent: return desk.Count(Counter::kMissAbsent, blocks);
    case Miss::kHeader: return desk.Count(Counter::kMissHeader, blocks);
    case Miss::kCrc: return desk.Count(Counter::kMissCrc, blocks);
    case Miss::kLate: return desk.Count(Counter::kMissLate, blocks);
    case Miss::kUnavailable: return desk.Count(Counter::kMissUnavailable, blocks);
  }
}

}  // namespace kvasir::client
