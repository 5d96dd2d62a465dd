// SPDX-License-Identifier: Apache-2.0
// One batch: Acquire at the holder, Offers to our own core, and what becomes of each block.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "store/gatherer_impl.h"

namespace kvasir {

void Gatherer::Enqueue(std::shared_ptr<Batch> batch, bool urgent) {
  (urgent ? urgent_ : queue_).push_back(std::move(batch));
  Pump();
}

/// Begins what may begin: urgent batches at once, others as the bytes a second allow.
void Gatherer::Pump() {
  if (stopped_ || pump_timer_ != 0) return;
  const Instant now = host_.loop.Now();
  const double burst = std::max<double>(kBatchBytes, static_cast<double>(options_.bytes_per_s) / 4);
  tokens_ = std::min(burst, tokens_ + std::chrono::duration<double>(now - std::exchange(refilled_, now)).count() *
                                          static_cast<double>(options_.bytes_per_s));
  while (under_way_ < kBatchesMax && !(urgent_.empty() && queue_.empty())) {
    std::deque<std::shared_ptr<Batch>>& list = urgent_.empty() ? queue_ : urgent_;
    if (urgent_.empty() && tokens_ < 0) {  // the next may begin when the last has been paid for
      const double wait = std::max(-tokens_ / static_cast<double>(std::max<uint64_t>(options_.bytes_per_s, 1)), 0.001);
      pump_timer_ = host_.loop.After(std::chrono::duration_cast<Duration>(std::chrono::duration<double>(wait)), [this] {
        pump_timer_ = 0;
        Pump();
      });
      return;
    }
    const std::shared_ptr<Batch> batch = std::move(list.front());
    list.pop_front();
    tokens_ -= static_cast<double>(batch->bytes);
    ++under_way_;
    Begin(batch);
  }
}

Gatherer::Asker& Gatherer::AskerOf(const DomainId& domain, const Namespace& ns) {
  std::unique_ptr<Asker>& asker = askers_[{domain, ns.Digest()}];
  if (asker != nullptr) return *asker;
  HelloRequest hello;
  hello.client = absl::StrCat("kvasird/", options_.id);
  hello.tenant = "peers";
  hello.peer = options_.id;
  hello.domain = domain;
  hello.ns = ns;
  asker.reset(new Asker{{.loop = host_.loop,
                         .mailbox = host_.mailbox,
                         .hello = std::move(hello),
                         .transports = options_.transports,
                         .call_deadline = kCallDeadline,
                         .retry_pause = kRetryMin,
                         .dial = [this](const std::string& control) { return options_.dial(control).store; },
                         .transport = host_.transport,
                         .count = [](LinkNews) {},
                         .warn = {}},
                        domain,
                        ns,
                        {}});
  return *asker;
}

NodeLink& Gatherer::LinkOf(Asker& asker, const Member& member) {
  std::unique_ptr<NodeLink>& link = asker.links[absl::StrCat(member.id, "@", member.control)];
  if (link == nullptr) {
    // What the holder says of members and epochs comes to this node by its own source.
    const NodeLink::Hooks hooks{.greeted = [](const HelloReply&) {}, .membership = [](Membership) {},
                                .epoch = [](const std::string&, uint64_t) {}};
    link = std::make_unique<NodeLink>(asker.desk, member.id, member.control, hooks);
  }
  return *link;
}

/// The session of our own core for what comes over `path`. Those whose path went down are closed.
uint64_t Gatherer::SessionOf(Asker& asker, const std::shared_ptr<Path>& path) {
  std::erase_if(sessions_, [this](auto& entry) {
    if (entry.second.first->up()) return false;
    host_.close(entry.second.second);
    return true;
  });
  auto& [held, session] = sessions_[path.get()];
  if (held == nullptr) {
    held = path;
    session = next_session_++;
    host_.open(session, asker.domain, asker.ns, path);
  }
  return session;
}

void Gatherer::Begin(const std::shared_ptr<Batch>& batch) {
  batch->blocks.clear();
  batch->deadline = host_.loop.Now() + kBatchDeadline;
  batch->timer = host_.loop.At(batch->deadline, [this, batch] {
    batch->timer = 0;
    End(batch, absl::DeadlineExceededError("the batch took too long"));
  });
  Asker& asker = AskerOf(batch->domain, batch->ns);
  NodeLink& link = LinkOf(asker, batch->member);
  link.PathTo(batch->shard, [this, batch, &asker](absl::StatusOr<std::shared_ptr<Path>> path) {
    if (batch->done || stopped_) return;
    if (!path.ok()) return End(batch, path.status());
    batch->path = *path;
    batch->session = SessionOf(asker, *path);
    Acquire(batch);
  });
}

void Gatherer::Acquire(const std::shared_ptr<Batch>& batch) {
  AcquireRequest request;  // epoch 0: whatever state the holder is in
  request.runs = batch->runs;
  request.accept = batch->accept;
  request.layers = batch->ns.layout.layers;
  request.heads = batch->ns.layout.kv_heads;
  request.deadline = std::chrono::duration_cast<Duration>(batch->deadline - host_.loop.Now());
  batch->path->link->Acquire(batch->path, std::move(request), host_.loop.Now() + kCallDeadline,
                             [this, batch](absl::StatusOr<AcquireReply> reply) {
                               if (batch->done || stopped_) {
                                 if (reply.ok() && reply->lease != 0 && batch->path->up()) {
                                   batch->path->link->Release(batch->shard, reply->lease);
                                 }
                                 return;
                               }
                               if (!reply.ok()) return End(batch, reply.status());
                               auto taken = std::make_shared<AcquireReply>(*std::move(reply));
                               if (taken->lease == 0) return End(batch, absl::NotFoundError("nothing of it is held there now"));
                               // Now, not when the views are known: cold parts may be told at once, and are told once.
                               batch->lease = std::make_shared<Lease>(AskerOf(batch->domain, batch->ns).desk, batch->path, taken->lease, taken->lease_for);
                               batch->lease->Begin([this, batch](const WatchEvent& event) {
                                 if (batch->taken) return OnLease(batch, event);
                                 batch->early.push_back(event);
                               });
                               host_.learn(batch->domain, batch->ns, taken->views, [this, batch, taken](const absl::Status& known) {
                                 if (batch->done || stopped_) return;
                                 if (!known.ok()) return End(batch, known);
                                 Take(batch, *taken);
                               });
                             });
}

void Gatherer::Take(const std::shared_ptr<Batch>& batch, AcquireReply& reply) {
  batch->views = reply.views;
  std::vector<std::pair<uint32_t, PartGrant>> here;
  size_t next = 0;
  for (size_t r = 0; r < batch->runs.size() && r < reply.held.size(); ++r) {
    const AcquiredRun& run = batch->runs[r];
    for (uint32_t i = 0; i < std::min<size_t>(reply.held[r], run.keys.size()) && next < reply.blocks.size(); ++i) {
      AcquiredBlock& got = reply.blocks[next++];
      if (got.view >= reply.views.size() || got.block_index != run.first_block + i) return End(batch, absl::DataLossError("an answer that does not name the blocks it claims"));
      const auto index = static_cast<uint32_t>(batch->blocks.size());
      batch->blocks.push_back({{.key = run.keys[i], .parent = got.parent, .block_index = got.block_index,
                                .token_count = got.token_count, .run = run.run, .replicas = std::max(1u, got.replicas)},
                               got.view, static_cast<uint32_t>(got.parts.size()), false});
      batch->open += static_cast<uint32_t>(got.parts.size());
      for (PartGrant& part : got.parts) {
        if (part.pending) {
          batch->pending[{run.keys[i], part.layer_group, part.head_group, part.plane}] = index;
        } else {
          here.emplace_back(index, std::move(part));
        }
      }
    }
  }
  batch->taken = true;
  OfferParts(batch, here);
  for (const WatchEvent& event : std::exchange(batch->early, {})) OnLease(batch, event);
  if (!batch->done && batch->open == 0) End(batch, absl::OkStatus());
}

/// Cold parts as the holder brings them from its disk.
void Gatherer::OnLease(const std::shared_ptr<Batch>& batch, const WatchEvent& event) {
  if (batch->done || stopped_) return;
  const auto* ready = std::get_if<PartsReady>(&event);
  if (ready == nullptr) return End(batch, absl::UnavailableError("the lease ended"));
  std::vector<std::pair<uint32_t, PartGrant>> here;
  for (const PartsReady::Ready& part : ready->parts) {
    const auto at = batch->pending.find({part.key, part.part.layer_group, part.part.head_group, part.part.plane});
    if (at == batch->pending.end()) continue;
    const uint32_t block = at->second;
    batch->pending.erase(at);
    if (part.status.ok()) {
      here.emplace_back(block, part.part);
      continue;
    }
    if (part.part.plane == 0) batch->blocks[block].failed = true;
    --batch->blocks[block].open;
    --batch->open;
  }
  OfferParts(batch, here);
  if (!batch->done && batch->open == 0) End(batch, absl::OkStatus());
}

void Gatherer::OfferParts(const std::shared_ptr<Batch>& batch, const std::vector<std::pair<uint32_t, PartGrant>>& parts) {
  for (size_t first = 0; first < parts.size() && !batch->done; first += kPartsPerOfferMax) {
    const size_t end = std::min(parts.size(), first + kPartsPerOfferMax);
    OfferRequest request;
    request.session = batch->session;
    request.ack = batch->durable ? Ack::kDurable : Ack::kVolatile;
    request.views = batch->views;
    request.deadline = std::chrono::duration_cast<Duration>(batch->deadline - host_.loop.Now());
    std::map<uint32_t, uint32_t> numbers;  // of the batch's blocks in this request
    std::vector<std::pair<uint32_t, uint16_t>> blocks;  // block and plane of each part
    uint64_t bytes = 0;
    for (size_t i = first; i < end; ++i) {
      const auto& [block, part] = parts[i];
      const auto [number, made] = numbers.try_emplace(block, static_cast<uint32_t>(request.blocks.size()));
      if (made) request.blocks.push_back(batch->blocks[block].offered);
      request.parts.push_back({number->second, batch->blocks[block].view, part.layer_group, part.head_group, part.bytes,
                               "", part.grant, part.generation, part.plane});
      blocks.emplace_back(block, part.plane);
      bytes += part.bytes;
    }
    host_.offer(std::move(request), [this, batch, blocks = std::move(blocks), bytes](absl::StatusOr<OfferReply> reply) {
      if (batch->done || stopped_) return;
      for (size_t i = 0; i < blocks.size(); ++i) {
        Batch::Block& block = batch->blocks[blocks[i].first];
        const absl::Status status = !reply.ok() ? reply.status() : i < reply->parts.size() ? reply->parts[i] : absl::InternalError("no answer");
        // Without an upper plane the block is held all the same.
        if (!status.ok() && !absl::IsAlreadyExists(status) && blocks[i].second == 0) block.failed = true;
        --block.open;
        --batch->open;
      }
      host_.counters.Add(Counter::kGatheredBytes, bytes);
      if (batch->open == 0) End(batch, absl::OkStatus());
    });
  }
}

/// A connection that broke, a node that was silent: the blocks are still wanted.
bool Gatherer::Again(const std::shared_ptr<Batch>& batch, const absl::Status& status) {
  if (status.ok() || absl::IsNotFound(status) || batch->source == nullptr || !batch->source->current) return false;
  if (++batch->tries >= kBatchTries) return false;
  auto again = std::make_shared<Batch>();
  again->member = batch->member;
  again->shard = batch->shard;
  again->domain = batch->domain;
  again->ns = batch->ns;
  again->accept = batch->accept;
  again->runs = batch->runs;
  again->durable = batch->durable;
  again->bytes = batch->bytes;
  again->new_runs = batch->new_runs;
  again->tries = batch->tries;
  again->source = batch->source;
  host_.loop.After(kBatchPause * again->tries, [this, again] {
    if (stopped_ || !again->source->current) return;
    Enqueue(again, false);
  });
  return true;
}

/// What a batch did not bring in all its tries is not asked for before the next change: absence is legal.
void Gatherer::End(const std::shared_ptr<Batch>& batch, const absl::Status& status) {
  if (std::exchange(batch->done, true)) return;
  host_.loop.Cancel(std::exchange(batch->timer, 0));
  if (batch->lease != nullptr) batch->lease->End();
  --under_way_;
  if (Again(batch, status)) return Pump();
  uint32_t came = 0;
  for (const Batch::Block& block : batch->blocks) came += block.open == 0 && !block.failed ? 1 : 0;
  size_t asked = 0;
  for (const AcquiredRun& run : batch->runs) asked += run.keys.size();
  host_.counters.Add(Counter::kGatheredBlocks, came);
  host_.counters.Add(Counter::kGatherFailed, asked - std::min<size_t>(asked, came));
  if (!status.ok() && batch->source != nullptr) {
    host_.log(Severity::kInfo, "gather: not all blocks came",
              {{"node", batch->member.id}, {"came", came}, {"asked", asked}, {"cause", std::string(status.message())}});
  }
  if (batch->source != nullptr) {
    batch->source->got_bytes += batch->bytes;
    batch->source->got_runs += batch->new_runs;
    --batch->source->batches;
    Advance(batch->source);
  }
  if (batch->ended) batch->ended(came);
  Pump();
}

}  // namespace kvasir
