// SPDX-License-Identifier: Apache-2.0
// Membership by epoch, and links made at need.
#include "client/router.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvasir::client {

void Router::Greet(const std::string& control, absl::AnyInvocable<void(absl::Status)> done) {
  NodeLink* link = seeds_.emplace_back(std::make_unique<NodeLink>(desk_, "", control, HooksOf())).get();
  link->Greet([this, link, done = std::move(done)](absl::Status status) mutable {
    if (status.ok() && current_.members.empty()) {
      status = absl::UnavailableError(absl::StrCat("node ", link->id(), " knows no members"));
    }
    done(status);
  });
}

NodeLink::Hooks Router::HooksOf() {
  return {.greeted = [this](const HelloReply& reply) { Adopt(reply.membership, reply.run_blocks); },
          .membership = [this](Membership membership) { Adopt(std::move(membership), run_blocks()); }};
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
    link = std::make_unique<NodeLink>(desk_, member.id, member.control, HooksOf());
  }
  return *link;
}

std::vector<Owner> Router::Owners(const BlockKey& run_key, uint32_t count) {
  std::vector<Owner> owners;
  for (const Placed& placed : Place(run_key, current_, count)) {
    owners.push_back({&LinkOf(current_.members[placed.member]), placed.shard});
  }
  return owners;
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
