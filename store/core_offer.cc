// SPDX-License-Identifier: Apache-2.0
// ShardCore, writers' side: reserve -> pull -> verify -> [persist] -> publish -> answer.
#include <utility>

#include "store/core.h"
#include "transport/check.h"

namespace kvasir {

absl::Status ShardCore::CheckOffer(const OfferRequest& request, const SessionInfo& session) const {
  if (offers_.size() >= kOffersMax) return absl::ResourceExhaustedError("too many offers in progress; try again later");
  if (request.parts.size() > kPartsPerOfferMax || request.views.size() > kViewsPerCallMax) {
    return absl::InvalidArgumentError("too many parts or views in one offer");
  }
  const Namespace& ns = namespaces_[session.ns];
  for (size_t i = 0; i < request.parts.size(); ++i) {
    const OfferedPart& part = request.parts[i];
    const auto bad = [&](const char* field) {
      return absl::InvalidArgumentError("offer: parts[" + std::to_string(i) + "]." + field + " is out of range");
    };
    if (part.block >= request.blocks.size()) return bad("block");
    if (part.view >= request.views.size()) return bad("view");
    const View& view = request.views[part.view];
    if (part.layer_group >= view.LayerGroups(ns.layout)) return bad("layer_group");
    if (part.head_group >= view.HeadGroups(ns.layout)) return bad("head_group");
    if (part.plane >= view.planes) return bad("plane");
    if (part.bytes < sizeof(PartHeader) || part.bytes > kPartBytesMax) return bad("bytes");
    const bool from_peer = session.peer && part.generation != 0;  // its header is judged by itself: there is no root to hold it against
    if (part.root.size() != 16 && !(from_peer && part.root.empty())) return bad("root");
    const OfferedBlock& block = request.blocks[part.block];
    if (block.token_count == 0 || block.token_count != ns.block_tokens) return bad("block.token_count");
  }
  return absl::OkStatus();
}

void ShardCore::On(event::OfferArrived& e) {
  counters_.Add(Counter::kOffers);
  const auto session = sessions_.find(e.request.session);
  absl::Status status = session == sessions_.end()
                            ? absl::AbortedError("no such session here; say Hello again")
                            : CheckOffer(e.request, session->second);
  if (!status.ok() || e.request.parts.empty()) {
    if (status.ok()) return Do(action::AnswerOffer{e.call, OfferReply{}});
    return Do(action::AnswerOffer{e.call, std::move(status)});
  }
  Offer& offer = offers_[e.call];
  offer.session = e.request.session;
  offer.deadline = now_ + e.request.deadline;
  offer.request = std::move(e.request);
  for (const View& view : offer.request.views) offer.views.push_back(ViewNumber(view));
  const size_t parts = offer.request.parts.size();
  offer.reply.parts.resize(parts, absl::UnknownError("unanswered"));
  offer.answered.resize(parts, false);
  offer.open = parts;
  counters_.Add(Counter::kPartsOffered, parts);
  At(offer.deadline, Due::kOffer, e.call);
  for (uint32_t i = 0; i < parts && offers_.contains(e.call); ++i) StartPart(e.call, i);
}

void ShardCore::StartPart(uint64_t call, uint32_t index) {
  Offer& offer = offers_.at(call);
  const OfferedPart& offered = offer.request.parts[index];
  const OfferedBlock& ob = offer.request.blocks[offered.block];
  const SessionInfo& session = sessions_.at(offer.session);
  const PartAt at{
      {session.domain, ob.key}, offer.views[offered.view], offered.layer_group, offered.head_group, offered.plane};
  const bool durable = offer.request.ack == Ack::kDurable;

  Block* block = nullptr;
  Part* part = PartOf(at, &block);
  if (block != nullptr && block->ns != session.ns) {  // its grid is another: the key cannot have come from this namespace
    return AnswerPart(call, index, absl::FailedPreconditionError("the block is stored under another namespace"));
  }
  if (part != nullptr && !part->absent()) {
    return JoinOrUpgrade(*part, at, {call, index, true}, durable);
  }
  if (durable && !ssd_writable_) {
    return AnswerPart(call, index, absl::UnavailableError("DURABLE needs a working SSD tier; this node has none now"));
  }
  if (!extents_.Fits(offered.bytes)) {
    counters_.Add(Counter::kPartsRefusedFull);
    return AnswerPart(call, index, absl::ResourceExhaustedError("the part is larger than a slab (" +
                                                                std::to_string(extents_.slab_bytes()) + " bytes)"));
  }
  ExtentRef extent;
  if (!Reserve(session.domain, offered.bytes, at.plane, &extent)) {
    if (disk_writes_ > 0 && waiting_.size() < kWaitingMax) {
      waiting_.push_back({at, {call, index, false}, 0});
      return;
    }
    Refused();
    counters_.Add(Counter::kPartsRefusedFull);
    return AnswerPart(call, index, absl::ResourceExhaustedError("DRAM is full and nothing may be evicted; try again later"));
  }
  StartPull(offer, call, index, at, extent);
}

void ShardCore::StartPull(Offer& offer, uint64_t call, uint32_t index, const PartAt& at, ExtentRef extent) {
  const OfferedPart& offered = offer.request.parts[index];
  const OfferedBlock& ob = offer.request.blocks[offered.block];
  bool made = false;
  Block& block = index_.Make(at.block, ob.parent, ob.run, now_, &made);
  block.replicas = std::max(block.replicas, ob.replicas);
  if (made) {
    block.ns = sessions_.at(offer.session).ns;
    block.block_index = ob.block_index;
    block.token_count = ob.token_count;
    const uint64_t id = next_unfinished_++;
    unfinished_[id] = at.block;
    At(now_ + options_.unfinished_ttl, Due::kUnfinished, id);
  }
  Part& part = MakeView(block, at.view).At(at.layer_group, at.head_group, at.plane);
  KVASIR_CHECK(part.absent(), "an extent for a part that is somewhere already");
  index_.Change(part, [&](Part& p) {
    p.extent = extent;
    p.coming = true;
    p.bytes = offered.bytes;
  });
  index_.GainExtent(block, at.plane);
  Flight flight;
  flight.extent = extent;
  flight.part = at;
  flight.root = offered.root;
  flight.generation = offered.generation;
  flight.durable = offer.request.ack == Ack::kDurable;
  flight.begun = now_;
  flight.offers.push_back({call, index, false});
  flights_[extent.slot] = std::move(flight);
  Do(action::Pull{extent, RangeOf(extent), offer.session, offered.grant, offer.deadline});
}

/// The part is here or coming: first seal wins, the second writer hears AlreadyExists, at the level it asked.
void ShardCore::JoinOrUpgrade(Part& part, const PartAt& at, OfferWaiter waiter, bool durable) {
  if (part.extent && (part.coming || part.persisting)) {
    Flight* flight = FlightOf(part.extent);
    KVASIR_CHECK(flight != nullptr, "what is coming is in flight");
    if (part.persisting && !durable) return AnswerPart(waiter.call, waiter.index, absl::AlreadyExistsError("sealed"));
    flight->durable |= durable;
    flight->offers.push_back(waiter);
    return;
  }
  if (durable && part.ssd.segment == 0) {
    if (!ssd_writable_) {
      return AnswerPart(waiter.call, waiter.index, absl::UnavailableError("DURABLE needs a working SSD tier; this node has none now"));
    }
    Block* block = index_.Find(at.block);
    StartPersist(*block, at, part, false);
    FlightOf(part.extent)->offers.push_back(waiter);
    return;
  }
  AnswerPart(waiter.call, waiter.index, absl::AlreadyExistsError("sealed"));
}

void ShardCore::On(event::PullDone& e) {
  Flight* flight = FlightOf(e.extent);
  if (flight == nullptr) return;
  if (!e.status.ok()) {
    counters_.Add(Counter::kPullsFailed);
    if (e.quarantined) extents_.Move(e.extent, ExtentState::kQuarantine);
    Flight failed = std::move(*flight);
    flights_.erase(e.extent.slot);
    return FailFlight(std::move(failed), e.status);
  }
  KVASIR_CHECK(!e.quarantined, "a finished pull leaves nothing behind");
  counters_.Add(Counter::kPulledBytes, extents_.At(e.extent).bytes);
  extents_.Move(e.extent, ExtentState::kLanded);
  Block* block = index_.Find(flight->part.block);
  Do(action::Verify{e.extent, RangeOf(e.extent), ClaimOf(*block, flight->part, flight->generation), flight->root});
}

void ShardCore::On(event::PullReleased& e) {
  if (extents_.Current(e.extent) && extents_.At(e.extent).state == ExtentState::kQuarantine) extents_.Abandon(e.extent);
}

void ShardCore::On(event::VerifyDone& e) {
  Flight* flight = FlightOf(e.extent);
  if (flight == nullptr) return;
  if (!e.status.ok()) {
    counters_.Add(Counter::kWrongPreventedSeal);
    Flight failed = std::move(*flight);
    flights_.erase(e.extent.slot);
    return FailFlight(std::move(failed), e.status);
  }
  Block* block = nullptr;
  Part* part = PartOf(flight->part, &block);
  KVASIR_CHECK(part != nullptr && part->extent == e.extent, "the index names what is in flight");
  part->frames_offset = e.frames_offset;
  if (flight->durable) {
    extents_.Move(e.extent, ExtentState::kPersisting);
    flight->work = Work::kPersist;
    return StartPersist(*block, flight->part, *part, false);
  }
  Publish(*flight);
}

/// The one instant of visibility.
void ShardCore::Publish(Flight& flight) {
  Block* block = nullptr;
  Part* part = PartOf(flight.part, &block);
  KVASIR_CHECK(part != nullptr && part->coming, "publishing what is coming");
  extents_.Move(flight.extent, ExtentState::kSealed);
  index_.Change(*part, [](Part& p) { p.coming = false; });
  counters_.Add(Counter::kPartsSealed);
  index_.Touch(*block, now_, options_.run_blocks);
  Flight done = std::move(flight);
  flights_.erase(done.extent.slot);
  for (const OfferWaiter& w : done.offers) {
    AnswerPart(w.call, w.index, w.joined ? absl::AlreadyExistsError("sealed") : absl::OkStatus());
  }
}

void ShardCore::On(event::PersistDone& e) {
  Flight* flight = FlightOf(e.extent);
  KVASIR_CHECK(flight != nullptr && flight->work == Work::kPersist, "a disk write that nobody asked for");
  Block* block = nullptr;
  Part* part = PartOf(flight->part, &block);
  KVASIR_CHECK(part != nullptr && part->extent == e.extent, "parts do not leave while they are written");
  const bool saved = e.location.ok();
  --disk_writes_;
  counters_.Add(saved ? Counter::kPersisted : Counter::kPersistFailed);
  if (!saved && absl::IsUnavailable(e.location.status())) ssd_writable_ = false;
  if (saved) {
    index_.Change(*part, [&](Part& p) {
      p.ssd = *e.location;
      p.ssd_generation = e.extent.generation;
    });
  }
  if (part->coming) {
    if (saved) return Publish(*flight);
    Flight failed = std::move(*flight);
    flights_.erase(e.extent.slot);
    return FailFlight(std::move(failed), e.location.status());
  }
  part->persisting = false;
  Flight done = std::move(*flight);
  flights_.erase(e.extent.slot);
  extents_.Unpin(e.extent);
  for (const OfferWaiter& w : done.offers) {
    AnswerPart(w.call, w.index, saved ? absl::AlreadyExistsError("sealed") : e.location.status());
  }
  if (done.demotion) DemotionDone(done, *part, saved);
}

/// Nothing was published: whoever waited hears why. A second writer may try again with its own copy.
void ShardCore::FailFlight(Flight flight, const absl::Status& status) {
  Block* block = nullptr;
  Part* part = PartOf(flight.part, &block);
  KVASIR_CHECK(part != nullptr && part->extent == flight.extent && part->coming, "the index names what is in flight");
  if (extents_.At(flight.extent).state != ExtentState::kQuarantine) extents_.Abandon(flight.extent);
  index_.Change(*part, [](Part& p) {
    p.extent = {};
    p.coming = false;
    if (p.absent()) p = Part{};
  });
  index_.LoseExtent(*block, flight.part.plane);
  if (part->absent()) ForgetUpperPlanes(*block, flight.part);
  index_.Tidy(*block);
  for (const OfferWaiter& w : flight.offers) {
    AnswerPart(w.call, w.index, w.joined ? absl::AbortedError("another writer's copy failed; offer again") : status);
  }
  for (const LeaseWaiter& w : flight.leases) TellLease(w.lease, flight.part, status);
}

void ShardCore::AnswerPart(uint64_t call, uint32_t index, absl::Status status) {
  const auto at = offers_.find(call);
  if (at == offers_.end() || at->second.answered[index]) return;
  if (absl::IsAlreadyExists(status)) counters_.Add(Counter::kPartsExisted);
  at->second.reply.parts[index] = std::move(status);
  at->second.answered[index] = true;
  if (--at->second.open == 0) FinishOffer(call);
}

void ShardCore::FinishOffer(uint64_t call) {
  const auto offer = offers_.extract(call);
  timers_.erase({offer.mapped().deadline, Due::kOffer, call});
  Do(action::AnswerOffer{call, std::move(offer.mapped().reply)});
}

}  // namespace kvasir
