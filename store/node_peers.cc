// SPDX-License-Identifier: Apache-2.0
// NodeImpl: what nodes ask each other, who takes over from whom, and who is silent.
#include <algorithm>
#include <utility>

#include "store/node_impl.h"

namespace kvasir {

void NodeImpl::Remember(const Membership& membership) {
  in_force_ = std::make_shared<const Membership>(membership);
}

// ---- taking over -----------------------------------------------------------------------------------------------------
void NodeImpl::ShardSettled(uint32_t shard, uint64_t epoch) {
  bool all = false;
  {
    MutexLock lock(mutex_);
    settled_[shard] = epoch;
    all = epoch == membership_.epoch && std::all_of(settled_.begin(), settled_.end(), [&](uint64_t e) { return e == epoch; });
  }
  if (all && state_ == MemberState::kJoining) BeServing(epoch);
}

/// A joining node that has all it should says so; what comes of it is adopted as any change.
void NodeImpl::BeServing(uint64_t epoch) {
  options_.log(Severity::kInfo, "joined: it holds what it should", {{"epoch", epoch}});
  Announce(MemberState::kServing, [this](const absl::Status& told) {
    if (!told.ok()) options_.log(Severity::kWarning, "the membership was not told that this node serves", {{"cause", std::string(told.message())}});
  });
}

// ---- being asked -----------------------------------------------------------------------------------------------------
void NodeImpl::Probe(ProbeRequest, Duration, Answer<ProbeReply> answer) {
  answer = Measured(StoreCall::kProbe, std::move(answer));
  ProbeReply reply;
  reply.node_id = options_.id;
  reply.state = state_;
  reply.ready = health_.ready();
  {
    MutexLock lock(mutex_);
    reply.epoch = membership_.epoch;
    reply.gathered_epoch = *std::min_element(settled_.begin(), settled_.end());
  }
  answer(std::move(reply));
}

void NodeImpl::Inventory(InventoryRequest request, Duration, Answer<InventoryReply> answer) {
  answer = Measured(StoreCall::kInventory, std::move(answer));
  std::shared_ptr<const Membership> now;
  {
    MutexLock lock(mutex_);
    now = in_force_;
  }
  if (request.epoch != now->epoch) return answer(StaleEpoch(options_.id, request.epoch, now->epoch));
  const Member* from = now->Find(request.from);
  if (from == nullptr) return answer(absl::FailedPreconditionError("inventory: \"" + request.from + "\" is no member"));
  if (request.shard >= shards_.size()) return answer(absl::InvalidArgumentError("node " + options_.id + " has no shard " + std::to_string(request.shard)));
  TakerSaid(request);
  if (request.done) {
    CoolSurplus();
    return answer(InventoryReply{.epoch = now->epoch, .domains = {}, .namespaces = {}, .views = {}, .blocks = {}, .next = ""});
  }
  const uint32_t limit = std::clamp(request.limit, 1u, kRunsPerInventoryMax);
  shards_[request.shard]->Look([now, request = std::move(request), limit, answer = std::move(answer)](const ShardCore& core, const Gatherer&) mutable {
    InventoryReply reply = core.Inventory(request.after, limit, [&](const BlockKey& run, uint32_t replicas) {
      for (const Placed& placed : Place(run, *now, replicas)) {
        if (placed.shard == request.for_shard && now->members[placed.member].id == request.from) return true;
      }
      return false;
    });
    reply.epoch = now->epoch;
    answer(std::move(reply));
  });
}

void NodeImpl::Suggest(SuggestRequest request, Duration, Answer<SuggestReply> answer) {
  answer = Measured(StoreCall::kSuggest, std::move(answer));
  std::shared_ptr<const Membership> now;
  {
    MutexLock lock(mutex_);
    now = in_force_;
  }
  if (request.epoch != now->epoch) return answer(StaleEpoch(options_.id, request.epoch, now->epoch));
  if (!TakesBlocks()) return answer(SuggestReply{0});
  if (request.runs.blocks.empty()) return answer(SuggestReply{0});
  // It lies in the shard where readers of the run look for it.
  const std::vector<Placed> owners = Place(request.runs.blocks[0].run, *now, Membership::kMembersMax);
  for (const Placed& placed : owners) {
    if (now->members[placed.member].id == options_.id) return shards_[placed.shard % shards_.size()]->Suggested(std::move(request), std::move(answer));
  }
  answer(SuggestReply{0});
}

// ---- handing over ----------------------------------------------------------------------------------------------------
void NodeImpl::TakerSaid(const InventoryRequest& request) {
  MutexLock lock(mutex_);
  Taker& taker = takers_[{request.from, request.for_shard, request.shard}];
  taker = {request.epoch, request.wanted_bytes, request.got_bytes, request.done};
}

/// Every shard of everybody who takes blocks has all it wanted of ours, or is silent.
MoveStatus NodeImpl::HandingOver() const {
  MoveStatus status;
  MutexLock lock(mutex_);
  const Instant now = std::chrono::steady_clock::now();
  status.epoch = membership_.epoch;
  for (const Member& member : membership_.members) {
    const bool takes = member.state == MemberState::kServing || member.state == MemberState::kJoining;
    if (!takes || member.id == options_.id || Silent(member.id, now)) continue;
    for (uint32_t theirs = 0; theirs < member.shards; ++theirs) {
      for (uint32_t ours = 0; ours < shards_.size(); ++ours) {
        const auto at = takers_.find({member.id, theirs, ours});
        const bool said = at != takers_.end() && at->second.epoch == membership_.epoch;
        status.settled &= said && at->second.done;
        if (!said) continue;
        status.bytes_total += at->second.wanted_bytes;
        status.bytes_done += at->second.got_bytes;
      }
    }
  }
  return status;
}

/// Once everybody has what is theirs: runs that are no longer ours are the first to make room.
void NodeImpl::CoolSurplus() {
  if (!TakesBlocks()) return;
  const MoveStatus status = HandingOver();
  std::shared_ptr<const Membership> now;
  {
    MutexLock lock(mutex_);
    if (!status.settled || cooled_epoch_ == membership_.epoch) return;
    cooled_epoch_ = membership_.epoch;
    now = in_force_;
  }
  for (uint32_t i = 0; i < shards_.size(); ++i) {
    shards_[i]->Look([this, i, now](const ShardCore& core, const Gatherer&) {
      auto surplus = core.Surplus([&](const BlockKey& run, uint32_t replicas) {
        for (const Placed& placed : Place(run, *now, replicas)) {
          if (placed.shard == i && now->members[placed.member].id == options_.id) return true;
        }
        return false;
      });
      if (!surplus.empty()) shards_[i]->Post(event::RunsMoved{std::move(surplus)});
    });
  }
}

// ---- probes ----------------------------------------------------------------------------------------------------------
bool NodeImpl::Silent(const std::string& id, Instant now) const {
  const auto at = seen_.find(id);
  if (at == seen_.end()) return false;  // not among those we probe: nothing is known
  return now - std::max(at->second.first, at->second.answered) > kSilentAfter;
}

std::vector<PeerStatus> NodeImpl::PeersSeen() const {
  std::vector<PeerStatus> peers;
  MutexLock lock(mutex_);
  const Instant now = std::chrono::steady_clock::now();
  for (const auto& [id, seen] : seen_) {
    const char* state = Silent(id, now) ? "silent" : seen.answered == Instant{} ? "unknown" : "ok";
    peers.push_back({id, state, now - std::max(seen.first, seen.answered)});
  }
  return peers;
}

/// The members that follow this one in the order of ids, at most kProbedMax: each is probed by as many.
void NodeImpl::ProbePeers() {
  if (stopping_ || !options_.dial) return;
  const Instant now = std::chrono::steady_clock::now();
  std::vector<std::pair<std::string, std::shared_ptr<PeerApi>>> ask;
  ProbeRequest request{options_.id, 0};
  {
    MutexLock lock(mutex_);
    request.epoch = membership_.epoch;
    const std::vector<Member>& members = membership_.members;
    const auto self = static_cast<size_t>(membership_.Find(options_.id) - members.data());
    std::map<std::string, Seen> kept;
    for (size_t i = 1; i < members.size() && i <= kProbedMax; ++i) {
      const Member& member = members[(self + i) % members.size()];
      Seen& seen = kept[member.id];
      const auto known = seen_.find(member.id);
      if (known != seen_.end() && known->second.control == member.control) seen = std::move(known->second);
      if (seen.first == Instant{}) seen.first = now;
      seen.control = member.control;
      if (seen.peer == nullptr) seen.peer = options_.dial(member.control).peer;
      if (seen.peer == nullptr || std::exchange(seen.asking, true)) continue;
      ask.emplace_back(member.id, seen.peer);
    }
    seen_ = std::move(kept);
  }
  for (auto& [id, peer] : ask) {
    counters_.Add(Counter::kProbes);
    Call<ProbeRequest, ProbeReply>(mailbox_, keeper_.loop(), *peer, &PeerApi::Probe, request, now + kProbeDeadline,
                                   [this, id, peer](absl::StatusOr<ProbeReply> reply) {
                                     MutexLock lock(mutex_);
                                     const auto at = seen_.find(id);
                                     if (at == seen_.end()) return;
                                     at->second.asking = false;
                                     if (!reply.ok()) {
                                       at->second.peer = nullptr;  // dialled again
                                       return counters_.Add(Counter::kProbesSilent);
                                     }
                                     at->second.answered = std::chrono::steady_clock::now();
                                     at->second.last = *std::move(reply);
                                   });
  }
  keeper_.loop().After(kProbeEvery, [this] { ProbePeers(); });
}

}  // namespace kvasir
