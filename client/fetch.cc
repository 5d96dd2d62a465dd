// SPDX-License-Identifier: Apache-2.0
// A fetch's plan: which blocks are held where, which failed, where the first gap is.
#include "client/fetch.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvasir::client {

namespace {

/// Where a fetch goes, whatever it is: what is there of the model.
Slice SliceOf(const PagedCache& cache) {
  return {cache.first_layer, static_cast<uint32_t>(cache.layers.size()), cache.first_head, cache.heads};
}

absl::StatusOr<Slice> SliceOf(const HeadExtents& extents) {
  if (extents.memory != MemoryKind::kHost) return absl::UnimplementedError("fetch: head extents must be in host memory");
  for (const ExtentLayer& layer : extents.layers) {
    const bool values = layer.values != nullptr || extents.layout.latent();
    if (layer.cu_lengths == nullptr || layer.keys == nullptr || !values || layer.positions == nullptr) {
      return absl::InvalidArgumentError("fetch: a layer of the head extents has a null pointer");
    }
  }
  return Slice{extents.first_layer, static_cast<uint32_t>(extents.layers.size()), extents.first_head, extents.heads};
}

absl::Status CheckPages(const FetchRequest& request, const Namespace& ns) {
  const PagedCache& cache = *request.cache;
  if (cache.page_tokens == 0 || ns.block_tokens % cache.page_tokens != 0) {
    return absl::InvalidArgumentError(absl::StrCat("fetch: page_tokens ", cache.page_tokens, " does not divide block_tokens ",
                                                   ns.block_tokens));
  }
  const uint64_t pages = (uint64_t{request.first_block} + request.blocks) * (ns.block_tokens / cache.page_tokens);
  if (request.pages.size() < pages) {
    return absl::InvalidArgumentError(absl::StrCat("fetch: ", request.pages.size(), " pages given, ", pages, " needed"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Slice> SliceOfFetch(FetchRequest& request, const Namespace& ns) {
  if (request.chain == nullptr) return absl::InvalidArgumentError("fetch: chain is null");
  if ((request.cache == nullptr) == (request.extents == nullptr)) {
    return absl::InvalidArgumentError("fetch: name a cache or head extents, one of the two");
  }
  const bool paged = request.cache != nullptr;
  if ((paged ? request.cache->layout : request.extents->layout) != ns.layout) {
    return absl::InvalidArgumentError(absl::StrCat("fetch: ", paged ? "cache" : "extents", ".layout is not the namespace's"));
  }
  const absl::StatusOr<Slice> there = paged ? SliceOf(*request.cache) : SliceOf(*request.extents);
  if (!there.ok()) return there;
  const uint32_t end_layer = there->first_layer + there->layers;
  Slice slice{request.first_layer, request.layers, there->first_head, there->heads};
  if (slice.layers == 0) {
    slice.first_layer = std::max(slice.first_layer, there->first_layer);
    slice.layers = end_layer - std::min(slice.first_layer, end_layer);
  }
  if (slice.first_layer < there->first_layer || uint64_t{slice.first_layer} + slice.layers > end_layer || slice.layers == 0 ||
      end_layer > ns.layout.layers) {
    return absl::InvalidArgumentError(absl::StrCat("fetch: layers [", slice.first_layer, ", +", slice.layers,
                                                   ") are not all in the cache"));
  }
  if (!paged && slice.layers != there->layers) {
    return absl::InvalidArgumentError("fetch: all layers of head extents are fetched together; name fewer in the extents");
  }
  if (slice.heads == 0 || uint64_t{slice.first_head} + slice.heads > ns.layout.kv_heads) {
    return absl::InvalidArgumentError("fetch: the cache holds heads the model has not");
  }
  if (request.first_block > request.chain->size()) return absl::InvalidArgumentError("fetch: first_block is behind the chain");
  const uint32_t rest = static_cast<uint32_t>(request.chain->size()) - request.first_block;
  if (request.blocks == 0) request.blocks = rest;
  if (request.blocks > rest) return absl::InvalidArgumentError("fetch: blocks reach behind the chain");
  if (absl::Status pages = paged ? CheckPages(request, ns) : absl::OkStatus(); !pages.ok()) return pages;
  return slice;
}

Fetch::Fetch(FetchEngine& engine, Desk& desk, Router& router, FetchOrder order)
    : engine_(engine), desk_(desk), order_(std::move(order)) {
  const FetchRequest& request = order_.request;
  blocks_.resize(request.blocks);
  for (BlockState& block : blocks_) {
    block.layer_left.assign(order_.slice.layers, 0);
    block.layers_left = order_.slice.layers;
  }
  found_ = request.blocks;
  order_.gate->Begin(order_.slice.first_layer, order_.slice.layers, request.blocks);
  Finder::Wish wish{.chain = request.chain,
                    .first_block = request.first_block,
                    .blocks = request.blocks,
                    .slice = order_.slice,
                    .accept = order_.accept,
                    .match_only = false,
                    .planes = request.planes,
                    .deadline = order_.deadline};
  // The Finder is owned by this Fetch and stopped before it goes: `this` is safe in its handlers.
  Finder::Handlers handlers{
      .held = [this](HeldBlock held) { Held(std::move(held)); },
      .missing = [this](uint32_t block, Miss cause, const absl::Status& why) {
        if (!beyond(block) && !At(block).retried) CountMiss(desk_, cause);  // a failure was counted when it happened
        Cut(block, why);
      },
      .leased = [this](const std::shared_ptr<Lease>& lease) { Leased(lease); },
      .idle = [this] {
        if (!std::exchange(planned_, true)) order_.gate->Found(found_);
        engine_.Pump();
        MaybeFinish();
      }};
  finder_ = std::make_shared<Finder>(desk, router, std::move(wish), std::move(handlers));
}

void Fetch::Start() {
  if (blocks_.empty()) {
    planned_ = true;
    return MaybeFinish();
  }
  deadline_timer_ = desk_.loop.At(order_.deadline, [self = shared_from_this()] {
    self->Stop(absl::DeadlineExceededError("the fetch's deadline passed"), Miss::kLate);
  });
  std::vector<uint32_t> all(blocks_.size());
  for (uint32_t i = 0; i < all.size(); ++i) all[i] = order_.request.first_block + i;
  finder_->Ask(all);
}

/// Lists the parts to bring: those that hold a layer which is not in place yet.
void Fetch::Held(HeldBlock held) {
  if (finished_ || beyond(held.block)) return;
  const uint32_t index = held.block;
  BlockState& block = At(index);
  block.held = std::move(held);
  block.granted = true;
  block.failed = Miss::kNone;
  block.parts.clear();
  if (order_.request.extents != nullptr) {  // rows of two attempts are not mixed
    block.rows.clear();
    block.layer_left.assign(order_.slice.layers, 0);
    block.layers_left = order_.slice.layers;
  }
  const View& view = block.held.view->view;
  const Namespace& ns = desk_.options.ns;
  const Slice& slice = order_.slice;
  for (uint16_t& left : block.layer_left) {
    if (left != kInPlace) left = 0;
  }
  for (const PartGrant& grant : block.held.parts) {
    if (grant.plane > 0) {
      block.parts.back().planes.push_back({grant, {}, 0});
      continue;
    }
    PartState part;
    part.planes.push_back({grant, {}, 0});
    part.cell = view.Geometry(ns.layout, grant.layer_group, grant.head_group, index, ns.block_tokens);
    uint32_t begin = std::max(part.cell.first_layer, slice.first_layer);
    uint32_t end = std::min(part.cell.first_layer + part.cell.layers, slice.first_layer + slice.layers);
    while (begin < end && block.layer_left[begin - slice.first_layer] == kInPlace) ++begin;
    while (begin < end && block.layer_left[end - 1 - slice.first_layer] == kInPlace) --end;
    part.first_layer = begin;
    part.layers = end - begin;
    for (uint32_t layer = begin; layer < end; ++layer) {
      uint16_t& left = block.layer_left[layer - slice.first_layer];
      if (left != kInPlace) ++left;
    }
    block.parts.push_back(std::move(part));
  }
  for (uint32_t p = 0; p < block.parts.size(); ++p) {
    const PartState& part = block.parts[p];
    if (part.layers > 0 && !part.pending()) ready_.insert({part.first_layer, index, p});
  }
  if (planned_) engine_.Pump();
}

void Fetch::Leased(const std::shared_ptr<Lease>& lease) {
  leases_.push_back(lease);
  // After the blocks of this answer are known: early events may be told at once.
  desk_.loop.Post([self = shared_from_this(), lease] {
    if (self->finished_) return;
    lease->Begin([weak = std::weak_ptr<Fetch>(self), lease](const WatchEvent& event) {
      if (auto fetch = weak.lock()) fetch->LeaseEvent(lease, event);
    });
  });
}

void Fetch::LeaseEvent(const std::shared_ptr<Lease>& lease, const WatchEvent& event) {
  if (finished_) return;
  if (const auto* ready = std::get_if<PartsReady>(&event)) {
    for (const PartsReady::Ready& part : ready->parts) PartReady(lease, part);
    return engine_.Pump();
  }
  const auto& revoked = std::get<LeaseRevoked>(event);
  for (uint32_t i = 0; i < found_; ++i) {
    BlockState& block = blocks_[i];
    if (block.held.lease != lease || !block.granted || block.layers_left == 0) continue;
    FailBlock(order_.request.first_block + i, Miss::kUnavailable,
              absl::UnavailableError(absl::StrCat("the lease ended: ", revoked.reason)));
  }
}

/// A cold part is in the node's memory now, or will never be.
void Fetch::PartReady(const std::shared_ptr<Lease>& lease, const PartsReady::Ready& ready) {
  const uint32_t index = ready.block_index;
  if (index < order_.request.first_block || beyond(index)) return;
  BlockState& block = At(index);
  if (block.held.lease != lease || !block.granted) return;
  for (uint32_t p = 0; p < block.parts.size(); ++p) {
    PartState& part = block.parts[p];
    const uint32_t plane = ready.part.plane;
    if (plane >= part.planes.size()) continue;
    PartGrant& grant = part.planes[plane].grant;
    const bool same = grant.layer_group == ready.part.layer_group && grant.head_group == ready.part.head_group;
    if (!same || !grant.pending) continue;
    if (!ready.status.ok() && plane > 0) {
      part.planes.resize(plane);
      if (part.layers > 0 && !part.pending()) ready_.insert({part.first_layer, index, p});
      continue;
    }
    if (!ready.status.ok()) {
      const Miss cause = absl::IsDataLoss(ready.status) ? Miss::kCrc : Miss::kUnavailable;
      return FailBlock(index, cause, ready.status);
    }
    const uint64_t frames = FramesOffset(static_cast<uint32_t>(block.held.view->view.spec.size()),
                                         FrameCount(desk_.options.ns.layout, part.cell));
    if (ready.part.frames_offset != frames || ready.part.bytes < frames || ready.part.bytes > kPartBytesMax) {
      return FailBlock(index, Miss::kHeader, absl::DataLossError("a part of a length that cannot be"));
    }
    grant = ready.part;
    grant.pending = false;
    if (part.layers > 0 && !part.pending()) ready_.insert({part.first_layer, index, p});
  }
}

void Fetch::FailBlock(uint32_t index, Miss cause, const absl::Status& why) {
  BlockState& block = At(index);
  if (finished_ || beyond(index) || block.failed != Miss::kNone || !block.granted) return;
  block.failed = cause;
  block.why = why;
  CountMiss(desk_, cause);
  for (uint32_t p = 0; p < block.parts.size(); ++p) ready_.erase({block.parts[p].first_layer, index, p});
  BlockQuiet(index);
}

/// A failed block is asked again, or given up, once nothing of its last attempt can touch its pages or its slots.
void Fetch::BlockQuiet(uint32_t index) {
  BlockState& block = At(index);
  if (block.under_way > 0 || block.failed == Miss::kNone || !block.granted) return;
  block.granted = false;
  if (finished_ || beyond(index)) return;
  if (std::exchange(block.retried, true) || !finder_->MoreOwners(index)) return Cut(index, std::move(block.why));
  desk_.Count(Counter::kFailovers);
  finder_->Ask({index});
}

/// The gap moves forward: nothing from `block` on is brought any more.
void Fetch::Cut(uint32_t index, absl::Status why) {
  if (finished_ || placing_ || beyond(index)) return;
  found_ = index - order_.request.first_block;
  gap_why_ = std::move(why);
  std::erase_if(ready_, [index](const Turn& turn) { return turn.block >= index; });
  if (planned_) order_.gate->Found(found_);
  if (planned_) MaybeFinish();
}

void Fetch::Stop(const absl::Status& why, Miss cause) {
  for (uint32_t i = 0; i < found_; ++i) {
    if (blocks_[i].layers_left == 0) continue;
    CountMiss(desk_, cause, found_ - i);
    planned_ = true;
    return Cut(order_.request.first_block + i, why);
  }
  planned_ = true;
  MaybeFinish();
}

void Fetch::MaybeFinish() {
  if (finished_ || !planned_ || jobs_ > 0) return;
  while (complete_ < found_ && blocks_[complete_].layers_left == 0) ++complete_;
  if (complete_ < found_) return;
  order_.request.extents != nullptr && !placing_ ? PlaceRows() : Finish();
}

void Fetch::Finish() {
  const auto self = shared_from_this();  // until the end of this function
  finished_ = true;
  finder_->Stop();
  desk_.loop.Cancel(deadline_timer_);
  for (const auto& lease : leases_) lease->End();
  leases_.clear();
  const Namespace& ns = desk_.options.ns;
  FetchResult result;
  result.blocks = found_;
  result.tokens = found_ * ns.block_tokens;
  result.status = found_ == order_.request.blocks ? absl::OkStatus() : std::move(gap_why_);
  result.moved_bytes = moved_bytes_;
  result.raw_bytes = ns.layout.LayerBytes(order_.slice.heads, ns.block_tokens) * order_.slice.layers * found_;
  for (uint32_t i = 0; i < found_; ++i) result.views.push_back(blocks_[i].held.view->view.spec);
  for (uint32_t i = 0; i < found_; ++i)
    result.planes.push_back(std::min(blocks_[i].planes, blocks_[i].held.view->view.planes));
  for (BlockState& block : blocks_) block.held.lease = nullptr;
  desk_.Count(Counter::kFetchedBlocks, found_);
  desk_.Count(Counter::kFetchedBytes, moved_bytes_);
  order_.gate->Finish(found_);
  engine_.Gone(order_.id);
  order_.done(std::move(result));
}

FetchEngine::FetchEngine(Desk& desk, Router& router) : desk_(desk), router_(router) {
  desk_.staging.fetches().on_room = [this] { Pump(); };
}

void FetchEngine::Start(FetchOrder order) {
  desk_.Count(Counter::kFetches);
  auto fetch = std::make_shared<Fetch>(*this, desk_, router_, std::move(order));
  fetches_[fetch->order().id] = fetch;
  fetch->Start();
}

void FetchEngine::Pump() {
  if (std::exchange(pump_posted_, true)) return;
  desk_.loop.Post([this] {
    pump_posted_ = false;
    const auto fetches = fetches_;  // a fetch may end while it pulls
    for (const auto& [id, fetch] : fetches) {
      for (;;) {
        const absl::StatusOr<bool> more = fetch->PullNext();
        if (!more.ok()) return;  // no room: whoever frees a slot pumps again
        if (!*more) break;
      }
    }
  });
}

void FetchEngine::Abort() {
  const auto fetches = fetches_;
  for (const auto& [id, fetch] : fetches) fetch->Stop(absl::AbortedError("the session was closed"), Miss::kNone);
}

}  // namespace kvasir::client
