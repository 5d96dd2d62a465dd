// SPDX-License-Identifier: Apache-2.0
// NodeImpl: sessions and the six calls, handed to the shards they concern. Admin is in node_admin.cc.
#include "store/node_impl.h"

#include <algorithm>
#include <random>
#include <utility>

#include "transport/check.h"

namespace kvasir {

namespace {

absl::Status CheckOptions(const NodeOptions& options, const Member** self) {
  const auto bad = [](const std::string& why) { return absl::InvalidArgumentError("node options: " + why); };
  *self = options.membership.Find(options.id);
  if (*self == nullptr) return bad("the membership does not name this node's id '" + options.id + "'");
  if (options.shards == 0 || options.shards > 64) return bad("shards must be 1 to 64");
  if ((*self)->shards != options.shards) return bad("the membership gives '" + options.id + "' another number of shards");
  if (options.dram_bytes / options.shards < (1u << 20)) return bad("dram_bytes must be at least 1 MiB a shard");
  if (options.run_blocks == 0 || options.run_blocks > 4096) return bad("run_blocks must be 1 to 4096");
  if (options.transports.empty()) return bad("transports must name at least one");
  if (options.lease <= Duration::zero() || options.session_ttl <= options.lease) {
    return bad("lease must be positive and shorter than session_ttl");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Node>> Node::Start(NodeOptions options) { return NodeImpl::Start(std::move(options)); }

absl::StatusOr<std::unique_ptr<Node>> NodeImpl::Start(NodeOptions options) {
  const Member* self = nullptr;
  if (absl::Status status = CheckOptions(options, &self); !status.ok()) return status;
  std::unique_ptr<NodeImpl> node(new NodeImpl(std::move(options)));
  if (absl::Status status = node->StartParts(); !status.ok()) return status;
  return node;
}

NodeImpl::NodeImpl(NodeOptions options)
    : options_(std::move(options)),
      incarnation_(NewIncarnation()),
      started_(std::chrono::steady_clock::now()),
      meters_(options_.transports),
      health_(options_.health),
      state_(options_.membership.Find(options_.id)->state),
      epoch_(options_.membership.Find(options_.id)->epoch),
      membership_(options_.membership),
      keeper_("kv-node", options_.clock),
      judge_("kv-health") {
  mailbox_ = std::make_shared<Mailbox>(keeper_.loop());
  MutexLock lock(mutex_);
  Remember(membership_);
  settled_.assign(options_.shards, 0);
}

/// What shard `i` gets of the node's options, and how it speaks to the node. Its parts' generations begin at `generation`.
ShardOptions NodeImpl::OptionsOfShard(uint32_t i, uint64_t generation) {
  ShardOptions shard;
  shard.core.shard = i;
  shard.core.extents = {options_.dram_bytes / options_.shards, options_.slab_bytes, generation};
  if (options_.huge_pages) {
    shard.core.extents.slab_multiple = SharedMemory::kHugePageBytes;
    shard.pages = PageKind::kHuge;
  }
  shard.core.ssd = ssd_ != nullptr;
  shard.core.lease = options_.lease;
  shard.core.unfinished_ttl = options_.unfinished_ttl;
  shard.core.keep_max = options_.keep_max;
  shard.core.demote_above = options_.demote_above;
  shard.core.run_blocks = options_.run_blocks;
  shard.transports = options_.transports;
  shard.data_host = options_.data_host;
  shard.data_port = options_.data_port == 0 ? uint16_t{0} : static_cast<uint16_t>(options_.data_port + i);
  shard.incarnation = incarnation_;
  shard.ssd = ssd_.get();
  shard.workers = workers_.get();
  shard.counters = &counters_;
  shard.meters = &meters_;
  shard.health = options_.health;
  shard.log = options_.log;
  shard.clock = options_.clock;
  shard.hold = options_.hold;
  shard.id = options_.id;
  shard.dial = options_.dial;
  shard.gather_bytes_per_s = std::max<uint64_t>(1, options_.gather_bytes_per_s / options_.shards);
  shard.learn = [this](const DomainId& domain, const Namespace& ns, const std::vector<View>& views, absl::AnyInvocable<void(absl::Status)> done) {
    names_->Bind(domain, ns, [this, views, done = std::move(done)](absl::StatusOr<std::string> bound) mutable {
      if (!bound.ok()) return done(bound.status());
      names_->Keep(views, std::move(done));
    });
  };
  shard.settled = [this, i](uint64_t epoch) { ShardSettled(i, epoch); };
  shard.core.hot_reads_per_s = options_.hot_reads_per_s;
  shard.core.ssd_planes = options_.ssd_planes;
  shard.notify = [this](uint64_t session, WatchEvent event) { Notify(session, std::move(event)); };
  return shard;
}

absl::Status NodeImpl::StartParts() {
  SsdTier::Recovered recovered;
  if (options_.ssd.has_value()) {
    auto ssd = SsdTier::Open(*options_.ssd, &recovered);
    if (!ssd.ok()) return ssd.status();
    ssd_ = *std::move(ssd);
    if (!recovered.note.empty()) options_.log(Severity::kWarning, "the SSD tier was repaired", {{"note", recovered.note}});
    options_.log(Severity::kInfo, "the SSD tier is open",
                 {{"parts", recovered.parts.size()}, {"dropped", recovered.dropped}, {"io", ssd_->Status().io}});
  }
  names_ = std::make_unique<Names>(ssd_.get(), options_.namespaces_max);
  names_->Recover(recovered.values);
  objects_ = std::make_unique<Objects>(ssd_.get(), options_.dram_bytes / kObjectsShare);
  objects_->Recover(recovered.values);
  workers_ = std::make_unique<WorkerPool>(std::max(1u, options_.codec_threads));
  for (uint32_t i = 0; i < options_.shards; ++i) {
    auto started = Shard::Start(OptionsOfShard(i, recovered.generation_max + 1));
    if (!started.ok()) return started.status();
    shards_.push_back(*std::move(started));
  }
  if (ssd_ != nullptr) {
    ssd_->OnEvicted([this](std::vector<PartId> parts) {
      for (auto& shard : shards_) shard->Post(event::SsdEvicted{parts});
    });
    Recover(std::move(recovered));
  }
  for (auto& shard : shards_) shard->Adopt(options_.membership);
  keeper_.loop().Post([this] {
    SweepSessions();
    ProbePeers();
  });
  AddVitals();
  judge_.loop().Post([this] { JudgeHealth(); });
  return absl::OkStatus();
}

void NodeImpl::Recover(SsdTier::Recovered recovered) {
  uint64_t dropped = recovered.dropped;
  for (RecoveredPart& part : recovered.parts) {
    const View* view = names_->FindView(part.meta.id.view);
    const Namespace* ns = names_->FindNamespace(part.meta.ns);
    if (view == nullptr || ns == nullptr) {
      const std::pair<PartId, SsdLocation> one{part.meta.id, part.location};
      ssd_->Drop({&one, 1});
      ++dropped;
      continue;
    }
    shards_[part.meta.shard % shards_.size()]->Post(event::SsdFound{std::move(part), *view, *ns});
  }
  counters_.Add(Counter::kRecoveryDropped, dropped);
  for (auto& shard : shards_) {
    ++shards_recovering_;
    shard->Look([this](const ShardCore&, const Gatherer&) {  // behind all that was found
      Task taken_in = [this] { --shards_recovering_; };
      if (!options_.hold || !options_.hold("recovered", taken_in)) taken_in();
    });
  }
}

NodeImpl::~NodeImpl() {
  judge_.Call([this] { judging_ = false; });   // from here on nobody asks the others how they are
  keeper_.Call([this] { stopping_ = true; });  // from here on it touches no shard
  mailbox_->Close();
  {
    MutexLock lock(mutex_);
    for (auto& [id, session] : sessions_) session.watcher.reset();
  }
  for (auto& shard : shards_) shard->Stop();
  ssd_.reset();      // answers what it was asked, on Loops that no longer act on it
  workers_.reset();  // runs the last checks
  shards_.clear();
}

// ---- sessions --------------------------------------------------------------------------------------------------------
void NodeImpl::Hello(HelloRequest request, Duration, Answer<HelloReply> answer) {
  answer = Measured(StoreCall::kHello, std::move(answer));
  const auto refuse = [&](absl::Status status) {
    counters_.Add(Counter::kHelloRefused);
    answer(std::move(status));
  };
  if (request.wire_min > kWireVersion || request.wire_max < kWireVersionMin) {
    return refuse(absl::FailedPreconditionError("this node speaks wire versions " + std::to_string(kWireVersionMin) + " to " +
                                                std::to_string(kWireVersion) + ", the client " +
                                                std::to_string(request.wire_min) + " to " + std::to_string(request.wire_max) +
                                                "; upgrade the older one"));
  }
  if (absl::Status valid = request.ns.Validate(); !valid.ok()) return refuse(std::move(valid));
  const DomainId domain = request.domain;
  const Namespace ns = request.ns;
  names_->Bind(domain, ns, [this, request = std::move(request), answer = std::move(answer)](absl::StatusOr<std::string> warning) mutable {
    if (!warning.ok()) {
      counters_.Add(Counter::kHelloRefused);
      if (const auto field = warning.status().GetPayload(kFieldPayload)) meters_.Mismatched(std::string(*field));
      return answer(warning.status());
    }
    OpenSession(std::move(request), *std::move(warning), std::move(answer));
  });
}

void NodeImpl::OpenSession(HelloRequest request, std::string warning, Answer<HelloReply> answer) {
  HelloReply reply;
  reply.wire = std::min(kWireVersion, request.wire_max);
  reply.credentials = NewSecret();
  reply.node_id = options_.id;
  reply.server_version = KVASIR_VERSION;
  reply.incarnation = incarnation_;
  reply.membership = membership();
  reply.run_blocks = options_.run_blocks;
  reply.session_ttl = options_.session_ttl;
  reply.lease = options_.lease;
  reply.warning = std::move(warning);
  bool full = false;
  {
    MutexLock lock(mutex_);
    full = sessions_.size() >= options_.sessions_max;
    if (!full) {
      do {
        std::memcpy(&reply.session, NewSecret().data(), sizeof reply.session);
      } while (reply.session == 0 || sessions_.contains(reply.session));
      SessionEntry& entry = sessions_[reply.session];
      entry.domain = request.domain;
      entry.ns = request.ns;
      entry.peer = !request.peer.empty();
      entry.seen = std::chrono::steady_clock::now();
      session_count_ = sessions_.size();
    }
  }
  if (full) return answer(absl::ResourceExhaustedError("too many sessions on node " + options_.id + "; try again later"));
  counters_.Add(Counter::kSessionsOpened);
  for (auto& shard : shards_) {
    shard->OpenSession(reply.session, request.domain, request.ns, reply.credentials, !request.peer.empty());
  }
  reply.data = DataAddresses();
  answer(std::move(reply));
}

std::vector<DataAddress> NodeImpl::DataAddresses() const {
  std::vector<DataAddress> addresses;
  for (const auto& shard : shards_) {
    addresses.insert(addresses.end(), shard->addresses().begin(), shard->addresses().end());
  }
  return addresses;
}

/// Renews the session. Aborted when there is none, or the caller's epoch or shard is not ours.
absl::Status NodeImpl::Admit(uint64_t session, uint64_t epoch, uint32_t shard) {
  {
    MutexLock lock(mutex_);
    const auto at = sessions_.find(session);
    if (at == sessions_.end()) return absl::AbortedError("no such session on node " + options_.id + "; say Hello again");
    at->second.seen = std::chrono::steady_clock::now();
  }
  if (const uint64_t ours = epoch_; epoch != 0 && epoch != ours) {
    counters_.Add(Counter::kStaleEpoch);
    return StaleEpoch(options_.id, epoch, ours);
  }
  if (shard >= shards_.size()) return absl::InvalidArgumentError("node " + options_.id + " has no shard " + std::to_string(shard));
  return absl::OkStatus();
}

void NodeImpl::SweepSessions() {
  if (stopping_) return;
  Task again = [this] { keeper_.loop().Post([this] { SweepSessions(); }); };
  if (options_.hold && options_.hold("keeper", again)) return;
  const Instant now = std::chrono::steady_clock::now();
  std::vector<uint64_t> ended;
  {
    MutexLock lock(mutex_);
    for (auto& [id, session] : sessions_) {
      if (session.watcher == nullptr && now - session.seen > options_.session_ttl) ended.push_back(id);
    }
    for (const uint64_t id : ended) sessions_.erase(id);
    session_count_ = sessions_.size();
  }
  if (!ended.empty()) options_.log(Severity::kInfo, "sessions of silent clients ended", {{"sessions", ended.size()}});
  for (const uint64_t id : ended) {
    counters_.Add(Counter::kSessionsExpired);
    for (auto& shard : shards_) shard->CloseSession(id);
  }
  keeper_.loop().After(kSweep, [this] { SweepSessions(); });
}

std::string NodeImpl::NewSecret() {
  std::random_device device;
  std::string secret(32, '\0');
  for (size_t i = 0; i < secret.size(); i += sizeof(unsigned)) {
    const unsigned word = device();
    std::memcpy(&secret[i], &word, sizeof word);
  }
  return secret;
}

// ---- calls -----------------------------------------------------------------------------------------------------------
void NodeImpl::Offer(OfferRequest request, Duration deadline, Answer<OfferReply> answer) {
  answer = Measured(StoreCall::kOffer, std::move(answer));
  if (absl::Status admitted = Admit(request.session, request.epoch, request.shard); !admitted.ok()) return answer(std::move(admitted));
  if (!TakesBlocks()) {
    return answer(absl::UnavailableError("node " + options_.id + " is " + Name(state_) + " and takes no new blocks; use another"));
  }
  if (request.deadline <= Duration::zero()) request.deadline = deadline;
  const std::vector<View> views = request.views;
  names_->Keep(views, [this, request = std::move(request), answer = std::move(answer)](absl::Status kept) mutable {
    if (!kept.ok()) return answer(std::move(kept));
    Shard& shard = *shards_[request.shard];
    shard.Offer(std::move(request), std::move(answer));
  });
}

void NodeImpl::Acquire(AcquireRequest request, Duration, Answer<AcquireReply> answer) {
  answer = Measured(StoreCall::kAcquire, std::move(answer));
  if (absl::Status admitted = Admit(request.session, request.epoch, request.shard); !admitted.ok()) return answer(std::move(admitted));
  Shard& shard = *shards_[request.shard];
  shard.Acquire(std::move(request), std::move(answer));
}

void NodeImpl::Touch(TouchRequest request, Duration, Answer<TouchReply> answer) {
  answer = Measured(StoreCall::kTouch, std::move(answer));
  if (absl::Status admitted = Admit(request.session, 0, request.shard); !admitted.ok()) return answer(std::move(admitted));
  Shard& shard = *shards_[request.shard];
  shard.Touch(std::move(request), std::move(answer));
}

void NodeImpl::Object(ObjectRequest request, Duration, Answer<ObjectReply> answer) {
  answer = Measured(StoreCall::kObject, std::move(answer));
  DomainId domain;
  if (absl::Status admitted = Admit(request.session, 0, 0); !admitted.ok()) return answer(std::move(admitted));
  {
    MutexLock lock(mutex_);
    const auto at = sessions_.find(request.session);
    if (at != sessions_.end()) domain = at->second.domain;
  }
  objects_->Do(domain, std::move(request), std::move(answer));
}

}  // namespace kvasir
