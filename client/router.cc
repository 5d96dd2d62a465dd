// SPDX-License-Identifier: Apache-2.0
// Membership by epoch, and links made at need.
#include "client/router.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvasir::client {

void Router::Greet(const std::string& control, absl::AnyInvocable<void(absl::Status)> done) {
  NodeLink* link = seeds_.emplace_back(std::make_unique<NodeLink>(desk_.links, "", control, HooksOf())).get();
  link->Greet([this, link, done = std::move(done)](absl::Status status) mutable {
    if (status.ok() && current_.members.empty()) {
      status = absl::UnavailableError(absl::StrCat("node ", link->id(), " knows no members"));
    }
    done(status);
  });
}

NodeLink::Hooks Router::HooksOf() {
  return {.greeted = [this](const HelloReply& reply) { Adopt(reply.membership, reply.run_blocks); },
          .membership = [this](Membership membership) { Adopt(std::move(membership), run_blocks()); },
          .epoch = [this](const std::string& id, uint64_t epoch) { AdoptEpoch(id, epoch); }};
}

void Router::Adopt(Membership membership, uint32_t run_blocks) {
  if (!current_.members.empty() && membership.epoch <= current_.epoch) return;
  if (membership.members.empty() || membership.members.size() > Membership::kMembersMax) return;
  current_ = std::move(membership);
  for (auto& [name, link] : links_) link->set_member(false);
  for (const Member& member : current_.members) {
    auto link = links_.find(absl::StrCat(member.id, "@", member.control));
    if (link != links_.end()) link->second->set_member(true);
  }
  MutexLock lock(mutex_);
  told_ = current_;
  if (run_blocks_ == 0) run_blocks_ = std::max(1u, run_blocks);
}

NodeLink& Router::LinkOf(const Member& member) {
  std::unique_ptr<NodeLink>& link = links_[absl::StrCat(member.id, "@", member.control)];
  if (link) return *link;
  // A seed that turned out to be this member serves on.
  auto seed = std::find_if(seeds_.begin(), seeds_.end(), [&](const auto& s) { return s->id() == member.id && s->up(); });
  if (seed != seeds_.end()) {
    link = std::move(*seed);
    seeds_.erase(seed);
  } else {
    link = std::make_unique<NodeLink>(desk_.links, member.id, member.control, HooksOf());
  }
  return *link;
}

/// What a node says of itself is newer than what the membership said of it.
void Router::AdoptEpoch(const std::string& id, uint64_t epoch) {
  for (Member& member : current_.members) {
    if (member.id == id) member.epoch = epoch;
  }
}

uint64_t Router::EpochOf(const NodeLink& link) const {
  const Member* member = current_.Find(link.id());
  return member == nullptr ? 0 : member->epoch;
}

std::vector<Owner> Router::OwnersAt(const std::vector<Placed>& places) {
  std::vector<Owner> owners;
  for (const Placed& placed : places) owners.push_back({&LinkOf(current_.members[placed.member]), placed.shard});
  return owners;
}

std::vector<Owner> Router::Writers(const BlockKey& run_key) {
  return OwnersAt(Place(run_key, current_, Membership::kMembersMax));
}

std::vector<Owner> Router::Readers(const BlockKey& run_key) {
  std::vector<Owner> owners = OwnersAt(PlaceForReading(run_key, current_, std::max(1u, desk_.options.replicas)));
  // One that has not answered yet is not known to be fast: it passes nobody for it.
  Duration fastest = Duration::max() / kSlowTimes;
  for (const Owner& owner : owners) {
    if (owner.link->latency() > Duration::zero()) fastest = std::min(fastest, owner.link->latency());
  }
  const Duration slow = std::max(kSlowMin, kSlowTimes * fastest);
  std::stable_partition(owners.begin(), owners.end(), [slow](const Owner& owner) { return owner.link->latency() <= slow; });
  const auto spread = spreads_.find(run_key);
  if (spread == spreads_.end()) return owners;
  if (spread->second.until < desk_.loop.Now()) {
    spreads_.erase(spread);
    return owners;
  }
  const std::vector<Owner> wide = OwnersAt(Place(run_key, current_, spread->second.nodes));
  if (wide.empty()) return owners;
  const Owner chosen = wide[desk_.writer % wide.size()];  // the Session's own random number: sticky
  std::erase_if(owners, [&](const Owner& owner) { return owner.link == chosen.link; });
  owners.insert(owners.begin(), chosen);
  return owners;
}

void Router::NoteSpread(const BlockKey& run_key, uint32_t spread) {
  if (spreads_.size() >= kSpreadsMax && !spreads_.contains(run_key)) spreads_.clear();
  spreads_[run_key] = {std::min<uint32_t>(spread, Membership::kMembersMax), desk_.loop.Now() + kSpreadFor};
}

Membership Router::membership() const {
  MutexLock lock(mutex_);
  return told_;
}

uint32_t Router::run_blocks() const {
  MutexLock lock(mutex_);
  return run_blocks_;
}

void Router::Close(const absl::Status& why) {
  for (auto& [name, link] : links_) link->Drop(why);
  for (auto& link : seeds_) link->Drop(why);
}

}  // namespace kvasir::client
