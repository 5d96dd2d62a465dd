// SPDX-License-Identifier: Apache-2.0
// ShardCore, room: which cold blocks leave DRAM. With an SSD they are written there first (demotion); without one they
// are dropped. What a lease pins, what is being written, and what its owner asked to keep stays. Precision goes before
// tokens: the highest planes of cold blocks leave first, and as long as there are any, no block goes as a whole.
// `ssd_planes` says how many planes of a cell the SSD is given; DURABLE parts are there anyway.
#include <algorithm>

#include "store/core.h"
#include "transport/check.h"

namespace kvasir {

/// Upper planes lie apart from what stays when they leave.
bool ShardCore::TryReserve(uint32_t domain, uint64_t bytes, uint32_t plane, ExtentRef* extent) {
  uint32_t retired = Extents::kNoSlab;
  if (!extents_.Reserve(domain, bytes, extent, &retired, plane > 0 ? Extents::End::kHigh : Extents::End::kLow))
    return false;
  if (retired != Extents::kNoSlab) Do(action::RetireSlab{retired});
  return true;
}

bool ShardCore::Reserve(uint32_t domain, uint64_t bytes, uint32_t plane, ExtentRef* extent) {
  const bool reserved = TryReserve(domain, bytes, plane, extent) || MakeRoom(domain, bytes, plane, extent);
  if (reserved) refused_since_ = Instant::max();
  return reserved;
}

/// A reservation failed and nothing is on its way out.
void ShardCore::Refused() {
  refused_since_ = std::min(refused_since_, now_);
  refused_at_ = extents_.used();
}

/// Nobody may try again for long: room is back when something left since, or could leave now.
void ShardCore::LookForRoom() {
  if (refused_since_ == Instant::max()) return;
  bool room = extents_.used() < refused_at_;
  uint32_t looked_at = 0;
  for (auto at = index_.cold_to_warm().begin(); !room && at != index_.cold_to_warm().end() && looked_at < kVictimScan; ++at) {
    room = Evictable(**at);
    ++looked_at;
  }
  looked_at = 0;
  for (auto at = index_.upper_cold_to_warm().begin();
       !room && at != index_.upper_cold_to_warm().end() && looked_at < kVictimScan; ++at) {
    for (const BlockView& view : (*at)->views) {
      for (size_t i = 0; i < view.parts.size(); ++i)
        room |= i % view.planes > 0 && (*at)->keep_until <= now_ && Evictable(view.parts[i]);
    }
    ++looked_at;
  }
  if (room) refused_since_ = Instant::max();
}

/// Evicts from the cold end until the reservation fits. Dirty blocks of a node with an SSD only start to leave: then the
/// caller waits for them.
bool ShardCore::MakeRoom(uint32_t domain, uint64_t bytes, uint32_t plane, ExtentRef* extent) {
  auto& upper = index_.upper_cold_to_warm();
  const bool precise = !upper.empty();
  const uint32_t demotions_before = demotions_;
  uint32_t looked_at = 0;
  for (auto at = upper.begin(); at != upper.end() && looked_at < kVictimScan; ++looked_at) {
    Block& victim = **at;
    ++at;  // before the victim leaves the list
    if (victim.keep_until <= now_ && EvictPlane(victim) && TryReserve(domain, bytes, plane, extent)) return true;
  }
  if (precise && (demotions_ > demotions_before || demotions_ >= kDemotionsMax))
    return false;  // planes are on their way out
  looked_at = 0;
  for (auto at = index_.cold_to_warm().begin(); at != index_.cold_to_warm().end() && looked_at < kVictimScan;
       ++looked_at) {
    Block& victim = **at;
    ++at;
    if (!Evictable(victim)) continue;
    if (EvictBlock(victim) && TryReserve(domain, bytes, plane, extent)) return true;
  }
  return false;
}

bool ShardCore::Evictable(const Block& block) const {
  if (block.keep_until > now_ || index_.HasChildInDram(block)) return false;
  for (const BlockView& view : block.views) {
    for (const Part& part : view.parts) {
      if (part.coming || part.persisting) return false;
      if (part.extent && extents_.At(part.extent).pins > 0) return false;
    }
  }
  return true;
}

bool ShardCore::Evictable(const Part& part) const {
  return part.in_dram() && !part.persisting && extents_.At(part.extent).pins == 0;
}

/// Takes an Evictable block out of DRAM as far as that can be done now. True when any bytes came free.
bool ShardCore::EvictBlock(Block& block) {
  bool freed = false;
  const BlockId id = block.id;
  for (BlockView& view : block.views) {
    for (size_t i = view.parts.size(); i-- > 0;) {  // upper planes before the one they stand on
      if (view.parts[i].in_dram()) freed |= EvictPart(block, PlaceOf(id, view, i), view.parts[i]);
    }
  }
  index_.Tidy(block);
  return freed;
}

/// The same for the highest plane that the block has in DRAM, above 0. It may have leaves: they lose nothing by it.
bool ShardCore::EvictPlane(Block& block) {
  uint32_t highest = 0;
  for (const BlockView& view : block.views) {
    for (size_t i = 0; i < view.parts.size(); ++i) {
      if (Evictable(view.parts[i])) highest = std::max(highest, static_cast<uint32_t>(i % view.planes));
    }
  }
  if (highest == 0) return false;
  bool freed = false;
  const BlockId id = block.id;
  for (BlockView& view : block.views) {
    for (size_t i = 0; i < view.parts.size(); ++i) {
      if (i % view.planes == highest && Evictable(view.parts[i]))
        freed |= EvictPart(block, PlaceOf(id, view, i), view.parts[i]);
    }
  }
  index_.Tidy(block);
  return freed;
}

/// True when it is out of DRAM; else it is on its way to the SSD, or has to wait for its turn.
bool ShardCore::EvictPart(Block& block, const PartAt& at, Part& part) {
  const bool kept = options_.ssd_planes == 0 || at.plane < options_.ssd_planes;
  if (part.ssd.segment == 0 && kept && CanDemote()) {
    if (demotions_ < kDemotionsMax) StartPersist(block, at, part, true);
    return false;
  }
  counters_.Add(part.ssd.segment != 0 ? Counter::kEvicted : Counter::kEvictedUnsaved);
  counters_.Add(Counter::kPlanesEvicted, at.plane > 0 ? 1 : 0);
  ReleaseExtent(block, at, part);
  if (part.absent()) ForgetUpperPlanes(block, at);
  return true;
}

void ShardCore::StartPersist(Block& block, const PartAt& at, Part& part, bool demotion) {
  const Extent& extent = extents_.At(part.extent);
  if (!part.coming) {
    KVASIR_CHECK(!part.persisting && FlightOf(part.extent) == nullptr, "one disk write at a time");
    part.persisting = true;
    extents_.Pin(part.extent);
    Flight flight;
    flight.extent = part.extent;
    flight.work = Work::kPersist;
    flight.part = at;
    flight.demotion = demotion;
    flight.begun = now_;
    flights_[part.extent.slot] = std::move(flight);
  }
  ++disk_writes_;
  if (demotion) {
    ++demotions_;
    demoting_bytes_ += extent.room;
  }
  PartMeta meta;
  meta.id = IdOfPart(at);
  meta.parent = block.parent;
  meta.domain = domains_[at.block.domain];
  meta.ns = namespace_digests_[block.ns];
  meta.shard = options_.shard;
  meta.block_index = block.block_index;
  meta.token_count = block.token_count;
  meta.bytes = part.bytes;
  meta.frames_offset = part.frames_offset;
  meta.generation = part.extent.generation;
  meta.run = block.run;
  meta.replicas = block.replicas;
  Do(action::Persist{part.extent, RangeOf(part.extent), std::move(meta)});
}

/// A demoted part leaves DRAM unless somebody read it meanwhile or there is room again.
void ShardCore::DemotionDone(const Flight& flight, Part& part, bool saved) {
  --demotions_;
  demoting_bytes_ -= extents_.At(flight.extent).room;
  Block* block = index_.Find(flight.part.block);
  const bool cold = extents_.At(part.extent).pins == 0 && block->touched <= flight.begun;
  if (!saved) demote_after_ = now_ + kDemotionPause;
  if (!cold || block->keep_until > now_) return;
  if (!saved && waiting_.empty()) return;  // stays in DRAM until the room is needed
  counters_.Add(saved ? Counter::kDemoted : Counter::kEvictedUnsaved);
  counters_.Add(Counter::kPlanesEvicted, flight.part.plane > 0 ? 1 : 0);
  ReleaseExtent(*block, flight.part, part);
  if (part.absent()) ForgetUpperPlanes(*block, flight.part);
  index_.Tidy(*block);
}

/// Starts to demote ahead of need, so that reservations find clean blocks.
void ShardCore::Balance() {
  if (!CanDemote()) return;
  const auto high = static_cast<uint64_t>(options_.demote_above * static_cast<double>(extents_.capacity()));
  for (auto* list : {&index_.upper_cold_to_warm(), &index_.cold_to_warm()}) {
    const bool upper = list == &index_.upper_cold_to_warm();
    uint32_t looked_at = 0;
    for (auto at = list->begin(); at != list->end() && looked_at < kVictimScan && demotions_ < kDemotionsMax;
         ++looked_at) {
      if (extents_.used() <= high + demoting_bytes_) return;
      Block& victim = **at;
      ++at;
      if (upper && victim.keep_until <= now_) EvictPlane(victim);
      if (!upper && Evictable(victim)) EvictBlock(victim);
    }
  }
}

/// Serves those who wait for room, in order; when nothing is on its way out any more, they are told so.
void ShardCore::Settle() {
  while (!waiting_.empty()) {
    const Waiting next = waiting_.front();
    const size_t length = waiting_.size();
    waiting_.pop_front();
    if (next.offer.call != 0) {
      if (offers_.contains(next.offer.call)) StartPart(next.offer.call, next.offer.index);
    } else {
      PromoteWaiting(next.part, next.lease);
    }
    if (waiting_.size() >= length) {  // it queued itself again, at the end: put it back in front and stop
      waiting_.push_front(waiting_.back());
      waiting_.pop_back();
      return;
    }
  }
}

void ShardCore::ReleaseExtent(Block& block, const PartAt& at, Part& part) {
  extents_.Condemn(part.extent);
  index_.Change(part, [](Part& p) { p.extent = {}; });
  index_.LoseExtent(block, at.plane);
}

/// Plane 0 of a cell is nowhere any more: the planes above it are of no use, and must not meet those of another write.
void ShardCore::ForgetUpperPlanes(Block& block, const PartAt& base) {
  BlockView* view = block.Find(base.view);
  if (base.plane != 0 || view == nullptr) return;
  for (PartAt at = base; ++at.plane < view->planes;) {
    Part& part = view->At(at.layer_group, at.head_group, at.plane);
    if (!part.absent() && !part.coming && !part.persisting) ForgetPart(block, part, at);
  }
}

/// Out of both tiers. Readers under a lease keep the condemned extent until they are done.
void ShardCore::ForgetPart(Block& block, Part& part, const PartAt& at) {
  KVASIR_CHECK(!part.coming && !part.persisting, "forgetting a part that is being written");
  if (part.ssd.segment != 0) Do(action::DropOnSsd{IdOfPart(at), part.ssd});
  index_.Change(part, [](Part& p) { p.ssd = {}; });
  if (part.extent) ReleaseExtent(block, at, part);
}

void ShardCore::DropUnfinished(const BlockId& id) {
  Block* block = index_.Find(id);
  if (block == nullptr) return;
  bool busy = false;
  for (BlockView& view : block->views) {
    if (view.WholePlanes() > 0) continue;
    for (size_t i = 0; i < view.parts.size(); ++i) {
      Part& part = view.parts[i];
      busy |= part.coming || part.persisting;
      if (part.absent() || part.coming || part.persisting) continue;
      counters_.Add(Counter::kUnfinishedDropped);
      ForgetPart(*block, part, PlaceOf(id, view, i));
    }
  }
  if (busy) {
    const uint64_t again = next_unfinished_++;
    unfinished_[again] = id;
    At(now_ + options_.unfinished_ttl, Due::kUnfinished, again);
  }
  index_.Tidy(*block);
}

}  // namespace kvasir
