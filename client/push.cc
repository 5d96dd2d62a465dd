// SPDX-License-Identifier: Apache-2.0
// Packing parts, choosing targets, counting answers.
#include "client/push.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/seal.h"
#include "store/api/status.h"

namespace kvasir::client {

namespace {

/// Cells of size `step` that cover [first, first + count) of `total` exactly; false when a cell sticks out.
bool WholeCells(uint32_t first, uint32_t count, uint32_t total, uint32_t step, uint32_t& first_cell, uint32_t& cells) {
  const uint64_t end = uint64_t{first} + count;
  if (count == 0 || end > total || first % step != 0 || (end % step != 0 && end != total)) return false;
  first_cell = first / step;
  cells = static_cast<uint32_t>((end + step - 1) / step) - first_cell;
  return true;
}

/// Failures that another node may not share.
bool WorthAnotherNode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDataLoss:
      return true;
    default:
      return false;
  }
}

uint32_t ChainTokens(const PushRequest& request, const Namespace& ns) {
  return static_cast<uint32_t>(request.chain->size()) * ns.block_tokens;
}

absl::Status CheckInputs(const PushOrder& order, const Namespace& ns) {
  const Codec& codec = *order.view->codec;
  const bool selects = codec.selection() != nullptr;
  if (selects != !order.selection_context.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "push: the view '", codec.spec(), selects ? "' chooses among the tokens of a whole prompt: call PushSelected after prefill"
                                                  : "' chooses no tokens: call Push"));
  }
  if (order.request.chain->size() > UINT32_MAX / ns.block_tokens) return absl::InvalidArgumentError("push: the chain is too long");
  const SelectInputs none;
  const SelectInputs& inputs = order.request.inputs == nullptr ? none : *order.request.inputs;
  const Result<bool> there = CheckFrameInputs(codec, ns.layout, ChainTokens(order.request, ns), inputs);
  return there.ok() ? absl::OkStatus() : ToStatus(there.error());
}

}  // namespace

absl::Status CheckPush(PushOrder& order, Desk& desk) {
  PushRequest& request = order.request;
  const Namespace& ns = desk.options.ns;
  if (request.chain == nullptr) return absl::InvalidArgumentError("push: chain is null");
  if (request.cache == nullptr) return absl::InvalidArgumentError("push: cache is null");
  const PagedCache& cache = *request.cache;
  if (request.block >= request.chain->size()) return absl::InvalidArgumentError("push: block is behind the chain");
  if (cache.layout != ns.layout) return absl::InvalidArgumentError("push: cache.layout is not the namespace's");
  if (cache.page_tokens == 0 || ns.block_tokens % cache.page_tokens != 0) {
    return absl::InvalidArgumentError("push: page_tokens does not divide block_tokens");
  }
  const uint64_t pages = (uint64_t{request.block} + 1) * (ns.block_tokens / cache.page_tokens);
  if (request.pages.size() < pages) {
    return absl::InvalidArgumentError(absl::StrCat("push: ", request.pages.size(), " pages given, ", pages, " needed"));
  }
  const uint32_t end_layer = cache.first_layer + static_cast<uint32_t>(cache.layers.size());
  if (request.layers == 0) {
    request.first_layer = std::max(request.first_layer, cache.first_layer);
    request.layers = end_layer - std::min(request.first_layer, end_layer);
  }
  const SessionOptions& options = desk.options;
  auto view = desk.views.ToWrite(request.view.empty() ? desk.push_view : request.view, options.layers_per_part,
                                 options.heads_per_part, ns.block_tokens, order.selection_context);
  if (!view.ok()) return view.status();
  order.view = *std::move(view);
  if (absl::Status inputs = CheckInputs(order, ns); !inputs.ok()) return inputs;
  const View& grid = order.view->view;
  if (request.first_layer < cache.first_layer || uint64_t{request.first_layer} + request.layers > end_layer ||
      !WholeCells(request.first_layer, request.layers, ns.layout.layers, grid.layers_per_part, order.first_layer_group,
                  order.layer_groups)) {
    return absl::InvalidArgumentError(absl::StrCat("push: layers [", request.first_layer, ", +", request.layers,
                                                   ") are not whole parts of ", grid.layers_per_part, " layers in the cache"));
  }
  if (!WholeCells(cache.first_head, cache.heads, ns.layout.kv_heads, grid.heads_per_part, order.first_head_group,
                  order.head_groups)) {
    return absl::InvalidArgumentError(absl::StrCat("push: heads [", cache.first_head, ", +", cache.heads,
                                                   ") are not whole parts of ", grid.heads_per_part, " heads"));
  }
  return absl::OkStatus();
}

Push::Push(Desk& desk, Router& router, Outbox& outbox, PushOrder order, std::function<void(Change)> changed)
    : desk_(desk), router_(router), outbox_(outbox), order_(std::move(order)), changed_(std::move(changed)) {
  const PushRequest& request = order_.request;
  block_ = {.key = (*request.chain)[request.block], .parent = request.chain->Parent(request.block),
            .block_index = request.block, .token_count = desk.options.ns.block_tokens,
            .run = request.chain->RunKey(request.block, router.run_blocks()), .replicas = std::clamp(desk.options.replicas, 1u, kReplicasMax)};
}

void Push::Begin() {
  if (!ChooseTargets(std::max(1u, desk_.options.replicas))) {
    Finish(absl::UnavailableError("no node that owns the block can be reached"));
  }
}

/// Up to `count` owners, in the order of the ranking, that were not tried and have not failed a moment ago.
bool Push::ChooseTargets(size_t count) {
  targets_.clear();
  next_part_ = 0;
  for (const Owner& owner : router_.Writers(block_.run)) {
    if (targets_.size() == count) break;
    if (owner.link->paused() || std::find(tried_.begin(), tried_.end(), owner.link) != tried_.end()) continue;
    targets_.push_back({owner, absl::OkStatus()});
  }
  return !targets_.empty();
}

bool Push::AnyTarget() const {
  return std::any_of(targets_.begin(), targets_.end(), [](const Target& target) { return target.status.ok(); });
}

absl::StatusOr<bool> Push::PackNext() {
  if (finished_ || !stopped_.ok() || next_part_ >= part_count() || !AnyTarget()) return false;
  const CompiledView& view = *order_.view;
  const Namespace& ns = desk_.options.ns;
  const uint32_t layer_group = order_.first_layer_group + next_part_ / order_.head_groups;
  const uint32_t head_group = order_.first_head_group + next_part_ % order_.head_groups;
  const PartGeometry cell = view.view.Geometry(ns.layout, layer_group, head_group, order_.request.block, ns.block_tokens);
  const uint32_t frames = FrameCount(ns.layout, cell);
  const SlotPlan plan = PlanSlot(view, ns.layout, cell);
  Arena& arena = desk_.staging.pushes();
  if (plan.bytes > arena.size() || plan.bytes > kPartBytesMax) {
    Stop(absl::ResourceExhaustedError(
        absl::StrCat("push: a part of up to ", plan.bytes, " bytes does not fit into half of ", "staging_bytes")));
    return false;
  }
  const std::optional<Slot> slot = arena.Allocate(plan.bytes);
  if (!slot) return absl::ResourceExhaustedError("staging");
  ++next_part_;
  auto part = std::make_shared<PackedPart>(desk_.staging, *slot);
  part->layer_group = static_cast<uint16_t>(layer_group);
  part->head_group = static_cast<uint16_t>(head_group);
  part->packed.directory.resize(frames);
  PackJob job;
  job.codec = view.codec;
  job.cache = order_.request.cache;
  job.pages = order_.request.pages;
  job.part = cell;
  job.area = part->bytes().subspan(plan.area, plan.bytes - plan.area);
  job.result = &part->packed;
  if (order_.request.inputs != nullptr || order_.selection != nullptr) {
    const SelectInputs none;
    const SelectInputs& brought = order_.request.inputs == nullptr ? none : *order_.request.inputs;
    part->inputs = std::make_unique<PartInputs>(ns.layout, ChainTokens(order_.request, ns), cell, brought,
                                                order_.selection.get());
    job.inputs = part->inputs->frames();
  }
  ++jobs_;
  const Instant begin = desk_.loop.Now();
  desk_.bench.Submit(std::move(job), order_.request.stream, order_.after,
                     [self = shared_from_this(), part, cell, begin](const absl::Status& status) {
                       self->desk_.Trace({.what = "encode", .block = self->block_.block_index, .layer = cell.first_layer,
                                          .begin = begin, .end = self->desk_.loop.Now(), .bytes = part->packed.area_bytes});
                       --self->jobs_;
                       self->Packed(part, cell, status);
                     });
  return true;
}

/// What is known of a part before it is sealed.
PartHeader Push::HeaderOf(const PackedPart& part, const PartGeometry& cell) const {
  PartHeader header;
  std::memcpy(header.key, block_.key.bytes.data(), sizeof header.key);
  std::memcpy(header.namespace_digest, desk_.ns_digest.bytes.data(), sizeof header.namespace_digest);
  std::memcpy(header.view_digest, order_.view->digest.bytes.data(), sizeof header.view_digest);
  header.first_layer = static_cast<uint16_t>(cell.first_layer);
  header.layers = static_cast<uint16_t>(cell.layers);
  header.first_head = static_cast<uint16_t>(cell.first_head);
  header.heads = static_cast<uint16_t>(cell.heads);
  header.block_index = block_.block_index;
  header.token_count = block_.token_count;
  header.layer_group = part.layer_group;
  header.head_group = part.head_group;
  header.writer = desk_.writer;
  return header;
}

void Push::Packed(const std::shared_ptr<PackedPart>& part, const PartGeometry& cell, const absl::Status& status) {
  part->inputs = nullptr;
  if (!status.ok()) Stop(status);
  if (!stopped_.ok()) return Settle();
  const KvLayout& layout = desk_.options.ns.layout;
  const auto sealed = SealParts(HeaderOf(*part, cell), *order_.view, layout, cell, part);
  if (pass_ == 0) result_.raw_bytes += layout.LayerBytes(cell.heads, cell.tokens) * cell.layers;
  for (const std::shared_ptr<PackedPart>& plane : sealed) {
    if (pass_ == 0) result_.stored_bytes += plane->size();
    for (size_t t = 0; t < targets_.size(); ++t) {
      if (!targets_[t].status.ok()) continue;
      ++offered_;
      outbox_.Add(targets_[t].owner, {shared_from_this(), t, plane, order_.deadline});
    }
  }
  Settle();
}

void Push::Answered(size_t target, uint64_t bytes, const absl::Status& status) {
  --offered_;
  if (finished_) return;
  if (status.ok() || absl::IsAlreadyExists(status)) {
    desk_.Count(Counter::kPushedParts);
    desk_.Count(Counter::kPushedBytes, bytes);
    if (!status.ok()) {
      ++result_.existed;
      desk_.Count(Counter::kExistedParts);
    }
  } else if (targets_[target].status.ok()) {
    targets_[target].status = status;
  }
  Settle();
}

/// Ends the pass when nothing of it is under way and nothing is left to pack.
void Push::Settle() {
  if (finished_ || jobs_ > 0) return;
  if (!stopped_.ok()) return Finish(stopped_);
  if (offered_ == 0 && (next_part_ >= part_count() || !AnyTarget())) EndPass();
}

void Push::EndPass() {
  size_t failed = 0;
  bool again = ++pass_ < kPasses && desk_.loop.Now() < order_.deadline;
  for (const Target& target : targets_) {
    if (target.status.ok()) {
      ++result_.replicas;
      tried_.push_back(target.owner.link);
      continue;
    }
    ++failed;
    if (first_failure_.ok()) first_failure_ = target.status;
    if (!WorthAnotherNode(target.status)) again = false;
    // A stale session or epoch is renewed by the link: the same node is worth another try.
    if (!absl::IsAborted(target.status)) tried_.push_back(target.owner.link);
  }
  const uint32_t wanted = std::max(1u, desk_.options.replicas);
  if (result_.replicas >= wanted) return Finish(absl::OkStatus());
  if (failed > 0 && again && ChooseTargets(failed)) {
    desk_.Count(Counter::kFailovers);
    return changed_(Change::kMore);
  }
  if (!first_failure_.ok()) return Finish(first_failure_);
  Finish(absl::UnavailableError(absl::StrCat(result_.replicas, " of ", wanted, " replicas: no other node can be reached")));
}

void Push::Stop(const absl::Status& why) {
  if (stopped_.ok()) stopped_ = why;
  Settle();
}

void Push::Finish(const absl::Status& status) {
  if (std::exchange(finished_, true)) return;
  result_.status = status;
  if (!status.ok()) desk_.Count(Counter::kPushFailures);
  changed_(Change::kEnded);
  order_.done(std::move(result_));
}

PushEngine::PushEngine(Desk& desk, Router& router) : desk_(desk), router_(router), outbox_(desk, router) {
  desk_.staging.pushes().on_room = [this] { Pump(); };
}

void PushEngine::Start(PushOrder order) {
  desk_.Count(Counter::kPushes);
  if (pushes_.size() >= desk_.options.pushes_queued_max) {
    desk_.Count(Counter::kPushFailures);
    PushResult refused;
    refused.status = absl::ResourceExhaustedError("push: pushes_queued_max pushes are under way");
    return order.done(std::move(refused));
  }
  const uint64_t id = next_++;
  auto changed = [this, id](Push::Change change) {
    if (change == Push::Change::kEnded) {
      to_pack_.erase(id);
      pushes_.erase(id);
    } else if (auto push = pushes_.find(id); push != pushes_.end()) {
      to_pack_.insert(*push);
      Pump();
    }
  };
  auto push = std::make_shared<Push>(desk_, router_, outbox_, std::move(order), std::move(changed));
  pushes_[id] = push;
  to_pack_[id] = push;
  push->Begin();
  Pump();
  if (deadline_timer_ == 0) ScheduleDeadline();
}

/// Once per turn of the Loop, oldest first, as long as there is room.
void PushEngine::Pump() {
  if (std::exchange(pump_posted_, true)) return;
  desk_.loop.Post([this] {
    pump_posted_ = false;
    while (!to_pack_.empty()) {
      const auto [id, push] = *to_pack_.begin();
      const absl::StatusOr<bool> more = push->PackNext();
      if (!more.ok()) return;  // no room: whoever frees a slot pumps again
      if (!*more) to_pack_.erase(id);
    }
  });
}

/// One timer for the oldest: all have the same patience.
void PushEngine::ScheduleDeadline() {
  deadline_timer_ = 0;
  if (pushes_.empty()) return;
  deadline_timer_ = desk_.loop.At(pushes_.begin()->second->deadline(), [this] {
    const auto pushes = pushes_;
    for (const auto& [id, push] : pushes) {
      if (push->deadline() > desk_.loop.Now()) break;
      push->Stop(absl::DeadlineExceededError("push_deadline passed"));
      pushes_.erase(id);  // its jobs keep it until they end
    }
    ScheduleDeadline();
  });
}

void PushEngine::Abort() {
  const auto pushes = pushes_;
  for (const auto& [id, push] : pushes) push->Stop(absl::AbortedError("the session was closed"));
  outbox_.Close();
}

}  // namespace kvasir::client
