// SPDX-License-Identifier: Apache-2.0
// Building Offers, and what becomes of their grants.
#include "client/outbox.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace kvasir::client {

namespace {

/// Whether a node that says this of a part has surely ended its pull: then the slot need not wait for quiet.
bool PullEnded(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
      return true;
    default:
      return false;
  }
}

}  // namespace

void Outbox::Add(const Owner& owner, Item item) {
  items_[{owner.link, owner.shard}].push_back(std::move(item));
  if (std::exchange(flush_posted_, true)) return;
  desk_.loop.Post([this] { Flush(); });
}

void Outbox::Flush() {
  flush_posted_ = false;
  for (auto& [where, items] : std::exchange(items_, {})) {
    where.first->PathTo(where.second, [this, items = std::move(items)](absl::StatusOr<std::shared_ptr<Path>> path) mutable {
      if (path.ok()) return Send(*path, std::move(items));
      for (Item& item : items) {
        const uint64_t size = item.part->size();
        item.part = nullptr;
        item.owner->Answered(item.target, size, path.status());
      }
    });
  }
}

/// As many Offers as the limits ask for.
void Outbox::Send(const std::shared_ptr<Path>& path, std::vector<Item> items) {
  auto next = items.begin();
  while (next != items.end()) {
    OfferRequest request;
    Sent sent{path, {}, {}, desk_.loop.Now()};
    absl::flat_hash_map<BlockKey, uint32_t> blocks;
    absl::flat_hash_map<ViewDigest, uint32_t> views;
    Instant until{};
    for (; next != items.end() && sent.items.size() < kPartsPerOfferMax; ++next) {
      if (!path->up() || !next->owner->Wants(next->target)) {
        const uint64_t size = next->part->size();
        next->part = nullptr;
        next->owner->Answered(next->target, size, absl::UnavailableError("not sent: the push or its target had failed"));
        continue;
      }
      const CompiledView& view = next->owner->view();
      if (!views.contains(view.digest) && views.size() == kViewsPerCallMax) break;
      const auto [v, new_view] = views.try_emplace(view.digest, static_cast<uint32_t>(views.size()));
      if (new_view) request.views.push_back(view.view);
      const OfferedBlock& block = next->owner->block();
      const auto [b, new_block] = blocks.try_emplace(block.key, static_cast<uint32_t>(blocks.size()));
      if (new_block) request.blocks.push_back(block);
      const PackedPart& part = *next->part;
      const RemoteSpan span = desk_.staging.RegionOf(path->transport).Grant(path->scope, part.offset(), part.size());
      request.parts.push_back({.block = b->second,
                               .view = v->second,
                               .layer_group = part.layer_group,
                               .head_group = part.head_group,
                               .bytes = part.size(),
                               .root = std::string(reinterpret_cast<const char*>(part.root), sizeof part.root),
                               .grant = span.Encode(),
                               .plane = part.plane});
      sent.grants.push_back(span.grant);
      until = std::max(until, next->deadline);
      sent.items.push_back(std::move(*next));
    }
    if (sent.items.empty()) continue;
    request.epoch = router_.EpochOf(*path->link);
    request.ack = desk_.options.ack;
    request.deadline = std::max(Duration::zero(), std::chrono::duration_cast<Duration>(until - desk_.loop.Now()));
    const uint64_t offer = next_offer_++;
    sent_.emplace(offer, std::move(sent));
    // The call holds a number, not the parts: an answer that never comes must not keep slots beyond the Session.
    path->link->Offer(path, std::move(request), until,
                      [this, offer](const absl::StatusOr<OfferReply>& reply) { Answered(offer, reply); });
  }
}

void Outbox::Answered(uint64_t offer, const absl::StatusOr<OfferReply>& reply) {
  auto node = sent_.extract(offer);
  if (node.empty()) return;
  Sent& sent = node.mapped();
  for (size_t i = 0; i < sent.items.size(); ++i) {
    Item& item = sent.items[i];
    const absl::Status status = !reply.ok()                    ? reply.status()
                                : i < reply->parts.size() ? reply->parts[i]
                                                          : absl::InternalError("an answer with too few parts");
    const uint64_t size = item.part->size();
    desk_.Trace({.what = "offer", .block = item.owner->block().block_index, .layer = item.part->layer_group,
                 .begin = sent.begin, .end = desk_.loop.Now(), .bytes = size});
    Settle(*sent.path, sent.grants[i], std::move(item.part), status);
    item.owner->Answered(item.target, size, status);
  }
}

/// A slot whose pull may still run comes back when its grant is quiet. Where the transport cannot see reads the connection
/// is closed first; a copy that runs on regardless fails the node's checks.
void Outbox::Settle(const Path& path, uint64_t grant, std::shared_ptr<PackedPart> part, const absl::Status& status) {
  MemoryRegion& region = desk_.staging.RegionOf(path.transport);
  if (PullEnded(status)) return region.Revoke(grant, nullptr);
  const bool blind = !path.transport->capabilities().sees_reads;
  if (blind && path.up()) path.link->Drop(absl::UnavailableError("a pull of this node's may still run"));
  region.Revoke(grant, [part = std::move(part)] {});
}

void Outbox::Close() {
  items_.clear();
  for (auto& [offer, sent] : std::exchange(sent_, {})) {
    for (size_t i = 0; i < sent.items.size(); ++i) {
      desk_.staging.RegionOf(sent.path->transport).Revoke(sent.grants[i], [part = std::move(sent.items[i].part)] {});
    }
  }
}

}  // namespace kvasir::client
