// SPDX-License-Identifier: Apache-2.0
// An etcd of plain maps and any number of MembershipCores around it, on one clock that tests move. Calls take no time,
// unless the endpoint is silent: then they end at their deadline. What goes wrong is switched on and off per endpoint.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <string>
#include <vector>

#include "store/membership/membership_core.h"

namespace kvasir::testing {

/// The store. All members of an etcd are one.
class FakeEtcd {
 public:
  KeyValue::RangeReply Range(const KeyValue::RangeRequest& request) const;
  absl::StatusOr<KeyValue::TxnReply> Txn(const KeyValue::TxnRequest& request);
  int64_t Grant(Duration ttl, Instant now);
  absl::Status Renew(int64_t lease, Instant now);
  absl::Status Revoke(int64_t lease);
  void Expire(Instant now);         ///< drops what nobody renewed
  void RefreshLeases(Instant now);  ///< what a new leader does
  void Put(const std::string& key, const std::string& value, int64_t lease = 0);
  void Drop(const std::string& key);
  void Compact() { compacted_ = revision_; }
  void Wipe();  ///< as after a lost disk: no key, revisions from 1 on
  const KeyValue::Entry* Find(const std::string& key) const;
  uint64_t revision() const { return revision_; }
  uint64_t compacted() const { return compacted_; }
  const std::vector<KeyValue::Change>& history() const { return history_; }

 private:
  struct Lease {
    Duration ttl;
    Instant ends;
  };
  uint64_t revision_ = 1, compacted_ = 0;
  int64_t leases_granted_ = 0;
  std::map<std::string, KeyValue::Entry> keys_;
  std::map<int64_t, Lease> leases_;
  std::vector<KeyValue::Change> history_;
};

/// How an endpoint answers.
enum class Mood : uint8_t {
  kWell,
  kRefusing,      ///< nobody listens: Unavailable at once, watches end
  kSilent,        ///< a stopped process: nothing comes, calls end at their deadline
  kLosesReplies,  ///< does what is asked, the answer never comes
};

class Sim {
 public:
  /// One node: its core and what it has said.
  struct Node {
    std::unique_ptr<MembershipCore> core;
    std::vector<std::string> endpoints;
    size_t endpoint = 0;
    bool paused = false;  ///< the process stands still; what comes waits
    std::deque<MembershipEvent> inbox;
    bool watch_stuck = false;     ///< the stream lives, nothing comes on it
    absl::Status refuses_writes;  ///< etcd's answer to Grant and Txn, if not ok
    uint64_t watch = 0, watch_next = 0;
    std::optional<membership_action::Ready> ready;
    std::optional<absl::Status> refused, left;
    bool registered = false;
    Membership membership;  ///< the last told
    std::map<uint64_t, absl::Status> announced;
    membership_action::Contact contact;
    std::string remembered;
    std::vector<std::string> said;
    int connects = 0, watches = 0, signs_asked = 0;
    /// True when a line with these words was said.
    bool Said(const std::string& words) const;
  };

  explicit Sim(std::vector<std::string> endpoints = {"e1:2379"});
  /// A node with defaults that tests change through `with`.
  Node& Add(const std::string& id, const std::function<void(MembershipOptions&)>& with = nullptr);
  void Register(Node& node) { Give(node, membership_event::Register{}); }
  uint64_t Announce(Node& node, MemberState state);
  void Leave(Node& node) { Give(node, membership_event::Leave{}); }
  /// A process that is gone: nothing it says counts, nothing reaches it.
  void Kill(Node& node);
  void Give(Node& node, MembershipEvent event);

  /// Moves the clock, and with it everything that is due.
  void Run(Duration duration);
  /// Until `condition`, at most `limit`; whether it came.
  bool RunUntil(const std::function<bool()>& condition, Duration limit = std::chrono::seconds(60));

  FakeEtcd etcd;
  bool etcd_expires = true;  ///< an etcd that is down ends no lease
  std::map<std::string, Mood> moods;
  Instant now{std::chrono::hours(1000)};
  void SetMood(const std::string& endpoint, Mood mood);
  void SetAll(Mood mood);

 private:
  struct Due {
    Instant when;
    uint64_t number;
    Node* node;
    std::shared_ptr<MembershipEvent> event;
    bool operator<(const Due& other) const { return std::tie(when, number) > std::tie(other.when, other.number); }
  };
  Mood MoodOf(const Node& node) const { return moods.at(node.endpoints[node.endpoint]); }
  void Act(Node& node, MembershipAction& action);
  template <class Event, class Reply>
  void Answer(Node& node, uint64_t ticket, const std::function<Reply()>& work);
  void Later(Node& node, Duration wait, MembershipEvent event);
  void Deliver();
  void Note(Node& node, MembershipAction& action);

  std::deque<std::unique_ptr<Node>> nodes_;
  std::vector<std::string> endpoints_;
  std::priority_queue<Due> due_;
  uint64_t numbers_ = 0, announces_ = 0;
};

}  // namespace kvasir::testing
