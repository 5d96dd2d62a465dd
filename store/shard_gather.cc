// SPDX-License-Identifier: Apache-2.0
// Shard: what it does for its gatherer, and how it asks other nodes to help with a hot run.
#include <utility>

#include "store/shard.h"

namespace kvasir {

GathererHost Shard::HostOfGatherer() {
  return {.loop = loop_.loop(),
          .mailbox = mailbox_,
          .counters = *options_.counters,
          .transport = [this](const std::string& name) -> Transport* {
            for (const auto& transport : transports_) {
              if (transport->capabilities().name == name) return transport.get();
            }
            return nullptr;
          },
          .open = [this](uint64_t session, const DomainId& domain, const Namespace& ns, std::shared_ptr<Path> path) {
            peers_[session].path = std::move(path);
            Handle(event::SessionOpened{session, domain, ns, true});
          },
          .close = [this](uint64_t session) {
            peers_.erase(session);
            Handle(event::SessionClosed{session});
          },
          .offer = [this](OfferRequest request, Answer<OfferReply> answer) {
            const uint64_t call = next_call_++;
            offers_[call] = std::move(answer);
            Handle(event::OfferArrived{call, std::move(request)});
          },
          .holds = [this](const InventoryBlock& block, const DomainId& domain, const ViewDigest& view) {
            return core_.HoldsWhole(domain, block.key, view, block.planes, block.durable && core_.has_working_ssd());
          },
          .learn = [this](const DomainId& domain, const Namespace& ns, const std::vector<View>& views, std::function<void(absl::Status)> done) {
            options_.learn(domain, ns, views, [mailbox = mailbox_, done = std::move(done)](absl::Status status) {
              mailbox->Post([done, status = std::move(status)] { done(status); });
            });
          },
          .log = options_.log,
          .settled = [this](uint64_t epoch) {
            Handle(event::Settling{false});
            options_.settled(epoch);
          }};
}

void Shard::Adopt(const Membership& membership) {
  loop_.loop().Post([this, membership] {
    if (stopping_ || membership.epoch < membership_.epoch) return;  // told by two threads, the later change came first
    membership_ = membership;
    Handle(event::Settling{true});
    gatherer_->Adopt(membership);
  });
}

void Shard::Suggested(SuggestRequest request, Answer<SuggestReply> answer) {
  loop_.loop().Post([this, request = std::move(request), answer = std::move(answer)]() mutable {
    answer(SuggestReply{stopping_ ? 0 : gatherer_->Suggested(request)});
  });
}

/// The next node in rank is asked to hold the run, too. Only the first owner asks: it sees every reader that is new.
void Shard::Help(action::RunHot hot) {
  if (!options_.dial || hot.blocks.blocks.empty()) return;
  const uint32_t held_by = std::max(hot.spread, hot.replicas);
  const std::vector<Placed> owners = Place(hot.run, membership_, held_by + 1);
  if (owners.size() <= held_by || membership_.members[owners[0].member].id != options_.id) return;
  const Member& next = membership_.members[owners[held_by].member];
  std::shared_ptr<PeerApi>& peer = helpers_[next.control];
  if (peer == nullptr) peer = options_.dial(next.control).peer;
  if (peer == nullptr) return;
  SuggestRequest request{options_.id, membership_.epoch, options_.core.shard, std::move(hot.blocks)};
  Call<SuggestRequest, SuggestReply>(mailbox_, loop_.loop(), *peer, &PeerApi::Suggest, std::move(request),
                                     loop_.loop().Now() + Gatherer::kCallDeadline,
                                     [this, held_by, control = next.control, domain = hot.domain, run = hot.run](const absl::StatusOr<SuggestReply>& reply) {
                                       if (!reply.ok()) helpers_.erase(control);
                                       if (!reply.ok() || reply->taken == 0 || stopping_) return;
                                       Handle(event::RunSpread{domain, run, held_by + 1});
                                     });
}

}  // namespace kvasir
