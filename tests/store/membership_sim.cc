// SPDX-License-Identifier: Apache-2.0
// The fake etcd and its clock.
#include "tests/store/membership_sim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "tests/support/seed.h"

namespace kvasir::testing {

namespace action = membership_action;
namespace event = membership_event;

// ---- FakeEtcd -------------------------------------------------------------------------------------------------------
KeyValue::RangeReply FakeEtcd::Range(const KeyValue::RangeRequest& request) const {
  KeyValue::RangeReply reply{.revision = revision_, .entries = {}, .more = false};
  for (auto at = keys_.lower_bound(request.prefix); at != keys_.end() && at->first.starts_with(request.prefix); ++at) {
    if (reply.entries.size() == request.limit) {
      reply.more = true;
      break;
    }
    reply.entries.push_back(at->second);
  }
  return reply;
}

absl::StatusOr<KeyValue::TxnReply> FakeEtcd::Txn(const KeyValue::TxnRequest& request) {
  for (const KeyValue::Put& put : request.puts) {
    if (put.lease != 0 && !leases_.contains(put.lease))
      return absl::NotFoundError("etcdserver: requested lease not found");
  }
  for (const KeyValue::Condition& condition : request.when) {
    const KeyValue::Entry* entry = Find(condition.key);
    const uint64_t revision = entry == nullptr                                     ? 0
                              : condition.of == KeyValue::Condition::Of::kCreation ? entry->created
                                                                                   : entry->modified;
    if (revision != condition.revision) return KeyValue::TxnReply{false, revision_};
  }
  for (const KeyValue::Put& put : request.puts) Put(put.key, put.value, put.lease);
  return KeyValue::TxnReply{true, revision_};
}

int64_t FakeEtcd::Grant(Duration ttl, Instant now) {
  leases_[++leases_granted_] = {ttl, now + ttl};
  return leases_granted_;
}
absl::Status FakeEtcd::Renew(int64_t lease, Instant now) {
  const auto at = leases_.find(lease);
  if (at == leases_.end()) return absl::NotFoundError("the lease has ended");
  at->second.ends = now + at->second.ttl;
  return absl::OkStatus();
}
absl::Status FakeEtcd::Revoke(int64_t lease) {
  if (leases_.erase(lease) == 0) return absl::NotFoundError("the lease has ended");
  std::vector<std::string> gone;
  for (const auto& [key, entry] : keys_) {
    if (entry.lease == lease) gone.push_back(key);
  }
  for (const std::string& key : gone) Drop(key);
  return absl::OkStatus();
}
void FakeEtcd::Expire(Instant now) {
  std::vector<int64_t> ended;
  for (const auto& [id, lease] : leases_) {
    if (lease.ends < now) ended.push_back(id);
  }
  for (const int64_t id : ended) Revoke(id).IgnoreError();
}
void FakeEtcd::RefreshLeases(Instant now) {
  for (auto& [id, lease] : leases_) lease.ends = now + lease.ttl;
}

void FakeEtcd::Put(const std::string& key, const std::string& value, int64_t lease) {
  KeyValue::Entry& entry = keys_[key];
  entry = {key, value, entry.created, ++revision_, lease};
  if (entry.created == 0) entry.created = revision_;
  history_.push_back({false, entry});
}
void FakeEtcd::Drop(const std::string& key) {
  if (keys_.erase(key) != 0) history_.push_back({true, {key, "", 0, ++revision_, 0}});
}
void FakeEtcd::Wipe() {
  keys_.clear();
  leases_.clear();
  history_.clear();
  revision_ = 1;
  compacted_ = 0;
}
const KeyValue::Entry* FakeEtcd::Find(const std::string& key) const {
  const auto at = keys_.find(key);
  return at == keys_.end() ? nullptr : &at->second;
}

// ---- Sim ------------------------------------------------------------------------------------------------------------
bool Sim::Node::Said(const std::string& words) const {
  return std::any_of(said.begin(), said.end(), [&](const std::string& line) { return line.find(words) != line.npos; });
}

Sim::Sim(std::vector<std::string> endpoints) : endpoints_(std::move(endpoints)) { SetAll(Mood::kWell); }

void Sim::SetMood(const std::string& endpoint, Mood mood) {
  moods[endpoint] = mood;
  for (auto& node : nodes_) {
    if (mood != Mood::kRefusing || node->watch == 0 || node->endpoints[node->endpoint] != endpoint) continue;
    Later(*node, Duration::zero(), event::WatchEnded{node->watch, absl::UnavailableError("Connection reset by peer")});
    node->watch = 0;
  }
}
void Sim::SetAll(Mood mood) {
  for (const std::string& endpoint : endpoints_) SetMood(endpoint, mood);
}

Sim::Node& Sim::Add(const std::string& id, const std::function<void(MembershipOptions&)>& with) {
  const uint64_t number = nodes_.size() + 1;
  MembershipOptions options;
  options.endpoints = endpoints_;
  options.self = {
      .id = id, .control = "10.0.0." + std::to_string(number) + ":7070", .shards = 1, .weight = 8, .zone = "z"};
  options.identity = "identity-" + std::to_string(number);
  options.incarnation = number;
  options.new_cluster_id = "cluster-by-" + id;
  options.seed = Seed() + number;
  if (with) with(options);
  auto& node = *nodes_.emplace_back(std::make_unique<Node>());
  node.endpoints = options.endpoints;
  node.core = std::make_unique<MembershipCore>(std::move(options));
  Give(node, event::Begin{});
  return node;
}

uint64_t Sim::Announce(Node& node, MemberState state) {
  Give(node, event::Announce{++announces_, state});
  return announces_;
}

void Sim::Kill(Node& node) {
  node.core.reset();
  node.watch = 0;
}

void Sim::Give(Node& node, MembershipEvent event) {
  node.inbox.push_back(std::move(event));
  while (node.core != nullptr && !node.paused && !node.inbox.empty()) {
    MembershipEvent next = std::move(node.inbox.front());
    node.inbox.pop_front();
    for (MembershipAction& action : node.core->Step(std::move(next), now)) Act(node, action);
    EXPECT_GT(node.core->wake(), now) << "a shell would turn in circles";
  }
  Deliver();
}

void Sim::Later(Node& node, Duration wait, MembershipEvent event) {
  due_.push({now + wait, ++numbers_, &node, std::make_shared<MembershipEvent>(std::move(event))});
}

template <class Event, class Reply>
void Sim::Answer(Node& node, uint64_t ticket, const std::function<Reply()>& work) {
  const Mood mood = MoodOf(node);
  const Duration deadline = node.core->call_deadline();
  if (mood == Mood::kRefusing)
    return Later(node, Duration::zero(), Event{ticket, absl::UnavailableError("Connection refused")});
  if (mood == Mood::kSilent)
    return Later(node, deadline, Event{ticket, absl::DeadlineExceededError("Deadline Exceeded")});
  Reply reply = work();
  if (mood == Mood::kLosesReplies)
    return Later(node, deadline, Event{ticket, absl::DeadlineExceededError("Deadline Exceeded")});
  Later(node, Duration::zero(), Event{ticket, std::move(reply)});
}

void Sim::Act(Node& node, MembershipAction& any) {
  if (auto* range = std::get_if<action::Range>(&any)) {
    return Answer<event::Ranged, absl::StatusOr<KeyValue::RangeReply>>(node, range->ticket,
                                                                       [&] { return etcd.Range(range->request); });
  }
  if (auto* txn = std::get_if<action::Txn>(&any)) {
    return Answer<event::Transacted, absl::StatusOr<KeyValue::TxnReply>>(node, txn->ticket,
                                                                         [&]() -> absl::StatusOr<KeyValue::TxnReply> {
                                                                           if (!node.refuses_writes.ok())
                                                                             return node.refuses_writes;
                                                                           return etcd.Txn(txn->request);
                                                                         });
  }
  if (auto* grant = std::get_if<action::Grant>(&any)) {
    return Answer<event::Granted, absl::StatusOr<KeyValue::GrantReply>>(
        node, grant->ticket, [&]() -> absl::StatusOr<KeyValue::GrantReply> {
          if (!node.refuses_writes.ok()) return node.refuses_writes;
          return KeyValue::GrantReply{etcd.Grant(grant->ttl, now), grant->ttl};
        });
  }
  if (auto* renew = std::get_if<action::Renew>(&any)) {
    return Answer<event::Renewed, absl::Status>(node, renew->ticket, [&] { return etcd.Renew(renew->lease, now); });
  }
  if (auto* revoke = std::get_if<action::Revoke>(&any)) {
    return Answer<event::Revoked, absl::Status>(node, revoke->ticket, [&] { return etcd.Revoke(revoke->lease); });
  }
  Note(node, any);
}

/// What is not a call.
void Sim::Note(Node& node, MembershipAction& any) {
  if (auto* connect = std::get_if<action::Connect>(&any)) {
    node.endpoint = connect->endpoint;
    node.watch = 0;
    ++node.connects;
  } else if (auto* watch = std::get_if<action::Watch>(&any)) {
    ++node.watches;
    if (MoodOf(node) == Mood::kRefusing) {
      return Later(node, Duration::zero(),
                   event::WatchEnded{watch->ticket, absl::UnavailableError("Connection refused")});
    }
    if (watch->from <= etcd.compacted()) {
      return Later(node, Duration::zero(), event::WatchEnded{watch->ticket, absl::OutOfRangeError("compacted")});
    }
    node.watch = watch->ticket;
    node.watch_next = watch->from;
    if (MoodOf(node) == Mood::kWell && !node.watch_stuck)
      Later(node, Duration::zero(), event::Changed{watch->ticket, {}});
  } else if (std::holds_alternative<action::Unwatch>(any)) {
    node.watch = 0;
  } else if (std::holds_alternative<action::AskForSign>(any)) {
    ++node.signs_asked;
    if (MoodOf(node) == Mood::kWell && !node.watch_stuck) Later(node, Duration::zero(), event::Changed{node.watch, {}});
  } else if (auto* ready = std::get_if<action::Ready>(&any)) {
    node.membership = ready->membership;
    node.ready = std::move(*ready);
  } else if (auto* refused = std::get_if<action::Refused>(&any)) {
    node.refused = refused->status;
  } else if (std::holds_alternative<action::Registered>(any)) {
    node.registered = true;
  } else if (auto* adopt = std::get_if<action::Adopt>(&any)) {
    EXPECT_GT(adopt->membership.epoch, node.membership.epoch) << "epochs grow";
    node.membership = std::move(adopt->membership);
  } else if (auto* announced = std::get_if<action::Announced>(&any)) {
    node.announced[announced->id] = announced->status;
  } else if (auto* left = std::get_if<action::Left>(&any)) {
    node.left = left->status;
  } else if (auto* contact = std::get_if<action::Contact>(&any)) {
    node.contact = *contact;
  } else if (auto* remember = std::get_if<action::Remember>(&any)) {
    node.remembered = remember->cluster_id;
  } else if (auto* say = std::get_if<action::Say>(&any)) {
    node.said.push_back(say->text);
  }
}

/// Changes that watches have not shown yet.
void Sim::Deliver() {
  for (auto& node : nodes_) {
    if (node->watch == 0 || node->watch_stuck || MoodOf(*node) == Mood::kSilent) continue;
    std::vector<KeyValue::Change> changes;
    for (const KeyValue::Change& change : etcd.history()) {
      if (change.entry.modified >= node->watch_next && change.entry.key.starts_with("/kvasir/"))
        changes.push_back(change);
    }
    if (changes.empty()) continue;
    node->watch_next = changes.back().entry.modified + 1;
    Later(*node, Duration::zero(), event::Changed{node->watch, std::move(changes)});
  }
}

void Sim::Run(Duration duration) {
  const Instant end = now + duration;
  RunUntil([&] { return now >= end; }, duration);
}

bool Sim::RunUntil(const std::function<bool()>& condition, Duration limit) {
  constexpr Duration kStep = std::chrono::milliseconds(100);  // finer than any pause that matters
  const Instant end = now + limit;
  for (;;) {
    if (etcd_expires) etcd.Expire(now);
    Deliver();
    while (!due_.empty() && due_.top().when <= now) {
      const Due due = due_.top();
      due_.pop();
      Give(*due.node, std::move(*due.event));
    }
    for (auto& node : nodes_) {
      const bool works = node->core != nullptr && !node->paused;
      if (works && (node->core->wake() <= now || !node->inbox.empty())) Give(*node, event::Tick{});
    }
    if (!due_.empty() && due_.top().when <= now) continue;
    if (condition()) return true;
    if (now >= end) return false;
    now = std::min(end, now + kStep);
  }
}

}  // namespace kvasir::testing
