// SPDX-License-Identifier: Apache-2.0
// Whom a Gatherer asks for what. How the bytes come is in gatherer_batch.cc.
#include "store/gatherer.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "store/gatherer_impl.h"

namespace kvasir {

Gatherer::Gatherer(GathererOptions options, GathererHost host)
    : options_(std::move(options)), host_(std::move(host)), next_session_((uint64_t{std::random_device()()} << 32) | 1) {}

Gatherer::~Gatherer() { Stop(); }

void Gatherer::Stop() {
  if (std::exchange(stopped_, true)) return;
  host_.loop.Cancel(std::exchange(pump_timer_, 0));
  for (auto& [where, source] : sources_) {
    source->current = false;
    host_.loop.Cancel(source->timer);
  }
  sources_.clear();
  for (auto* list : {&urgent_, &queue_}) list->clear();
  const absl::Status why = absl::AbortedError("the node is shutting down");
  for (auto& [about, asker] : askers_) {
    for (auto& [where, link] : asker->links) link->Drop(why);
  }
  for (auto& [path, session] : std::exchange(sessions_, {})) host_.close(session.second);
}

void Gatherer::Adopt(const Membership& membership) {
  if (stopped_) return;
  membership_ = membership;
  settled_ = false;
  for (auto& [where, source] : sources_) {
    source->current = false;
    host_.loop.Cancel(source->timer);
  }
  sources_.clear();
  std::erase_if(queue_, [](const std::shared_ptr<Batch>& batch) { return batch->source != nullptr; });
  if (options_.dial) {
    for (const Member& member : membership_.members) {
      for (uint32_t shard = 0; member.id != options_.id && shard < member.shards; ++shard) {
        auto source = std::make_shared<Source>();
        source->member = member;
        source->shard = shard;
        sources_[{member.id, shard}] = source;
      }
    }
  }
  const auto all = sources_;  // LookSettled may be reached from inside
  for (const auto& [where, source] : all) Ask(source);
  LookSettled();
}

std::shared_ptr<PeerApi> Gatherer::PeerOf(const Member& member) {
  std::shared_ptr<PeerApi>& peer = peers_[member.control];
  if (peer == nullptr) peer = options_.dial(member.control).peer;
  return peer;
}

void Gatherer::Ask(const std::shared_ptr<Source>& source) {
  const std::shared_ptr<PeerApi> peer = PeerOf(source->member);
  if (peer == nullptr) return Retry(source, absl::UnavailableError("nothing can be dialled at " + source->member.control));
  source->asking = true;
  host_.counters.Add(Counter::kInventories);
  InventoryRequest request;
  request.from = options_.id;
  request.epoch = membership_.epoch;
  request.shard = source->shard;
  request.for_shard = options_.shard;
  request.after = source->cursor;
  request.limit = kRunsPerPage;
  request.wanted_bytes = source->wanted_bytes;
  request.got_bytes = source->got_bytes;
  Call<InventoryRequest, InventoryReply>(host_.mailbox, host_.loop, *peer, &PeerApi::Inventory, std::move(request),
                                         host_.loop.Now() + kCallDeadline,
                                         [this, source, peer](absl::StatusOr<InventoryReply> reply) {
                                           source->asking = false;
                                           if (source->current && !stopped_) Answered(source, std::move(reply));
                                         });
}

void Gatherer::Answered(const std::shared_ptr<Source>& source, absl::StatusOr<InventoryReply> reply) {
  if (!reply.ok()) return Retry(source, reply.status());
  source->failing_since = {};
  source->pause = kRetryMin;
  source->silent = false;
  source->cursor = reply->next;
  source->listed = reply->next.empty();
  TakePage(*source, *reply);
  Advance(source);
}

/// Another epoch than ours over there says that one of us will soon hear of a change: that is no silence.
void Gatherer::Retry(const std::shared_ptr<Source>& source, const absl::Status& why) {
  const Instant now = host_.loop.Now();
  const bool other_epoch = CurrentEpochOf(why).has_value();
  if (other_epoch || source->failing_since == Instant{}) source->failing_since = now;
  if (!other_epoch) peers_.erase(source->member.control);  // it may have begun anew: dialled again
  if (!source->silent && !other_epoch && now - source->failing_since >= kSilentAfter) {
    source->silent = true;
    host_.log(Severity::kWarning, "gather: a node does not say what it holds, and is not waited for",
              {{"node", source->member.id}, {"cause", std::string(why.message())}});
  }
  source->timer = host_.loop.After(source->pause, [this, source] {
    source->timer = 0;
    if (source->current && !stopped_) Ask(source);
  });
  source->pause = other_epoch ? kRetryMin : std::min(source->pause * 2, kRetryMax);
  LookSettled();
}

/// What is not held becomes batches: alike in domain, namespace, view and durability, a run's blocks in a row.
void Gatherer::TakePage(Source& source, InventoryReply& reply) {
  std::vector<ViewDigest> digests;
  for (const View& view : reply.views) digests.push_back(view.Digest());
  std::map<std::tuple<uint32_t, uint32_t, uint32_t, bool>, std::shared_ptr<Batch>> open;
  const auto self = sources_.at({source.member.id, source.shard});
  BlockKey last_run;
  for (const InventoryBlock& block : reply.blocks) {
    if (host_.holds(block, reply.domains[block.domain], digests[block.view])) continue;
    auto& batch = open[{block.domain, block.ns, block.view, block.durable}];
    if (batch != nullptr && (batch->bytes >= kBatchBytes || batch->blocks.size() >= kBatchBlocks)) Enqueue(std::exchange(batch, nullptr), false);
    if (batch == nullptr) {
      batch = std::make_shared<Batch>();
      batch->member = source.member;
      batch->shard = source.shard;
      batch->domain = reply.domains[block.domain];
      batch->ns = reply.namespaces[block.ns];
      batch->accept = {ExactView(digests[block.view])};
      batch->durable = block.durable;
      batch->source = self;
      ++source.batches;
    }
    const bool follows = !batch->runs.empty() && batch->runs.back().run == block.run &&
                         batch->runs.back().first_block + batch->runs.back().keys.size() == block.block_index;
    if (!follows) batch->runs.push_back({block.block_index, {}, block.run});
    batch->runs.back().keys.push_back(block.key);
    batch->blocks.emplace_back();  // counts; the answer fills them
    batch->bytes += block.bytes;
    source.wanted_bytes += block.bytes;
    if (std::exchange(last_run, block.run) == block.run) continue;
    ++batch->new_runs;
    ++source.wanted_runs;
  }
  for (auto& [about, batch] : open) {
    if (batch != nullptr) Enqueue(std::move(batch), false);
  }
}

/// The next page when this one's batches are through.
void Gatherer::Advance(const std::shared_ptr<Source>& source) {
  if (!source->current || stopped_) return;
  if (source->batches == 0 && !source->listed && !source->asking && source->timer == 0) return Ask(source);
  if (source->finished() && settled_ && !source->told) TellDone(source);  // it had been silent
  LookSettled();
}

void Gatherer::LookSettled() {
  if (settled_ || stopped_) return;
  for (const auto& [where, source] : sources_) {
    if (!source->finished() && !source->silent) return;
  }
  settled_ = true;
  for (const auto& [where, source] : sources_) {
    if (source->finished()) TellDone(source);
  }
  host_.settled(membership_.epoch);
}

/// Until it is heard: who hands over waits for it.
void Gatherer::TellDone(const std::shared_ptr<Source>& source) {
  source->told = true;
  const auto again = [this, source] {
    source->timer = host_.loop.After(source->pause, [this, source] {
      source->timer = 0;
      if (source->current && !stopped_) TellDone(source);
    });
    source->pause = std::min(source->pause * 2, kRetryMax);
  };
  const std::shared_ptr<PeerApi> peer = PeerOf(source->member);
  if (peer == nullptr) return again();
  InventoryRequest request;
  request.from = options_.id;
  request.epoch = membership_.epoch;
  request.shard = source->shard;
  request.for_shard = options_.shard;
  request.done = true;
  request.wanted_bytes = source->wanted_bytes;
  request.got_bytes = source->got_bytes;
  Call<InventoryRequest, InventoryReply>(host_.mailbox, host_.loop, *peer, &PeerApi::Inventory, std::move(request),
                                         host_.loop.Now() + kCallDeadline,
                                         [this, source, peer, again](const absl::StatusOr<InventoryReply>& reply) {
                                           if (reply.ok() || !source->current || stopped_) return;
                                           if (!CurrentEpochOf(reply.status()).has_value()) peers_.erase(source->member.control);
                                           again();
                                         });
}

MoveStatus Gatherer::status() const {
  MoveStatus status;
  for (const auto& [where, source] : sources_) {
    status.bytes_total += source->wanted_bytes;
    status.bytes_done += source->got_bytes;
    status.runs_total += source->wanted_runs;
    status.runs_done += source->got_runs;
  }
  status.epoch = membership_.epoch;
  status.settled = settled_;
  return status;
}

// ---- what readers and peers ask for ----------------------------------------------------------------------------------
void Gatherer::Want(action::Missed missed) {
  if (stopped_ || !options_.dial || wanted_.size() >= kWantsMax) return;
  if (!wanted_.insert({missed.domain, missed.run}).second) return;  // single flight
  auto wanted = std::make_shared<Wanted>();
  for (const Placed& placed : PlaceForReading(missed.run, membership_, kReplicasMax)) {
    if (membership_.members[placed.member].id != options_.id) wanted->owners.push_back(placed);
  }
  wanted->missed = std::move(missed);
  NextOwner(std::move(wanted));
}

void Gatherer::NextOwner(std::shared_ptr<Wanted> wanted) {
  if (wanted->next == wanted->owners.size() || stopped_) {
    wanted_.erase({wanted->missed.domain, wanted->missed.run});
    return host_.counters.Add(wanted->filled ? Counter::kFills : Counter::kFillsEmpty);
  }
  const Placed placed = wanted->owners[wanted->next++];
  if (placed.member >= membership_.members.size()) return NextOwner(std::move(wanted));  // the membership changed meanwhile
  auto batch = std::make_shared<Batch>();
  batch->member = membership_.members[placed.member];
  batch->shard = placed.shard;
  batch->domain = wanted->missed.domain;
  batch->ns = wanted->missed.ns;
  batch->accept = {"lossless", "any"};
  batch->runs = {{wanted->missed.first_block, wanted->missed.keys, wanted->missed.run}};
  batch->ended = [this, wanted](uint32_t blocks) {
    wanted->filled = blocks > 0;
    if (wanted->filled) wanted->next = wanted->owners.size();
    NextOwner(wanted);
  };
  Enqueue(std::move(batch), true);
}

uint32_t Gatherer::Suggested(const SuggestRequest& request) {
  const Member* from = membership_.Find(request.from);
  if (stopped_ || !options_.dial || from == nullptr) return 0;
  std::vector<ViewDigest> digests;
  for (const View& view : request.runs.views) digests.push_back(view.Digest());
  absl::flat_hash_set<BlockKey> runs;
  for (const InventoryBlock& block : request.runs.blocks) {
    if (block.domain >= request.runs.domains.size() || block.ns >= request.runs.namespaces.size() || block.view >= digests.size()) continue;
    const DomainId& domain = request.runs.domains[block.domain];
    if (host_.holds(block, domain, digests[block.view])) {
      runs.insert(block.run);
      continue;
    }
    if (suggested_blocks_ >= kSuggestedMax) continue;
    runs.insert(block.run);
    ++suggested_blocks_;
    auto batch = std::make_shared<Batch>();
    batch->member = *from;
    batch->shard = request.shard;
    batch->domain = domain;
    batch->ns = request.runs.namespaces[block.ns];
    batch->accept = {ExactView(digests[block.view])};
    batch->bytes = block.bytes;
    batch->runs = {{block.block_index, {block.key}, block.run}};
    batch->ended = [this](uint32_t) { --suggested_blocks_; };
    Enqueue(std::move(batch), true);
  }
  host_.counters.Add(Counter::kSuggested, runs.size());
  return static_cast<uint32_t>(runs.size());
}

}  // namespace kvasir
