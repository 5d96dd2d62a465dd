// SPDX-License-Identifier: Apache-2.0
#include "store/shard.h"

#include <utility>

#include "store/verify.h"
#include "transport/check.h"

namespace kvasir {
namespace {

std::string Text(const absl::Status& status) { return std::string(status.message()); }

}  // namespace

absl::StatusOr<std::unique_ptr<Shard>> Shard::Start(ShardOptions options) {
  std::unique_ptr<Shard> shard(new Shard(std::move(options)));
  absl::Status listening;
  shard->loop_.Call([&] {
    listening = shard->Listen();
    const ShardOptions& o = shard->options_;
    shard->gatherer_ = std::make_unique<Gatherer>(
        GathererOptions{o.id, o.core.shard, o.gather_bytes_per_s, o.transports, o.dial}, shard->HostOfGatherer());
  });
  if (!listening.ok()) return listening;
  return shard;
}

Shard::Shard(ShardOptions options)
    : options_(std::move(options)),
      core_(options_.core, *options_.counters),
      ssd_(options_.ssd),
      loop_(("kv-shard-" + std::to_string(options_.core.shard)).c_str(), options_.clock) {
  mailbox_ = std::make_shared<Mailbox>(loop_.loop());
  Publish();
}

Shard::~Shard() {
  if (!stopping_) Stop();
}

void Shard::Stop() {
  loop_.Call([this] {
    stopping_ = true;
    ssd_ = nullptr;
    gatherer_->Stop();
    mailbox_->Close();
    for (auto& [session, peer] : peers_) {
      if (peer.connection != nullptr) peer.connection->Close();
    }
    peers_.clear();
    transports_.clear();  // before the regions
    const absl::Status gone = absl::UnavailableError("the node is shutting down");
    for (auto& [call, answer] : std::exchange(offers_, {})) answer(gone);
    for (auto& [call, answer] : std::exchange(acquires_, {})) answer(gone);
    for (auto& [call, answer] : std::exchange(touches_, {})) answer(gone);
  });
}

absl::Status Shard::Listen() {
  for (size_t i = 0; i < options_.transports.size(); ++i) {
    TransportOptions wanted;
    wanted.incarnation = options_.incarnation;
    auto transport = MakeTransport(options_.transports[i], loop_.loop(), wanted);
    if (!transport.ok()) return transport.status();
    Acceptor acceptor;
    acceptor.judge = [this](std::string_view credentials) -> absl::StatusOr<uint64_t> {
      const auto known = by_credentials_.find(std::string(credentials));
      if (known == by_credentials_.end()) return absl::PermissionDeniedError("no session of this node has these credentials");
      return known->second;
    };
    acceptor.accepted = [this, i](std::unique_ptr<Connection> connection) { Accept(i, std::move(connection)); };
    const std::string where =
        options_.transports[i] == "tcp" ? options_.data_host + ":" + std::to_string(options_.data_port) : std::string();
    const auto address = (*transport)->Listen(where, std::move(acceptor));
    if (!address.ok()) return address.status();
    addresses_.push_back({options_.core.shard, options_.transports[i], *address});
    transports_.push_back(*std::move(transport));
  }
  return absl::OkStatus();
}

void Shard::Accept(size_t transport, std::unique_ptr<Connection> connection) {
  const auto peer = peers_.find(connection->scope());
  if (peer == peers_.end()) return;  // the session ended between handshake and now
  if (peer->second.connection != nullptr) peer->second.connection->Close();
  peer->second.connection = std::move(connection);
  peer->second.transport = transport;
}

// ---- any thread ------------------------------------------------------------------------------------------------------
void Shard::OpenSession(uint64_t session, const DomainId& domain, const Namespace& ns, const std::string& credentials, bool peer) {
  loop_.loop().Post([this, session, domain, ns, credentials, peer] {
    peers_[session].credentials = credentials;
    by_credentials_[credentials] = session;
    Handle(event::SessionOpened{session, domain, ns, peer});
  });
}

void Shard::CloseSession(uint64_t session) {
  loop_.loop().Post([this, session] {
    const auto peer = peers_.find(session);
    if (peer == peers_.end()) return;
    by_credentials_.erase(peer->second.credentials);
    const std::unique_ptr<Connection> connection = std::move(peer->second.connection);
    peers_.erase(peer);
    if (connection != nullptr) connection->Close();
    Handle(event::SessionClosed{session});
  });
}

void Shard::Offer(OfferRequest request, Answer<OfferReply> answer) {
  loop_.loop().Post([this, request = std::move(request), answer = std::move(answer)]() mutable {
    const uint64_t call = next_call_++;
    offers_[call] = std::move(answer);
    Handle(event::OfferArrived{call, std::move(request)});
  });
}

void Shard::Acquire(AcquireRequest request, Answer<AcquireReply> answer) {
  loop_.loop().Post([this, request = std::move(request), answer = std::move(answer)]() mutable {
    const auto peer = peers_.find(request.session);
    if (!request.match_only && (peer == peers_.end() || peer->second.connection == nullptr)) {
      answer(absl::FailedPreconditionError("acquire: the session has no data connection to this shard; dial one first"));
      return;
    }
    const uint64_t call = next_call_++;
    acquires_[call] = std::move(answer);
    Handle(event::AcquireArrived{call, std::move(request)});
  });
}

void Shard::Touch(TouchRequest request, Answer<TouchReply> answer) {
  loop_.loop().Post([this, request = std::move(request), answer = std::move(answer)]() mutable {
    const uint64_t call = next_call_++;
    touches_[call] = std::move(answer);
    Handle(event::TouchArrived{call, std::move(request)});
  });
}

void Shard::Post(Event event) { Return(std::move(event)); }

void Shard::Look(absl::AnyInvocable<void(const ShardCore&, const Gatherer&)> look) {
  loop_.loop().Post([this, look = std::move(look)]() mutable { look(core_, *gatherer_); });
}

// ---- the step --------------------------------------------------------------------------------------------------------
void Shard::Handle(Event event) {
  if (stopping_) return;
  events_.push_back(std::move(event));
  if (handling_) return;
  handling_ = true;
  std::vector<Action> actions;
  while (!events_.empty()) {
    Event next = std::move(events_.front());
    events_.pop_front();
    actions.clear();
    core_.Step(std::move(next), loop_.loop().Now(), actions);
    for (Action& action : actions) std::visit([this](auto& a) { Carry(a); }, action);
  }
  FlushReady();
  handling_ = false;
  const Instant wanted = core_.NextTick();
  if (wanted < timer_at_) {
    loop_.loop().Cancel(timer_);
    timer_at_ = wanted;
    timer_ = loop_.loop().At(wanted, [this] { Tick(); });
  }
  Publish();
}

void Shard::Tick() {
  timer_at_ = Instant::max();
  timer_ = 0;
  Handle(event::Tick{});
}

// ---- memory ----------------------------------------------------------------------------------------------------------
Shard::Slab* Shard::SlabMemory(uint32_t number) {
  auto& slab = slabs_[number];
  if (slab != nullptr) return slab.get();
  auto memory = SharedMemory::Create(core_.extents().slab_bytes(), "kvasir-slab", options_.pages);
  if (!memory.ok()) {
    options_.log(Severity::kError, "no memory for a slab", {{"shard", options_.core.shard}, {"cause", Text(memory.status())}});
    slabs_.erase(number);
    return nullptr;
  }
  auto made = std::make_unique<Slab>();
  made->memory = *std::move(memory);
  for (const auto& transport : transports_) {
    auto region = transport->Register(made->memory.span());
    if (!region.ok()) {
      options_.log(Severity::kError, "a transport cannot register a slab",
                   {{"transport", transport->capabilities().name}, {"cause", Text(region.status())}});
      slabs_.erase(number);
      return nullptr;
    }
    made->regions.push_back(*std::move(region));
  }
  slab = std::move(made);
  return slab.get();
}

std::span<std::byte> Shard::Bytes(const SlabRange& range) {
  Slab* slab = SlabMemory(range.slab);
  if (slab == nullptr) return {};
  KVASIR_CHECK(range.offset + range.bytes <= slab->memory.bytes(), "a range inside its slab");
  return {slab->memory.data() + range.offset, range.bytes};
}

void Shard::Carry(action::RetireSlab& a) { slabs_.erase(a.slab); }

// ---- bytes in motion -------------------------------------------------------------------------------------------------
void Shard::Carry(action::Pull& a) {
  const auto fail = [&](absl::Status status) { Handle(event::PullDone{a.extent, std::move(status), false}); };
  const auto peer = peers_.find(a.session);
  if (peer == peers_.end() || peer->second.dialled() == nullptr) {
    return fail(absl::FailedPreconditionError("offer: the session has no data connection to this shard; dial one first"));
  }
  const auto span = RemoteSpan::Decode(a.grant);
  if (!span.ok()) return fail(span.status());
  if (span->length != a.to.bytes) return fail(absl::InvalidArgumentError("offer: the grant's length is not the part's"));
  const std::span<std::byte> into = Bytes(a.to);
  if (into.empty()) return fail(absl::ResourceExhaustedError("the node has no memory for a slab"));
  const Piece piece{into, *span};
  const Pulling pulling{a.extent, a.to.bytes, TransportOf(peer->second), a.deadline, loop_.loop().Now()};
  pulls_.Add(pulling.deadline, pulling.extent.generation);
  peer->second.dialled()->Pull(
      {&piece, 1}, a.deadline, [this, pulling](PullResult r) { PullEnded(pulling, std::move(r)); },
      [this, extent = a.extent] { Handle(event::PullReleased{extent}); });
}

/// Index of the transport that a peer's bytes come by.
size_t Shard::TransportOf(const Peer& peer) const {
  if (peer.path == nullptr) return peer.transport;
  for (size_t i = 0; i < transports_.size(); ++i) {
    if (transports_[i].get() == peer.path->transport) return i;
  }
  return 0;
}

void Shard::PullEnded(const Pulling& pulling, PullResult result) {
  Task ended = [this, pulling, result = std::move(result)]() mutable {
    pulls_.Remove(pulling.deadline, pulling.extent.generation);
    if (result.status.ok()) options_.meters->Pulled(pulling.transport, pulling.bytes, loop_.loop().Now() - pulling.begun);
    Handle(event::PullDone{pulling.extent, std::move(result.status), result.quarantined});
  };
  if (!options_.hold) return ended();
  Task post = [this, ended = std::move(ended)]() mutable { loop_.loop().Post(std::move(ended)); };
  if (!options_.hold("pulled", post)) post();
}

void Shard::Carry(action::Verify& a) {
  checks_.Begin();
  Task check = [this, extent = a.extent, bytes = Bytes(a.at), claim = std::move(a.claim), root = std::move(a.root)] {
    auto frames = VerifyAndStamp(bytes, claim, root, extent.generation);
    const uint32_t offset = frames.ok() ? *frames : 0;
    Return("checked", checks_, event::VerifyDone{extent, std::move(frames).status(), offset});
  };
  if (!options_.hold) return options_.workers->Run(std::move(check));
  options_.workers->Run([this, check = std::move(check)]() mutable {
    if (!options_.hold("checking", check)) check();
  });
}

void Shard::Carry(action::Recheck& a) {
  checks_.Begin();
  options_.workers->Run([this, extent = a.extent, bytes = Bytes(a.at), claim = std::move(a.claim)] {
    Return("checked", checks_, event::RecheckDone{extent, VerifyAndStamp(bytes, claim, {}, extent.generation).status()});
  });
}

void Shard::Carry(action::Persist& a) {
  if (ssd_ == nullptr) return Handle(event::PersistDone{a.extent, absl::UnavailableError("the SSD tier is closed")});
  writes_.Begin();
  ssd_->Append(a.meta, Bytes(a.at), /*durable=*/true, [this, extent = a.extent](absl::StatusOr<SsdLocation> location) {
    Return("persisted", writes_, event::PersistDone{extent, std::move(location)});
  });
}

void Shard::Carry(action::Promote& a) {
  const std::span<std::byte> into = Bytes(a.to);
  if (ssd_ == nullptr || into.empty()) {
    return Handle(event::PromoteDone{a.extent, absl::UnavailableError("the SSD tier is closed or no slab could be made")});
  }
  reads_.Begin();
  ssd_->Read(a.from, into, [this, extent = a.extent, into, claim = std::move(a.claim)](absl::Status read) mutable {
    if (!read.ok()) return Return("promoted", reads_, event::PromoteDone{extent, std::move(read)});
    options_.workers->Run([this, extent, into, claim = std::move(claim)] {
      Return("promoted", reads_, event::PromoteDone{extent, VerifyAndStamp(into, claim, {}, extent.generation).status()});
    });
  });
}

void Shard::Carry(action::DropOnSsd& a) {
  if (ssd_ == nullptr) return;
  const std::pair<PartId, SsdLocation> one{a.id, a.location};
  ssd_->Drop({&one, 1});
}

// ---- answers ---------------------------------------------------------------------------------------------------------
void Shard::Carry(action::AnswerOffer& a) { offers_.extract(a.call).mapped()(std::move(a.reply)); }
void Shard::Carry(action::AnswerTouch& a) { touches_.extract(a.call).mapped()(std::move(a.reply)); }

std::string Shard::GrantPart(uint64_t session, uint64_t lease, const action::LeasedPart& part) {
  const auto peer = peers_.find(session);
  if (peer == peers_.end() || peer->second.connection == nullptr) return {};
  const size_t transport = peer->second.transport;
  const RemoteSpan span = SlabMemory(part.at.slab)->regions[transport]->Grant(session, part.at.offset, part.at.bytes);
  grants_[lease].push_back({part.at.slab, transport, span.grant});
  options_.counters->Add(Counter::kGrants);
  return span.Encode();
}

void Shard::Carry(action::AnswerAcquire& a) {
  if (a.reply.ok()) {
    size_t next = 0;
    for (AcquiredBlock& block : a.reply->blocks) {
      for (PartGrant& part : block.parts) {
        const action::LeasedPart& leased = a.parts[next++];
        if (!part.pending) part.grant = GrantPart(a.session, a.reply->lease, leased);
      }
    }
  }
  acquires_.extract(a.call).mapped()(std::move(a.reply));
}

void Shard::Carry(action::PartReady& a) {
  if (a.ready.status.ok()) a.ready.part.grant = GrantPart(a.session, a.lease, a.part);
  if (ready_.empty() || ready_.back().first != a.session || ready_.back().second.lease != a.lease) {
    ready_.push_back({a.session, PartsReady{a.lease, {}}});
  }
  ready_.back().second.parts.push_back(std::move(a.ready));
}

void Shard::FlushReady() {
  for (auto& [session, event] : ready_) options_.notify(session, std::move(event));
  ready_.clear();
}

void Shard::Carry(action::RevokeLease& a) {
  if (a.told) options_.notify(a.session, LeaseRevoked{a.lease, "the lease was not renewed"});
  const auto granted = grants_.extract(a.lease);
  if (!granted) return Handle(event::LeaseQuiet{a.lease});
  auto open = std::make_shared<size_t>(granted.mapped().size());
  for (const Granted& g : granted.mapped()) {
    slabs_.at(g.slab)->regions[g.transport]->Revoke(g.grant, [this, open, lease = a.lease] {
      if (--*open == 0) Handle(event::LeaseQuiet{lease});
    });
  }
}

}  // namespace kvasir
