// SPDX-License-Identifier: Apache-2.0
// ShardCore, the cluster's side: what a peer should hold of what is here, what is read too much for one copy, what a reader
// found damaged, and what a node that is still taking over should go and get.
#include <algorithm>
#include <cstring>
#include <utility>

#include "store/core.h"
#include "transport/check.h"

namespace kvasir {
namespace {

constexpr size_t kCursorBytes = 4 + 32;

std::string CursorOf(const RunId& run) {
  std::string cursor(4, '\0');
  std::memcpy(cursor.data(), &run.domain, 4);
  return cursor.append(run.key.view());
}

bool ParseCursor(const std::string& cursor, RunId* run) {
  if (cursor.size() != kCursorBytes) return false;
  std::memcpy(&run->domain, cursor.data(), 4);
  std::memcpy(run->key.bytes.data(), cursor.data() + 4, 32);
  return true;
}

uint64_t BytesOf(const BlockView& view) {
  uint64_t bytes = 0;
  for (const Part& part : view.parts) bytes += part.readable() ? part.bytes : 0;
  return bytes;
}

/// DURABLE is said of a block when its plane 0 is on the SSD: a tier may keep fewer of the planes above.
bool OnSsd(const BlockView& view) {
  for (size_t i = 0; i < view.parts.size(); i += view.planes) {
    if (view.parts[i].ssd.segment == 0) return false;
  }
  return true;
}

uint32_t ReplicasOf(const Run& run) {
  uint32_t replicas = 1;
  for (const Block* block : run.blocks) replicas = std::max(replicas, block->replicas);
  return replicas;
}

}  // namespace

/// `tables` number domain, namespace and view of ours as the reply does.
void ShardCore::AddBlocks(const Run& run, InventoryReply& reply, std::map<uint32_t, uint32_t> (&tables)[3]) const {
  const auto number = [](std::map<uint32_t, uint32_t>& table, uint32_t ours, auto& list, const auto& value) {
    const auto [at, made] = table.try_emplace(ours, static_cast<uint32_t>(list.size()));
    if (made) list.push_back(value);
    return at->second;
  };
  std::vector<const Block*> blocks(run.blocks.begin(), run.blocks.end());
  std::sort(blocks.begin(), blocks.end(), [](const Block* a, const Block* b) { return a->block_index < b->block_index; });
  for (const Block* block : blocks) {
    for (const BlockView& view : block->views) {
      if (view.WholePlanes() == 0) continue;  // whole blocks only: the rest is still being written
      InventoryBlock out;
      out.domain = number(tables[0], block->id.domain, reply.domains, domains_[block->id.domain]);
      out.ns = number(tables[1], block->ns, reply.namespaces, namespaces_[block->ns]);
      out.view = number(tables[2], view.view, reply.views, views_[view.view]);
      out.key = block->id.key;
      out.parent = block->parent;
      out.run = block->run;
      out.block_index = block->block_index;
      out.token_count = block->token_count;
      out.replicas = block->replicas;
      out.durable = OnSsd(view);
      out.bytes = BytesOf(view);
      out.planes = view.WholePlanes();
      reply.blocks.push_back(std::move(out));
    }
  }
}

InventoryReply ShardCore::Inventory(const std::string& after, uint32_t runs, const Wants& wants) const {
  InventoryReply reply;
  RunId from;
  const bool begins = !ParseCursor(after, &from);
  std::map<uint32_t, uint32_t> tables[3];
  uint64_t bytes = 0;
  uint32_t looked_at = 0;
  index_.ForEachRun(begins ? nullptr : &from, [&](const RunId& id, const Run& run) {
    if (looked_at++ == runs || bytes >= kInventoryBytesMax) return false;
    reply.next = CursorOf(id);
    if (!wants(id.key, ReplicasOf(run))) return true;
    const size_t before = reply.blocks.size();
    AddBlocks(run, reply, tables);
    for (size_t i = before; i < reply.blocks.size(); ++i) bytes += reply.blocks[i].bytes;
    return true;
  });
  RunId last;
  bool more = false;
  if (ParseCursor(reply.next, &last)) {
    index_.ForEachRun(&last, [&](const RunId&, const Run&) {
      more = true;
      return false;
    });
  }
  if (!more) reply.next.clear();
  return reply;
}

bool ShardCore::HoldsWhole(const DomainId& domain, const BlockKey& key, const ViewDigest& view, uint32_t planes,
                           bool durable) const {
  const auto domain_number = domain_numbers_.find(domain);
  const auto view_number = view_numbers_.find(view);
  if (domain_number == domain_numbers_.end() || view_number == view_numbers_.end()) return false;
  const Block* block = index_.Find({domain_number->second, key});
  if (block == nullptr) return false;
  const auto held = std::find_if(block->views.begin(), block->views.end(), [&](const BlockView& v) { return v.view == view_number->second; });
  if (held == block->views.end()) return false;
  return held->WholePlanes() >= std::max(1u, planes) && (!durable || OnSsd(*held));
}

std::vector<std::pair<DomainId, BlockKey>> ShardCore::Surplus(const Wants& owns) const {
  std::vector<std::pair<DomainId, BlockKey>> surplus;
  index_.ForEachRun(nullptr, [&](const RunId& id, const Run& run) {
    if (!owns(id.key, ReplicasOf(run))) surplus.emplace_back(domains_[id.domain], id.key);
    return true;
  });
  return surplus;
}

void ShardCore::On(event::RunsMoved& e) {
  for (const auto& [domain, key] : e.runs) {
    Run* run = index_.FindRun({DomainNumber(domain), key});
    if (run == nullptr) continue;
    for (Block* block : run->blocks) index_.Cool(*block);
  }
}

// ---- popularity ------------------------------------------------------------------------------------------------------
/// Counts a client's read and calls for help where it is too much for one copy. Answers the run's spread.
uint32_t ShardCore::NoteRead(uint32_t domain, const BlockKey& key, bool client) {
  const RunId id{domain, key};
  Run* run = index_.FindRun(id);
  if (run == nullptr) return 0;
  if (!client || options_.hot_reads_per_s <= 0) return run->spread;
  const double rate = index_.Heat(*run, now_);
  if (rate < options_.hot_reads_per_s * kColdAgain) run->spread = 0;
  // With a spread of n this node sees an n-th of the reads.
  if (rate < options_.hot_reads_per_s || run->spread >= options_.hot_spread_max) return run->spread;
  if (hot_asked_.size() > kWaitingMax) hot_asked_.clear();
  Instant& asked = hot_asked_[id];
  if (asked != Instant{} && now_ - asked < kHotPause) return run->spread;
  asked = now_;
  action::RunHot hot{domains_[domain], key, ReplicasOf(*run), run->spread, {}};
  std::map<uint32_t, uint32_t> tables[3];
  AddBlocks(*run, hot.blocks, tables);
  counters_.Add(Counter::kRunsHot);
  Do(std::move(hot));
  return run->spread;
}

void ShardCore::On(event::RunSpread& e) {
  if (Run* run = index_.FindRun({DomainNumber(e.domain), e.run})) run->spread = std::min(e.nodes, options_.hot_spread_max);
}

void ShardCore::TellMissed(const SessionInfo& session, const AcquiredRun& run, uint32_t held) {
  if (!settling_ || session.peer || run.run == BlockKey{}) return;
  Do(action::Missed{domains_[session.domain], namespaces_[session.ns], run.run, run.first_block + held,
                    {run.keys.begin() + held, run.keys.end()}});
}

// ---- damage ----------------------------------------------------------------------------------------------------------
/// A reader's bytes failed their checks. They may have been hurt on the way: we look at our own.
void ShardCore::Suspect(uint32_t domain, const DamagedPart& damaged) {
  counters_.Add(Counter::kDamageReports);
  const PartAt at{
      {domain, damaged.key}, ViewNumber(damaged.view), damaged.layer_group, damaged.head_group, damaged.plane};
  Block* block = nullptr;
  Part* part = PartOf(at, &block);
  if (part == nullptr || !part->in_dram()) return;
  if (!rechecks_.try_emplace(part->extent.slot, part->extent, at).second) return;  // somebody else reported it, too
  extents_.Pin(part->extent);
  Do(action::Recheck{part->extent, RangeOf(part->extent), ClaimOf(*block, at, part->extent.generation)});
}

void ShardCore::On(event::RecheckDone& e) {
  const auto recheck = rechecks_.extract(e.extent.slot);
  KVASIR_CHECK(recheck && recheck.mapped().first == e.extent, "a check that nobody asked for");
  const PartAt at = recheck.mapped().second;
  extents_.Unpin(e.extent);
  if (e.status.ok()) return;
  counters_.Add(Counter::kWrongPreventedDram);
  Block* block = nullptr;
  Part* part = PartOf(at, &block);
  // While it is being written to the disk it stays: who reads that copy will find it out.
  if (part == nullptr || !(part->extent == e.extent) || part->persisting) return;
  const action::Missed refill{domains_[at.block.domain], namespaces_[block->ns], block->run, block->block_index, {block->id.key}};
  ReleaseExtent(*block, at, *part);  // the disk's copy, where there is one, is read and checked at the next need
  const bool gone = part->absent();
  if (gone) ForgetUpperPlanes(*block, at);
  index_.Tidy(*block);
  if (gone && !(refill.run == BlockKey{})) Do(refill);
}

}  // namespace kvasir
