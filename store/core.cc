// SPDX-License-Identifier: Apache-2.0
// ShardCore: dispatch, sessions, recovery, timers, and the small tables that number domains, namespaces and views.
#include "store/core.h"

#include <algorithm>

#include "transport/check.h"

namespace kvasir {

ShardCore::ShardCore(const CoreOptions& options, Counters& counters)
    : options_(options), counters_(counters), extents_(options.extents), ssd_writable_(options.ssd) {}

void ShardCore::Step(Event event, Instant now, std::vector<Action>& actions) {
  now_ = now;
  actions_ = &actions;
  std::visit([this](auto& e) { On(e); }, event);
  RunTimers();
  Balance();
  Settle();
  actions_ = nullptr;
}

Instant ShardCore::NextTick() const { return timers_.empty() ? Instant::max() : timers_.begin()->when; }

void ShardCore::RunTimers() {
  while (!timers_.empty() && timers_.begin()->when <= now_) {
    const Timer timer = *timers_.begin();
    timers_.erase(timers_.begin());
    switch (timer.due) {
      case Due::kOffer: {
        const auto offer = offers_.find(timer.id);
        if (offer == offers_.end()) break;
        for (uint32_t i = 0; i < offer->second.request.parts.size(); ++i) {
          if (!offer->second.answered[i]) {
            offer->second.reply.parts[i] = absl::DeadlineExceededError("the offer's deadline passed before the part was sealed");
          }
        }
        FinishOffer(timer.id);
        break;
      }
      case Due::kLease: {
        const auto lease = leases_.find(timer.id);
        if (lease == leases_.end() || lease->second.closing) break;
        if (lease->second.expires > now_) {
          At(lease->second.expires, Due::kLease, timer.id);  // renewed since
          break;
        }
        counters_.Add(Counter::kLeasesExpired);
        CloseLease(timer.id, true);
        break;
      }
      case Due::kUnfinished: {
        const auto block = unfinished_.extract(timer.id);
        if (block) DropUnfinished(block.mapped());
        break;
      }
    }
  }
}

// ---- sessions --------------------------------------------------------------------------------------------------------
void ShardCore::On(event::SessionOpened& e) {
  sessions_[e.session] = {DomainNumber(e.domain), NamespaceNumber(e.ns), e.peer, {}};
}

void ShardCore::On(event::SessionClosed& e) {
  const auto session = sessions_.find(e.session);
  if (session == sessions_.end()) return;
  const auto leases = std::move(session->second.leases);
  sessions_.erase(session);
  for (const uint64_t lease : leases) CloseLease(lease, false);
  std::vector<uint64_t> calls;
  for (const auto& [call, offer] : offers_) {
    if (offer.session == e.session) calls.push_back(call);
  }
  for (const uint64_t call : calls) {
    Offer& offer = offers_.at(call);
    for (uint32_t i = 0; i < offer.answered.size(); ++i) {
      if (!offer.answered[i]) offer.reply.parts[i] = absl::AbortedError("the session ended");
    }
    FinishOffer(call);
  }
}

// ---- recovery --------------------------------------------------------------------------------------------------------
void ShardCore::On(event::SsdFound& e) {
  const PartMeta& meta = e.part.meta;
  const PartAt at{{DomainNumber(meta.domain), meta.id.key},
                  ViewNumber(e.view),
                  meta.id.layer_group,
                  meta.id.head_group,
                  meta.id.plane};
  const uint32_t ns = NamespaceNumber(e.ns);
  const KvLayout& layout = e.ns.layout;
  if (meta.id.layer_group >= e.view.LayerGroups(layout) || meta.id.head_group >= e.view.HeadGroups(layout) ||
      meta.id.plane >= e.view.planes) {
    counters_.Add(Counter::kRecoveryDropped);
    Do(action::DropOnSsd{meta.id, e.part.location});
    return;
  }
  const Block* known = index_.Find(at.block);
  if (known != nullptr && known->ns != ns) {
    counters_.Add(Counter::kRecoveryDropped);
    Do(action::DropOnSsd{meta.id, e.part.location});
    return;
  }
  bool made = false;
  Block& block = index_.Make(at.block, meta.parent, meta.run, now_, &made);
  block.replicas = std::max(block.replicas, meta.replicas);
  if (made) {
    block.ns = ns;
    block.block_index = meta.block_index;
    block.token_count = meta.token_count;
  }
  index_.Change(MakeView(block, at.view).At(at.layer_group, at.head_group, at.plane), [&](Part& part) {
    part.ssd = e.part.location;
    part.ssd_generation = meta.generation;
    part.bytes = meta.bytes;
    part.frames_offset = meta.frames_offset;
  });
  counters_.Add(Counter::kRecovered);
}

void ShardCore::On(event::SsdEvicted& e) {
  for (const PartId& id : e.parts) {
    const auto view = view_numbers_.find(id.view);
    if (view == view_numbers_.end()) continue;
    for (uint32_t domain = 0; domain < domains_.size(); ++domain) {
      const PartAt at{{domain, id.key}, view->second, id.layer_group, id.head_group, id.plane};
      Block* block = nullptr;
      Part* part = PartOf(at, &block);
      if (part == nullptr || part->ssd.segment == 0) continue;
      counters_.Add(Counter::kSsdEvicted);
      index_.Change(*part, [](Part& p) { p.ssd = {}; });
      if (!part->absent()) continue;
      ForgetUpperPlanes(*block, at);
      index_.Tidy(*block);
    }
  }
}

// ---- numbers and places ----------------------------------------------------------------------------------------------
uint32_t ShardCore::DomainNumber(const DomainId& id) {
  const auto [at, made] = domain_numbers_.try_emplace(id, static_cast<uint32_t>(domains_.size()));
  if (made) domains_.push_back(id);
  return at->second;
}

uint32_t ShardCore::NamespaceNumber(const Namespace& ns) {
  const auto [at, made] = namespace_numbers_.try_emplace(ns.Digest(), static_cast<uint32_t>(namespaces_.size()));
  if (made) {
    namespaces_.push_back(ns);
    namespace_digests_.push_back(at->first);
  }
  return at->second;
}

uint32_t ShardCore::ViewNumber(const View& view) {
  const auto [at, made] = view_numbers_.try_emplace(view.Digest(), static_cast<uint32_t>(views_.size()));
  if (made) {
    views_.push_back(view);
    view_digests_.push_back(at->first);
  }
  return at->second;
}

BlockView& ShardCore::MakeView(Block& block, uint32_t view) {
  if (BlockView* found = block.Find(view)) return *found;
  const KvLayout& layout = namespaces_[block.ns].layout;
  BlockView made;
  made.view = view;
  made.layer_groups = static_cast<uint16_t>(views_[view].LayerGroups(layout));
  made.head_groups = static_cast<uint16_t>(views_[view].HeadGroups(layout));
  made.planes = static_cast<uint16_t>(views_[view].planes);
  made.parts.resize(size_t{made.layer_groups} * made.head_groups * made.planes);
  block.views.push_back(std::move(made));
  return block.views.back();
}

Part* ShardCore::PartOf(const PartAt& at, Block** block) {
  *block = index_.Find(at.block);
  if (*block == nullptr) return nullptr;
  BlockView* view = (*block)->Find(at.view);
  if (view == nullptr || at.layer_group >= view->layer_groups || at.head_group >= view->head_groups ||
      at.plane >= view->planes)
    return nullptr;
  return &view->At(at.layer_group, at.head_group, at.plane);
}

/// Of part number `part` of a view.
ShardCore::PartAt ShardCore::PlaceOf(const BlockId& block, const BlockView& view, size_t part) {
  const size_t cell = part / view.planes;
  return {block, view.view, static_cast<uint16_t>(cell / view.head_groups),
          static_cast<uint16_t>(cell % view.head_groups), static_cast<uint16_t>(part % view.planes)};
}

PartId ShardCore::IdOfPart(const PartAt& at) const {
  return {at.block.key, view_digests_[at.view], at.layer_group, at.head_group, at.plane};
}

PartClaim ShardCore::ClaimOf(const Block& block, const PartAt& at, uint64_t generation) const {
  PartClaim claim;
  claim.expect = {IdOfPart(at), namespace_digests_[block.ns], generation};
  claim.spec = views_[at.view].spec;
  claim.geometry = views_[at.view].Geometry(namespaces_[block.ns].layout, at.layer_group, at.head_group,
                                            block.block_index, block.token_count);
  claim.block_index = block.block_index;
  claim.planes = views_[at.view].planes;
  return claim;
}

SlabRange ShardCore::RangeOf(ExtentRef extent) const {
  const Extent& e = extents_.At(extent);
  return {e.slab, e.offset, e.bytes};
}

ShardCore::Flight* ShardCore::FlightOf(ExtentRef extent) {
  const auto flight = flights_.find(extent.slot);
  return flight == flights_.end() || !(flight->second.extent == extent) ? nullptr : &flight->second;
}

// ---- for Admin -------------------------------------------------------------------------------------------------------
std::vector<BlockInfo> ShardCore::List(const ListRequest& request, Instant now) const {
  std::vector<BlockInfo> found;
  index_.ForEach([&](const Block& b) {
    const std::string hex = ToHex(b.id.key);
    if (hex.compare(0, request.key_prefix.size(), request.key_prefix) != 0 || hex <= request.after) return;
    for (const BlockView& v : b.views) {
      BlockInfo info{b.id.key,
                     b.parent,
                     b.block_index,
                     b.token_count,
                     namespaces_[b.ns].name,
                     views_[v.view].Name(),
                     v.Sealed(),
                     static_cast<uint32_t>(v.parts.size()),
                     0,
                     0,
                     0,
                     now - b.touched,
                     0,
                     v.WholePlanes(),
                     v.planes};
      for (const Part& p : v.parts) {
        if (!p.readable()) continue;
        info.bytes += p.bytes;
        info.dram_bytes += p.in_dram() ? p.bytes : 0;
        info.ssd_bytes += p.ssd.segment != 0 ? p.bytes : 0;
        info.pins += p.in_dram() ? extents_.At(p.extent).pins : 0;
      }
      found.push_back(std::move(info));
    }
  });
  std::sort(found.begin(), found.end(), [](const BlockInfo& a, const BlockInfo& b) {
    return std::tie(a.key, a.spec) < std::tie(b.key, b.spec);
  });
  return found;
}

}  // namespace kvasir
