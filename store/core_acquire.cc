// SPDX-License-Identifier: Apache-2.0
// ShardCore, readers' side: the longest held prefix of each run, pinned by a lease; cold parts come back from the SSD.
#include <algorithm>
#include <utility>

#include "store/core.h"
#include "transport/check.h"

namespace kvasir {

absl::Status ShardCore::CheckAcquire(const AcquireRequest& request, const SessionInfo& session) const {
  const KvLayout& layout = namespaces_[session.ns].layout;
  if (request.layers == 0 || uint64_t{request.first_layer} + request.layers > layout.layers) {
    return absl::InvalidArgumentError("acquire: layers [" + std::to_string(request.first_layer) + ", +" +
                                      std::to_string(request.layers) + ") are not in the namespace's " + std::to_string(layout.layers));
  }
  if (request.heads == 0 || uint64_t{request.first_head} + request.heads > layout.kv_heads) {
    return absl::InvalidArgumentError("acquire: heads [" + std::to_string(request.first_head) + ", +" +
                                      std::to_string(request.heads) + ") are not in the namespace's " + std::to_string(layout.kv_heads));
  }
  if (request.accept.empty() || request.accept.size() > kViewsPerCallMax) {
    return absl::InvalidArgumentError("acquire: accept must name 1 to 64 views, \"lossless\" or \"any\"");
  }
  size_t blocks = 0;
  for (const AcquiredRun& run : request.runs) blocks += run.keys.size();
  if (blocks > kBlocksPerAcquireMax) return absl::InvalidArgumentError("acquire: too many blocks in one call");
  if (!request.match_only && leases_.size() >= kLeasesMax) {
    return absl::ResourceExhaustedError("too many leases; try again later");
  }
  return absl::OkStatus();
}

/// True when every part that covers the slice can be read; where it has planes, their lowest is enough.
bool ShardCore::Holds(const BlockView& held, const AcquireRequest& request) const {
  const View& view = views_[held.view];
  const uint32_t last_layer = (request.first_layer + request.layers - 1) / view.layers_per_part;
  const uint32_t last_head = (request.first_head + request.heads - 1) / view.heads_per_part;
  for (uint32_t l = request.first_layer / view.layers_per_part; l <= last_layer; ++l) {
    for (uint32_t h = request.first_head / view.heads_per_part; h <= last_head; ++h) {
      if (!held.At(l, h).readable()) return false;
    }
  }
  return true;
}

const BlockView* ShardCore::Choose(const Block& block, const AcquireRequest& request) const {
  for (const std::string& wish : request.accept) {
    for (const BlockView& held : block.views) {
      const View& view = views_[held.view];
      const bool accepted = (view.selection.empty() ? wish == view.spec : wish == view.Name()) || wish == ExactView(view_digests_[held.view]) || (view.selection.empty() && (wish == "any" || (wish == "lossless" && view.lossless)));
      if (accepted && Holds(held, request)) return &held;
    }
  }
  return nullptr;
}

void ShardCore::On(event::AcquireArrived& e) {
  counters_.Add(Counter::kAcquires);
  const AcquireRequest& request = e.request;
  const auto session = sessions_.find(request.session);
  const absl::Status status = session == sessions_.end() ? absl::AbortedError("no such session here; say Hello again")
                                                         : CheckAcquire(request, session->second);
  if (!status.ok()) return Do(action::AnswerAcquire{e.call, request.session, status, {}});

  action::AnswerAcquire answer{e.call, request.session, AcquireReply{}, {}};
  AcquireReply& reply = *answer.reply;
  const uint32_t domain = session->second.domain;
  const uint64_t lease_id = (uint64_t{options_.shard} << 48) | next_lease_;
  if (!request.match_only) {
    ++next_lease_;
    leases_[lease_id] = {request.session, LeaseEnd(), {}, false, now_ + request.deadline};
    session->second.leases.insert(lease_id);
  }
  std::vector<PartAt> cold;
  std::vector<Block*> found;
  for (const AcquiredRun& run : request.runs) {
    uint32_t held = 0;
    for (const BlockKey& key : run.keys) {
      Block* block = index_.Find({domain, key});
      if (block == nullptr || block->ns != session->second.ns) break;
      const BlockView* view = Choose(*block, request);
      if (view == nullptr) break;
      ++held;
      if (!request.match_only) LeaseBlock(request, lease_id, *block, *block->Find(view->view), answer, &cold);
      found.push_back(block);
    }
    reply.held.push_back(held);
    reply.spread.push_back(held > 0 ? NoteRead(domain, run.run, !session->second.peer && !request.match_only) : 0);
    if (held < run.keys.size()) TellMissed(session->second, run, held);
    counters_.Add(Counter::kBlocksHit, held);
    counters_.Add(Counter::kBlocksMissed, run.keys.size() - held);
  }
  for (auto block = found.rbegin(); block != found.rend(); ++block) index_.Touch(**block, now_, 0);  // root warmest
  if (!request.match_only) {
    if (found.empty()) {
      leases_.erase(lease_id);
      session->second.leases.erase(lease_id);
    } else {
      reply.lease = lease_id;
      reply.lease_for = options_.lease;
      At(leases_.at(lease_id).expires, Due::kLease, lease_id);
    }
  }
  Do(std::move(answer));
  std::stable_sort(cold.begin(), cold.end(), [](const PartAt& a, const PartAt& b) { return a.layer_group < b.layer_group; });
  for (const PartAt& at : cold) StartPromote(at, lease_id);
}

void ShardCore::LeaseBlock(const AcquireRequest& request, uint64_t lease_id, Block& block, BlockView& held,
                           action::AnswerAcquire& answer, std::vector<PartAt>* cold) {
  AcquireReply& reply = *answer.reply;
  const View& view = views_[held.view];
  const auto known = std::find(reply.views.begin(), reply.views.end(), view);
  AcquiredBlock out{block.block_index, block.token_count, static_cast<uint32_t>(known - reply.views.begin()), {}, 0, {}};
  if (sessions_.at(request.session).peer) {
    out.parent = block.parent;
    out.replicas = block.replicas;
  }
  if (known == reply.views.end()) reply.views.push_back(view);
  const uint32_t last_layer = (request.first_layer + request.layers - 1) / view.layers_per_part;
  const uint32_t last_head = (request.first_head + request.heads - 1) / view.heads_per_part;
  const uint32_t planes = request.planes == 0 ? held.planes : std::min<uint32_t>(request.planes, held.planes);
  for (uint32_t l = request.first_layer / view.layers_per_part; l <= last_layer; ++l) {
    for (uint32_t h = request.first_head / view.heads_per_part; h <= last_head; ++h) {
      for (uint32_t plane = 0; plane < planes && held.At(l, h, plane).readable(); ++plane) {
        const PartAt at{block.id,
                        held.view,
                        static_cast<uint16_t>(l),
                        static_cast<uint16_t>(h),
                        static_cast<uint16_t>(plane),
                        block.block_index};
        out.parts.push_back(LeasePart(lease_id, at, held.At(l, h, plane), answer, cold));
      }
    }
  }
  const bool pending = std::any_of(out.parts.begin(), out.parts.end(), [](const PartGrant& part) { return part.pending; });
  counters_.Add(Counter::kBlocksPending, pending ? 1 : 0);
  reply.blocks.push_back(std::move(out));
}

/// Pins a part that is in DRAM; notes one that is not.
PartGrant ShardCore::LeasePart(uint64_t lease_id, const PartAt& at, const Part& part, action::AnswerAcquire& answer,
                               std::vector<PartAt>* cold) {
  PartGrant grant{at.layer_group, at.head_group, !part.in_dram(), part.bytes, 0, part.frames_offset, "", at.plane};
  action::LeasedPart leased;
  if (part.in_dram()) {
    extents_.Pin(part.extent);
    leases_.at(lease_id).pinned.push_back(part.extent);
    grant.generation = part.extent.generation;
    leased = {RangeOf(part.extent), part.extent.generation};
  } else {
    cold->push_back(at);
  }
  answer.parts.push_back(leased);
  return grant;
}

// ---- promotion -------------------------------------------------------------------------------------------------------
void ShardCore::StartPromote(const PartAt& at, uint64_t lease_id) {
  Block* block = nullptr;
  Part* part = PartOf(at, &block);
  if (part != nullptr && part->extent && part->coming) {  // on its way for somebody else
    FlightOf(part->extent)->leases.push_back({lease_id});
    return;
  }
  PromoteInto(at, lease_id);
}

/// There may be room now. Nothing is read for who has gone or whose time is over.
void ShardCore::PromoteWaiting(const PartAt& at, uint64_t lease_id) {
  const auto lease = leases_.find(lease_id);
  if (lease == leases_.end() || lease->second.closing) return;
  if (now_ <= lease->second.wants_cold_until) return StartPromote(at, lease_id);
  TellLease(lease_id, at, absl::DeadlineExceededError("DRAM had no room for a part on the SSD before the deadline"));
}

/// Reserves and starts the read, or waits in the queue while room is being made.
void ShardCore::PromoteInto(const PartAt& at, uint64_t lease_id) {
  Block* block = nullptr;
  Part* part = PartOf(at, &block);
  if (part != nullptr && part->in_dram()) return TellLease(lease_id, at, absl::OkStatus());
  if (part == nullptr || part->ssd.segment == 0) {
    return TellLease(lease_id, at, absl::NotFoundError("the part left the store"));
  }
  const SsdLocation from = part->ssd;
  const uint64_t from_generation = part->ssd_generation, bytes = part->bytes;
  ExtentRef extent;
  if (!Reserve(at.block.domain, bytes, at.plane, &extent)) {
    if (disk_writes_ > 0 && waiting_.size() < kWaitingMax) {
      waiting_.push_back({at, {}, lease_id});
      return;
    }
    return TellLease(lease_id, at, absl::ResourceExhaustedError("DRAM is full of pinned blocks; try again later"));
  }
  part = PartOf(at, &block);  // making room may have moved what the pointers named
  KVASIR_CHECK(part != nullptr && !part->extent, "a part on the SSD stays in the index while room is made");
  index_.Change(*part, [&](Part& p) {
    p.extent = extent;
    p.coming = true;
  });
  index_.GainExtent(*block, at.plane);
  Flight flight;
  flight.extent = extent;
  flight.work = Work::kPromote;
  flight.part = at;
  flight.begun = now_;
  flight.leases.push_back({lease_id});
  flights_[extent.slot] = std::move(flight);
  Do(action::Promote{extent, RangeOf(extent), from, ClaimOf(*block, at, from_generation)});
}

void ShardCore::On(event::PromoteDone& e) {
  Flight* at = FlightOf(e.extent);
  KVASIR_CHECK(at != nullptr && at->work == Work::kPromote, "a disk read that nobody asked for");
  Flight flight = std::move(*at);
  flights_.erase(e.extent.slot);
  Block* block = nullptr;
  Part* part = PartOf(flight.part, &block);
  KVASIR_CHECK(part != nullptr && part->extent == e.extent && part->coming, "the index names what is in flight");
  if (!e.status.ok()) {
    counters_.Add(Counter::kPromoteFailed);
    if (absl::IsDataLoss(e.status)) {
      counters_.Add(Counter::kWrongPreventedSsd);
      if (part->ssd.segment != 0) Do(action::DropOnSsd{IdOfPart(flight.part), part->ssd});
      index_.Change(*part, [](Part& p) { p.ssd = {}; });
    }
    return FailFlight(std::move(flight), e.status);
  }
  extents_.Move(e.extent, ExtentState::kLanded);
  extents_.Move(e.extent, ExtentState::kSealed);
  index_.Change(*part, [](Part& p) { p.coming = false; });
  counters_.Add(Counter::kPromoted);
  for (const OfferWaiter& w : flight.offers) AnswerPart(w.call, w.index, absl::AlreadyExistsError("sealed"));
  for (const LeaseWaiter& w : flight.leases) TellLease(w.lease, flight.part, absl::OkStatus());
}

/// Says over Watch that a pending part of the lease is ready (and pins it), or why it never will be.
void ShardCore::TellLease(uint64_t lease_id, const PartAt& at, absl::Status status) {
  const auto lease = leases_.find(lease_id);
  if (lease == leases_.end() || lease->second.closing) return;
  Block* block = nullptr;
  Part* part = PartOf(at, &block);
  action::PartReady out{lease->second.session, lease_id, {}, {}};
  out.ready.part.layer_group = at.layer_group;
  out.ready.part.head_group = at.head_group;
  out.ready.part.plane = at.plane;
  out.ready.status = std::move(status);
  out.ready.block_index = at.block_index;
  out.ready.key = at.block.key;
  if (out.ready.status.ok()) {
    KVASIR_CHECK(part != nullptr && part->in_dram(), "ready means readable");
    extents_.Pin(part->extent);
    lease->second.pinned.push_back(part->extent);
    out.ready.part.bytes = part->bytes;
    out.ready.part.frames_offset = part->frames_offset;
    out.ready.part.generation = part->extent.generation;
    out.part = {RangeOf(part->extent), part->extent.generation};
  }
  Do(std::move(out));
}

// ---- leases ----------------------------------------------------------------------------------------------------------
void ShardCore::On(event::TouchArrived& e) {
  const TouchRequest& request = e.request;
  const auto session = sessions_.find(request.session);
  if (session == sessions_.end()) {
    return Do(action::AnswerTouch{e.call, absl::AbortedError("no such session here; say Hello again")});
  }
  TouchReply reply;
  for (const uint64_t id : request.renew) {
    const auto lease = leases_.find(id);
    if (lease == leases_.end() || lease->second.closing || lease->second.session != request.session) {
      reply.gone.push_back(id);
      continue;
    }
    lease->second.expires = LeaseEnd();
  }
  for (const uint64_t id : request.release) {
    const auto lease = leases_.find(id);
    if (lease != leases_.end() && lease->second.session == request.session) CloseLease(id, false);
  }
  for (const BlockKey& key : request.keep) {
    if (Block* block = index_.Find({session->second.domain, key})) {
      block->keep_until = now_ + std::min(request.keep_for, options_.keep_max);
    }
  }
  for (const BlockKey& key : request.drop) {
    Block* block = index_.Find({session->second.domain, key});
    if (block == nullptr) continue;
    block->keep_until = {};
    index_.Cool(*block);
  }
  for (const DamagedPart& damaged : request.damaged) Suspect(session->second.domain, damaged);
  Do(action::AnswerTouch{e.call, std::move(reply)});
}

/// The owner holds a lease a little longer than it told the reader, whose clock began earlier.
Instant ShardCore::LeaseEnd() const {
  return now_ + Duration(static_cast<int64_t>(static_cast<double>(options_.lease.count()) * kLeaseMargin)) + kLeaseSlack;
}

void ShardCore::CloseLease(uint64_t lease_id, bool told) {
  const auto lease = leases_.find(lease_id);
  if (lease == leases_.end() || lease->second.closing) return;
  lease->second.closing = true;
  const auto session = sessions_.find(lease->second.session);
  if (session != sessions_.end()) session->second.leases.erase(lease_id);
  Do(action::RevokeLease{lease->second.session, lease_id, told});
}

void ShardCore::On(event::LeaseQuiet& e) {
  const auto lease = leases_.extract(e.lease);
  if (!lease) return;
  KVASIR_CHECK(lease.mapped().closing, "only a closed lease falls quiet");
  for (const ExtentRef& extent : lease.mapped().pinned) extents_.Unpin(extent);
}

}  // namespace kvasir
