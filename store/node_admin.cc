// SPDX-License-Identifier: Apache-2.0
// NodeImpl: Watch, membership, and what operators ask.
#include <algorithm>
#include <utility>

#include "store/node_impl.h"

namespace kvasir {

// ---- Watch -----------------------------------------------------------------------------------------------------------
class NodeImpl::WatcherImpl : public StoreApi::Watcher {
 public:
  WatcherImpl(NodeImpl* node, uint64_t session, std::shared_ptr<Listener> listener)
      : node_(node), session_(session), listener_(std::move(listener)) {}
  ~WatcherImpl() override {
    {
      MutexLock lock(listener_->mutex);
      listener_->event = nullptr;
      listener_->end = nullptr;
    }
    node_->Unwatch(session_, listener_);
  }

 private:
  NodeImpl* const node_;  // a Watcher goes before its node
  const uint64_t session_;
  const std::shared_ptr<Listener> listener_;
};

std::unique_ptr<StoreApi::Watcher> NodeImpl::Watch(uint64_t session, OnEvent event, OnEnd end) {
  auto listener = std::make_shared<Listener>();
  bool known = false;
  {
    MutexLock listening(listener->mutex);  // held until the first events are told: Notify waits its turn
    std::vector<WatchEvent> unheard;
    {
      MutexLock lock(mutex_);
      const auto at = sessions_.find(session);
      known = at != sessions_.end();
      if (known) {
        at->second.watcher = listener;
        at->second.watched = true;
        unheard.swap(at->second.unheard);
      }
    }
    if (known) {
      listener->event = std::move(event);
      listener->end = std::move(end);
      listener->event(MembershipChanged{membership()});
      for (WatchEvent& early : unheard) listener->event(std::move(early));
    }
  }
  if (!known) end(absl::AbortedError("no such session on node " + options_.id + "; say Hello again"));
  return std::make_unique<WatcherImpl>(this, session, std::move(listener));
}

void NodeImpl::Unwatch(uint64_t session, const std::shared_ptr<Listener>& listener) {
  MutexLock lock(mutex_);
  const auto at = sessions_.find(session);
  if (at == sessions_.end() || at->second.watcher != listener) return;
  at->second.watcher.reset();
  at->second.seen = std::chrono::steady_clock::now();
}

void NodeImpl::Notify(uint64_t session, WatchEvent event) {
  std::shared_ptr<Listener> listener;
  {
    MutexLock lock(mutex_);
    const auto at = sessions_.find(session);
    if (at == sessions_.end()) return;
    listener = at->second.watcher;
    // Watch and Acquire are calls of their own: a part may be ready before the Watch is here.
    if (!at->second.watched && at->second.unheard.size() < kUnheardMax) at->second.unheard.push_back(std::move(event));
  }
  if (listener == nullptr) return;  // nobody listens any more: the reader's deadline makes it a miss
  MutexLock lock(listener->mutex);
  if (listener->event) listener->event(std::move(event));
}

// ---- membership ------------------------------------------------------------------------------------------------------
Membership NodeImpl::membership() const {
  MutexLock lock(mutex_);
  return membership_;
}

void NodeImpl::Adopt(Membership membership) {
  std::vector<uint64_t> sessions;
  {
    MutexLock lock(mutex_);
    if (membership.epoch <= membership_.epoch || membership.members.size() > Membership::kMembersMax) return;
    if (membership.Find(options_.id) == nullptr) {
      membership.members.push_back(*membership_.Find(options_.id));
      std::sort(membership.members.begin(), membership.members.end(), [](const Member& a, const Member& b) { return a.id < b.id; });
    }
    const Member& self = *membership.Find(options_.id);
    state_ = self.state;
    epoch_ = self.epoch;
    membership_ = membership;
    Remember(membership);
    for (const auto& [id, session] : sessions_) sessions.push_back(id);
  }
  counters_.Add(Counter::kMembershipChanges);
  for (const uint64_t session : sessions) Notify(session, MembershipChanged{membership});
  for (auto& shard : shards_) shard->Adopt(membership);
}

void NodeImpl::Announce(MemberState state, absl::AnyInvocable<void(absl::Status)> done) {
  if (options_.announce) return options_.announce(state, std::move(done));
  state_ = state;
  done(absl::OkStatus());
}

void NodeImpl::Cordon(bool cordoned, Answer<NodeStatus> answer) {
  Announce(cordoned ? MemberState::kCordoned : MemberState::kServing, [this, answer = std::move(answer)](absl::Status told) mutable {
    if (!told.ok()) return answer(std::move(told));
    Status(std::move(answer));
  });
}

TierStatus NodeImpl::SsdTierStatus(const SsdStatus& ssd) {
  const std::string state = ssd.read_only ? "read-only: " + ssd.cause : "ok (" + ssd.io + ")";
  return {"ssd", state, ssd.capacity, ssd.used, ssd.live, ssd.parts};
}

// ---- Admin -----------------------------------------------------------------------------------------------------------
void NodeImpl::Status(Answer<NodeStatus> answer) {
  struct Gather {
    Mutex mutex;
    size_t open;
    NodeStatus status;
    TierStatus dram{"dram", "ok", 0, 0, 0, 0};
    Answer<NodeStatus> answer;
  };
  auto gather = std::make_shared<Gather>();
  gather->open = shards_.size();
  gather->answer = std::move(answer);
  NodeStatus& s = gather->status;
  s.node_id = options_.id;
  s.version = KVASIR_VERSION;
  s.state = Name(state_);
  s.membership_source = options_.membership_source ? options_.membership_source() : "static";
  s.device = "cpu (" + std::to_string(options_.codec_threads) + " checking threads)";
  s.uptime = std::chrono::steady_clock::now() - started_;
  s.membership = membership();
  s.epoch = s.taking_over.epoch = s.membership.epoch;
  s.handing_over = HandingOver();
  s.peers = PeersSeen();
  if (state_ == MemberState::kDraining && drained_) s.state = "drained";
  s.counters = counters_.Snapshot();
  s.features = Features();
  s.sessions = session_count_;
  for (auto& shard : shards_) {
    shard->Look([this, gather](const ShardCore& core, const Gatherer& gatherer) {
      bool last = false;
      {
        MutexLock lock(gather->mutex);
        NodeStatus& s = gather->status;
        const MoveStatus move = gatherer.status();
        s.taking_over.runs_done += move.runs_done;
        s.taking_over.runs_total += move.runs_total;
        s.taking_over.bytes_done += move.bytes_done;
        s.taking_over.bytes_total += move.bytes_total;
        s.taking_over.settled &= move.settled && move.epoch >= s.epoch;
        s.leases += core.leases();
        s.blocks += core.blocks();
        s.parts += core.parts();
        gather->dram.capacity += core.extents().capacity();
        gather->dram.used += core.extents().used();
        gather->dram.live += core.live_bytes();
        gather->dram.parts += core.dram_parts();
        last = --gather->open == 0;
      }
      if (!last) return;
      gather->status.tiers.push_back(gather->dram);
      if (ssd_ != nullptr) {
        gather->status.tiers.push_back(SsdTierStatus(ssd_->Status()));
      }
      gather->answer(std::move(gather->status));
    });
  }
}

void NodeImpl::List(ListRequest request, Answer<ListReply> answer) {
  constexpr uint32_t kListMax = 10000;
  request.limit = std::clamp(request.limit, 1u, kListMax);
  struct Gather {
    Mutex mutex;
    size_t open;
    std::vector<BlockInfo> blocks;
    Answer<ListReply> answer;
  };
  auto gather = std::make_shared<Gather>();
  gather->open = shards_.size();
  gather->answer = std::move(answer);
  for (auto& shard : shards_) {
    shard->Look([gather, request](const ShardCore& core, const Gatherer&) {
      bool last = false;
      std::vector<BlockInfo> found = core.List(request, std::chrono::steady_clock::now());
      {
        MutexLock lock(gather->mutex);
        gather->blocks.insert(gather->blocks.end(), std::make_move_iterator(found.begin()), std::make_move_iterator(found.end()));
        last = --gather->open == 0;
      }
      if (!last) return;
      std::vector<BlockInfo>& all = gather->blocks;
      std::sort(all.begin(), all.end(), [](const BlockInfo& a, const BlockInfo& b) { return std::tie(a.key, a.spec) < std::tie(b.key, b.spec); });
      ListReply reply;
      // A page ends between two keys, so that the cursor (a key) never splits a block's views.
      size_t end = std::min<size_t>(request.limit, all.size());
      while (end < all.size() && end > 0 && all[end].key == all[end - 1].key) ++end;
      if (end < all.size()) reply.next = ToHex(all[end - 1].key);
      all.resize(end);
      reply.blocks = std::move(all);
      gather->answer(std::move(reply));
    });
  }
}

void NodeImpl::Drain(Duration wait, Answer<NodeStatus> answer) {
  const Instant until = std::chrono::steady_clock::now() + wait;
  Announce(MemberState::kDraining, [this, until, answer = std::move(answer)](const absl::Status& told) mutable {
    // Whatever the membership says: this node takes nothing new, and its clients go elsewhere.
    if (!told.ok()) options_.log(Severity::kWarning, "the membership was not told of the drain", {{"cause", std::string(told.message())}});
    state_ = MemberState::kDraining;
    keeper_.loop().Post([this, until, answer = std::move(answer)]() mutable { LookDrained(until, std::move(answer)); });
  });
}

void NodeImpl::LookDrained(Instant until, Answer<NodeStatus> answer) {
  if (stopping_) return answer(absl::UnavailableError("the node is shutting down"));
  Status([this, until, answer = std::move(answer)](absl::StatusOr<NodeStatus> status) mutable {
    const bool handed_over = !options_.announce || !options_.dial || (status.ok() && status->handing_over.settled);
    if (status.ok() && status->leases == 0 && handed_over) {
      drained_ = true;
      status->state = "drained";
    }
    if (!status.ok() || drained_ || std::chrono::steady_clock::now() >= until) return answer(std::move(status));
    keeper_.loop().Post([this, until, answer = std::move(answer)]() mutable {
      keeper_.loop().After(kDrainLook, [this, until, answer = std::move(answer)]() mutable { LookDrained(until, std::move(answer)); });
    });
  });
}

}  // namespace kvasir
