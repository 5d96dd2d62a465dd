// SPDX-License-Identifier: Apache-2.0
// The calls of a FakeStore.
#include "tests/client/fake_store.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/check.h"

namespace kvasir::testing {

struct FakeStore::Ear {
  Mutex mutex;
  OnEvent event ABSL_GUARDED_BY(mutex);
  OnEnd end ABSL_GUARDED_BY(mutex);
};

struct FakeStore::OfferUnderWay {
  OfferRequest request;
  Answer<OfferReply> answer;
  OfferReply reply;
  size_t left = 0;
};

FakeStore::FakeStore(Options options) : options_(std::move(options)), thread_("fake-store") {
  thread_.Call([this] {
    memory_ = *SharedMemory::Create(options_.memory_bytes, "fake-store");
    transport_ = *MakeTransport(options_.transport, thread_.loop(), TransportOptions{});
    region_ = *transport_->Register(memory_.span());
    Acceptor acceptor;
    acceptor.judge = [this](std::string_view credentials) -> absl::StatusOr<uint64_t> {
      const uint64_t session = std::strtoull(std::string(credentials).c_str(), nullptr, 10);
      if (dead_ || !sessions_.contains(session)) return absl::PermissionDeniedError("no such session");
      return session;
    };
    acceptor.accepted = [this](std::unique_ptr<Connection> connection) {
      const uint64_t session = connection->scope();
      connections_[session] = std::move(connection);
    };
    address_ = *transport_->Listen(options_.transport == "tcp" ? "127.0.0.1:0" : "", std::move(acceptor));
  });
}

FakeStore::~FakeStore() {
  thread_.Call([this] { connections_.clear(); });
  thread_.Call([this] { transport_.reset(); });
  thread_.Call([this] { region_.reset(); });
}

void FakeStore::Hello(HelloRequest request, Duration, Answer<HelloReply> answer) {
  thread_.loop().Post([this, request = std::move(request), answer = std::move(answer)]() mutable {
    ++seen_.hellos;
    if (dead_) return answer(absl::UnavailableError("connection refused"));
    if (silent_) return swallowed_.push_back([a = std::move(answer)] {});
    if (options_.only && options_.only->Digest() != request.ns.Digest()) {
      return answer(absl::FailedPreconditionError(Namespace::FirstDifference(*options_.only, request.ns)));
    }
    HelloReply reply;
    reply.session = next_session_++;
    sessions_[reply.session] = request.ns;
    reply.credentials = absl::StrCat(reply.session);
    reply.node_id = options_.id;
    reply.incarnation = transport_->incarnation();
    reply.data = {{.shard = 0, .transport = options_.transport, .address = address_}};
    reply.membership = options_.membership;
    reply.run_blocks = options_.run_blocks;
    reply.session_ttl = options_.session_ttl;
    reply.lease = options_.lease;
    answer(std::move(reply));
  });
}

absl::Status FakeStore::Check(uint64_t session) const {
  if (dead_) return absl::UnavailableError("connection reset");
  if (!sessions_.contains(session)) return absl::AbortedError("no such session");
  return absl::OkStatus();
}

void FakeStore::Offer(OfferRequest request, Duration, Answer<OfferReply> answer) {
  thread_.loop().Post([this, request = std::move(request), answer = std::move(answer)]() mutable {
    ++seen_.offers;
    seen_.parts_offered += request.parts.size();
    if (absl::Status status = Check(request.session); !status.ok()) return answer(status);
    auto offer = std::make_shared<OfferUnderWay>();
    offer->request = std::move(request);
    offer->answer = std::move(answer);
    if (silent_) return swallowed_.push_back([offer] {});
    if (hold_offers_) return held_.push_back(offer);
    StartOffer(offer);
  });
}

void FakeStore::StartOffer(const std::shared_ptr<OfferUnderWay>& offer) {
  offer->left = offer->request.parts.size();
  offer->reply.parts.resize(offer->left);
  for (size_t i = 0; i < offer->request.parts.size(); ++i) PullPart(offer, i);
}

void FakeStore::PullPart(const std::shared_ptr<OfferUnderWay>& offer, size_t index) {
  const OfferedPart& part = offer->request.parts[index];
  const BlockKey& key = offer->request.blocks[part.block].key;
  const PartId id{key, offer->request.views[part.view].Digest(), part.layer_group, part.head_group, part.plane};
  auto settle = [this, offer, index](absl::Status status) {
    offer->reply.parts[index] = std::move(status);
    if (--offer->left == 0) offer->answer(std::move(offer->reply));
  };
  if (!refuse_.ok()) return settle(absl::Status(refuse_.code(), refuse_.message()));  // no rep is shared between threads
  if (blocks_[key].parts.contains(id)) return settle(absl::AlreadyExistsError("sealed by another"));
  auto connection = connections_.find(offer->request.session);
  if (connection == connections_.end()) return settle(absl::UnavailableError("no data connection"));
  if (used_ + part.bytes > memory_.bytes()) return settle(absl::ResourceExhaustedError("the fake is full"));
  const uint64_t at = used_;
  used_ = (used_ + part.bytes + 63) / 64 * 64;
  const Piece piece{{memory_.data() + at, part.bytes}, *RemoteSpan::Decode(part.grant)};
  connection->second->Pull({&piece, 1}, thread_.loop().Now() + std::chrono::seconds(30),
                           [this, offer, index, at, settle](PullResult result) {
                             settle(result.status.ok() ? Seal(*offer, index, at) : result.status);
                           });
}

/// What landed is checked as a store would.
absl::Status FakeStore::Seal(const OfferUnderWay& offer, size_t index, uint64_t at) {
  const OfferedPart& part = offer.request.parts[index];
  const OfferedBlock& block = offer.request.blocks[part.block];
  const View& view = offer.request.views[part.view];
  const PartId id{block.key, view.Digest(), part.layer_group, part.head_group, part.plane};
  const std::span<std::byte> bytes{memory_.data() + at, part.bytes};
  const absl::StatusOr<PartFrame> frame =
      ParsePart(bytes, {.id = id, .ns = sessions_[offer.request.session].Digest(), .generation = 0});
  if (!frame.ok()) return frame.status();
  if (absl::Status status = CheckFrames(bytes, *frame); !status.ok()) return status;
  if (std::memcmp(part.root.data(), frame->header.root, 16) != 0) return absl::DataLossError("root");
  BlockOf& stored = blocks_[block.key];
  if (stored.parts.contains(id)) return absl::AlreadyExistsError("sealed by another meanwhile");
  StampGeneration(bytes, ++generation_);
  stored.views[id.view] = view;
  stored.parts[id] = {at, part.bytes, generation_, static_cast<uint32_t>(frame->frames_offset)};
  ++seen_.parts;
  return absl::OkStatus();
}

void FakeStore::Acquire(AcquireRequest request, Duration, Answer<AcquireReply> answer) {
  thread_.loop().Post([this, request = std::move(request), answer = std::move(answer)]() mutable {
    ++seen_.acquires;
    if (absl::Status status = Check(request.session); !status.ok()) return answer(status);
    if (silent_) return swallowed_.push_back([a = std::move(answer)] {});
    AcquireReply reply = AnswerAcquire(request);
    if (events_first_) {
      for (const PendingPart& part : std::exchange(pending_, {})) Ready(part);
    }
    answer(std::move(reply));
    if (!std::exchange(stop_after_acquire_, false)) return;
    MutexLock lock(stand_mutex_);
    while (stands_) stand_changed_.Wait(stand_mutex_);
  });
}

AcquireReply FakeStore::AnswerAcquire(const AcquireRequest& request) {
  AcquireReply reply;
  const uint64_t lease = next_lease_++;
  for (const AcquiredRun& run : request.runs) {
    uint32_t held = 0;
    while (held < run.keys.size() && TakeBlock(request, run.first_block + held, run.keys[held], lease, reply)) ++held;
    reply.held.push_back(held);
  }
  if (!reply.blocks.empty()) {
    reply.lease = lease;
    reply.lease_for = options_.lease;
    leases_.insert(lease);
  }
  return reply;
}

const View* FakeStore::Choose(const AcquireRequest& request, const BlockOf& block) const {
  for (const std::string& wish : request.accept) {
    for (const auto& [digest, view] : block.views) {
      if (!(wish == "any" && view.selection.empty()) && !ignore_accept_ && !(wish == "lossless" ? view.lossless && view.selection.empty() : wish == view.Name())) continue;
      bool whole = true;
      for (uint32_t l = request.first_layer; whole && l < request.first_layer + request.layers; ++l) {
        for (uint32_t h = request.first_head; whole && h < request.first_head + request.heads; ++h) {
          PartId id = block.parts.begin()->first;
          id.view = digest;
          id.layer_group = static_cast<uint16_t>(l / view.layers_per_part);
          id.head_group = static_cast<uint16_t>(h / view.heads_per_part);
          id.plane = 0;
          whole = block.parts.contains(id);
        }
      }
      if (whole) return &view;
    }
  }
  return nullptr;
}

bool FakeStore::TakeBlock(const AcquireRequest& request, uint32_t index, const BlockKey& key, uint64_t lease, AcquireReply& reply) {
  auto found = blocks_.find(key);
  const View* view = found == blocks_.end() || found->second.parts.empty() ? nullptr : Choose(request, found->second);
  if (view == nullptr) return false;
  if (request.match_only) return true;
  AcquiredBlock block{.block_index = index, .token_count = sessions_[request.session].block_tokens, .view = 0, .parts = {}};
  block.view = static_cast<uint32_t>(std::find(reply.views.begin(), reply.views.end(), *view) - reply.views.begin());
  if (block.view == reply.views.size()) reply.views.push_back(*view);
  const uint32_t last_layer = (request.first_layer + request.layers - 1) / view->layers_per_part;
  const uint32_t last_head = (request.first_head + request.heads - 1) / view->heads_per_part;
  for (uint32_t l = request.first_layer / view->layers_per_part; l <= last_layer; ++l) {
    for (uint32_t h = request.first_head / view->heads_per_part; h <= last_head; ++h) {
      PartId id{key, view->Digest(), static_cast<uint16_t>(l), static_cast<uint16_t>(h)};
      for (; found->second.parts.contains(id) && (request.planes == 0 || id.plane < request.planes); ++id.plane) {
        if (l >= hold_layers_from_) {
          pending_.push_back({request.session, lease, index, id});
          block.parts.push_back({.layer_group = id.layer_group,
                                 .head_group = id.head_group,
                                 .pending = true,
                                 .grant = "",
                                 .plane = id.plane});
        } else {
          block.parts.push_back(Grant(request.session, id, found->second.parts[id]));
        }
      }
    }
  }
  reply.blocks.push_back(std::move(block));
  return true;
}

PartGrant FakeStore::Grant(uint64_t session, const PartId& id, const Stored& stored) {
  return {.layer_group = id.layer_group,
          .head_group = id.head_group,
          .pending = false,
          .bytes = stored.bytes,
          .generation = stored.generation,
          .frames_offset = stored.frames_offset,
          .grant = region_->Grant(session, stored.offset, stored.bytes).Encode(),
          .plane = id.plane};
}

void FakeStore::Touch(TouchRequest request, Duration, Answer<TouchReply> answer) {
  thread_.loop().Post([this, request = std::move(request), answer = std::move(answer)]() mutable {
    ++seen_.touches;
    if (absl::Status status = Check(request.session); !status.ok()) return answer(status);
    if (silent_) return swallowed_.push_back([a = std::move(answer)] {});
    TouchReply reply;
    seen_.renews += request.renew.size();
    seen_.keeps += request.keep.size();
    seen_.drops += request.drop.size();
    for (const uint64_t lease : request.renew) {
      if (!leases_.contains(lease)) reply.gone.push_back(lease);
    }
    for (const uint64_t lease : request.release) seen_.releases += leases_.erase(lease);
    answer(std::move(reply));
  });
}

void FakeStore::Object(ObjectRequest request, Duration, Answer<ObjectReply> answer) {
  thread_.loop().Post([this, request = std::move(request), answer = std::move(answer)]() mutable {
    if (absl::Status status = Check(request.session); !status.ok()) return answer(status);
    if (silent_) return swallowed_.push_back([a = std::move(answer)] {});
    if (!request.put) {
      const auto found = objects_.find(request.name);
      if (found == objects_.end()) return answer(absl::NotFoundError(absl::StrCat("object '", request.name, "'")));
      return answer(found->second);
    }
    const auto there = objects_.find(request.name);
    const uint64_t version = there == objects_.end() ? 0 : there->second.version;
    const bool deletes = request.value.empty();
    if (request.version != version && !(deletes && request.version == kObjectAnyVersion)) {
      return answer(absl::AbortedError("another version"));
    }
    if (deletes) {
      if (there != objects_.end()) objects_.erase(there);
      return answer(ObjectReply{});
    }
    objects_[request.name] = {version + 1, std::move(request.value)};
    answer(ObjectReply{version + 1, ""});
  });
}

std::unique_ptr<StoreApi::Watcher> FakeStore::Watch(uint64_t session, OnEvent event, OnEnd end) {
  struct Handle : Watcher {
    explicit Handle(std::shared_ptr<Ear> e) : ear(std::move(e)) {}
    ~Handle() override {
      MutexLock lock(ear->mutex);
      ear->event = nullptr;
      ear->end = nullptr;
    }
    std::shared_ptr<Ear> ear;
  };
  auto ear = std::make_shared<Ear>();
  {
    MutexLock lock(ear->mutex);
    ear->event = std::move(event);
    ear->end = std::move(end);
  }
  MutexLock lock(ears_mutex_);
  ears_[session] = ear;
  return std::make_unique<Handle>(std::move(ear));
}

void FakeStore::Tell(uint64_t session, WatchEvent event) {
  std::shared_ptr<Ear> ear;
  {
    MutexLock lock(ears_mutex_);
    ear = ears_[session];
  }
  if (!ear) return;
  MutexLock lock(ear->mutex);
  if (ear->event) ear->event(std::move(event));
}

void FakeStore::Ready(const PendingPart& part) {
  PartsReady event{.lease = part.lease, .parts = {}};
  const auto& parts = blocks_[part.id.key].parts;
  const auto at = parts.find(part.id);
  PartsReady::Ready& ready = event.parts.emplace_back();
  ready.block_index = part.block_index;
  if (at != parts.end()) {
    ready.part = Grant(part.session, part.id, at->second);
  } else {
    ready.part = {
        .layer_group = part.id.layer_group, .head_group = part.id.head_group, .grant = "", .plane = part.id.plane};
    ready.status = absl::NotFoundError("the part left the store");
  }
  Tell(part.session, std::move(event));
}

void FakeStore::Kill() {
  Do([this] {
    dead_ = true;
    connections_.clear();
    sessions_.clear();
    std::map<uint64_t, std::shared_ptr<Ear>> ears;
    {
      MutexLock lock(ears_mutex_);
      ears = std::exchange(ears_, {});
    }
    for (auto& [session, ear] : ears) {
      MutexLock lock(ear->mutex);
      if (ear->end) std::exchange(ear->end, nullptr)(absl::UnavailableError("killed"));
    }
  });
}

void FakeStore::Revive() {
  Do([this] { dead_ = false; });
}

void FakeStore::Silence(bool silent) {
  Do([this, silent] { silent_ = silent; });
}

void FakeStore::StopAfterAcquire() {
  Do([this] {
    stop_after_acquire_ = true;
    MutexLock lock(stand_mutex_);
    stands_ = true;
  });
}

void FakeStore::Go() {
  MutexLock lock(stand_mutex_);
  stands_ = false;
  stand_changed_.NotifyAll();
}

void FakeStore::ForgetSessions() {
  Do([this] {
    sessions_.clear();
    leases_.clear();
  });
}

void FakeStore::HoldOffers(bool hold) {
  Do([this, hold] {
    hold_offers_ = hold;
    if (hold) return;
    for (const auto& offer : std::exchange(held_, {})) StartOffer(offer);
  });
}

void FakeStore::RefuseOffers(absl::Status status) {
  Do([this, status] { refuse_ = status; });
}

void FakeStore::HoldLayersFrom(uint32_t group) {
  Do([this, group] { hold_layers_from_ = group; });
}

void FakeStore::MakeReady(uint32_t layer_group) {
  Do([this, layer_group] {
    for (const PendingPart& part : pending_) {
      if (part.id.layer_group == layer_group) Ready(part);
    }
    std::erase_if(pending_, [layer_group](const PendingPart& part) { return part.id.layer_group == layer_group; });
  });
}

void FakeStore::EventsFirst(bool first) {
  Do([this, first] { events_first_ = first; });
}

void FakeStore::IgnoreAccept(bool ignore) {
  Do([this, ignore] { ignore_accept_ = ignore; });
}

void FakeStore::RevokeLeases() {
  Do([this] {
    for (const uint64_t lease : std::exchange(leases_, {})) {
      for (const auto& [session, ns] : sessions_) Tell(session, LeaseRevoked{.lease = lease, .reason = "the test says so"});
    }
  });
}

void FakeStore::Announce(const Membership& membership) {
  Do([this, membership] {
    for (const auto& [session, ns] : sessions_) Tell(session, MembershipChanged{membership});
  });
}

void FakeStore::ForEachPart(const std::function<void(const PartId&, std::span<std::byte>)>& damage) {
  Do([this, &damage] {
    for (auto& [key, block] : blocks_) {
      for (auto& [id, stored] : block.parts) damage(id, {memory_.data() + stored.offset, stored.bytes});
    }
  });
}

void FakeStore::ForEachObject(const std::function<void(const std::string& name, std::string& value)>& damage) {
  Do([this, &damage] {
    for (auto& [name, object] : objects_) damage(name, object.value);
  });
}

void FakeStore::DropParts(const std::function<bool(const PartId&)>& drop) {
  Do([this, &drop] {
    for (auto& [key, block] : blocks_) {
      std::erase_if(block.parts, [&](const auto& part) { return drop(part.first); });
    }
  });
}

FakeStore::Seen FakeStore::seen() {
  Seen seen;
  Do([this, &seen] {
    seen = seen_;
    seen.offers_held = held_.size();
    seen.leases = leases_.size();
  });
  return seen;
}

}  // namespace kvasir::testing
