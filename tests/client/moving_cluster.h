// SPDX-License-Identifier: Apache-2.0
// MovingCluster: real nodes in this process and a membership that changes, told to all of them at once as etcd would. A node
// that is killed answers nothing any more, as a process that died.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "store/node.h"
#include "tests/client/cluster.h"
#include "tests/client/door.h"
#include "transport/sync.h"

namespace kvasir::testing {

/// Waits until `holds`; false after a minute. Looks often: what is waited for takes milliseconds.
inline bool Eventually(const std::function<bool()>& holds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

template <class T>
absl::StatusOr<T> Ask(const std::function<void(Answer<T>)>& call) {
  std::promise<absl::StatusOr<T>> answer;
  call([&answer](absl::StatusOr<T> reply) { answer.set_value(std::move(reply)); });
  return answer.get_future().get();
}

/// A session of the tests' domain and namespace at a node, past any client.
inline absl::StatusOr<HelloReply> Hello(Node& node) {
  HelloRequest hello;
  hello.domain = DomainKey::FromPassphrase("tests").Id();
  hello.ns = SmallNamespace();
  return Ask<HelloReply>([&](Answer<HelloReply> answer) { node.Hello(hello, std::chrono::seconds(5), std::move(answer)); });
}

class MovingCluster {
 public:
  struct Options {
    uint32_t nodes = 3;
    uint32_t shards = 2;
    std::vector<std::string> zones{};     ///< of node i, round and round; empty = none
    double hot_reads_per_s = 0;
    std::string ssd{};                    ///< directory under which each node has its own; "" = none
    const char* transport = "loopback";
    uint64_t dram_bytes = 64u << 20;      ///< of each node
  };
  explicit MovingCluster(Options options) : options_(std::move(options)) {
    MutexLock lock(mutex_);
    membership_.epoch = 1;
    for (uint32_t i = 0; i < options_.nodes; ++i) membership_.members.push_back(MemberOf(i, MemberState::kServing));
    const Membership first = membership_;
    for (const Member& member : first.members) StartNode(member.id, first);
  }
  ~MovingCluster() {
    {
      MutexLock lock(mutex_);
      closing_ = true;
    }
    std::map<std::string, std::shared_ptr<Door>> all;
    {
      MutexLock lock(mutex_);
      all.swap(doors_);
    }
    for (auto& [id, door] : all) door->Shut();
  }

  // ---- the membership ----
  /// A new node with this number, joining.
  void Join(uint32_t number) {
    Membership now;
    {
      MutexLock lock(mutex_);
      membership_.members.push_back(MemberOf(number, MemberState::kJoining));
      std::sort(membership_.members.begin(), membership_.members.end(), [](const Member& a, const Member& b) { return a.id < b.id; });
      ++membership_.epoch;
      membership_.members[IndexOf(IdOf(number))].epoch = membership_.epoch;
      now = membership_;
      StartNode(IdOf(number), now);
    }
    Tell(now);
  }
  /// As kill -9: no answers, no bytes. The membership does not know yet.
  void Kill(uint32_t number) {
    std::shared_ptr<Door> door;
    {
      MutexLock lock(mutex_);
      door = std::move(doors_.at(IdOf(number)));
      doors_.erase(IdOf(number));
    }
    door->Shut();
  }
  /// The membership forgets a node.
  void Forget(uint32_t number) {
    Change([&](Membership& m) { std::erase_if(m.members, [&](const Member& member) { return member.id == IdOf(number); }); });
  }
  /// A killed node begins anew, with what its directory holds.
  void Restart(uint32_t number) {
    Forget(number);
    Join(number);
  }
  Membership membership() const {
    MutexLock lock(mutex_);
    return membership_;
  }
  /// Every node holds what it should by the membership in force, and nobody is joining.
  bool Settled() {
    const Membership now = membership();
    for (const Member& member : now.members) {
      if (member.state == MemberState::kJoining) return false;
      const std::shared_ptr<kvasir::Node> node = Node(member.id);
      if (node == nullptr) return false;
      const auto status = StatusOf(member.id);
      if (!status.ok() || status->epoch != now.epoch || !status->taking_over.settled) return false;
    }
    return true;
  }

  // ---- nodes ----
  static std::string IdOf(uint32_t number) { return "node-" + std::to_string(number); }
  std::shared_ptr<kvasir::Node> Node(const std::string& id) const {
    MutexLock lock(mutex_);
    const auto at = doors_.find(id);
    return at == doors_.end() ? nullptr : at->second->node();
  }
  absl::StatusOr<NodeStatus> StatusOf(const std::string& id) {
    const std::shared_ptr<kvasir::Node> node = Node(id);
    if (node == nullptr) return absl::UnavailableError("killed");
    return Ask<NodeStatus>([&](Answer<NodeStatus> answer) { node->Status(std::move(answer)); });
  }
  uint64_t CounterAt(uint32_t number, const std::string& name) const {
    const std::shared_ptr<kvasir::Node> node = Node(IdOf(number));
    for (const auto& [counter, value] : node->Counters()) {
      if (counter == name) return value;
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
  }
  /// Nodes that hold the whole block.
  std::vector<std::string> HoldersOf(const BlockKey& key) {
    std::vector<std::string> holders;
    for (const Member& member : membership().members) {
      const std::shared_ptr<kvasir::Node> node = Node(member.id);
      if (node == nullptr) continue;
      const auto list = Ask<ListReply>([&](Answer<ListReply> answer) {
        node->List({.key_prefix = ToHex(key), .after = "", .limit = 10}, std::move(answer));
      });
      for (const BlockInfo& block : list->blocks) {
        if (block.parts == block.parts_of) holders.push_back(member.id);
      }
    }
    return holders;
  }

  // ---- clients ----
  SessionOptions ClientOptions(uint32_t replicas) {
    SessionOptions options;
    options.push_view = "raw";
    for (const Member& member : membership().members) options.nodes.push_back(member.control);
    options.domain = DomainKey::FromPassphrase("tests");
    options.ns = SmallNamespace();
    options.layers_per_part = 2;
    options.staging_bytes = 4u << 20;
    options.transports = {options_.transport};
    options.replicas = replicas;
    options.retry_pause = std::chrono::milliseconds(20);
    options.dial = [this](const std::string& control) -> std::shared_ptr<StoreApi> { return AtAddress(control); };
    return options;
  }
  std::unique_ptr<Session> Open(uint32_t replicas) {
    auto session = Session::Open(ClientOptions(replicas));
    EXPECT_TRUE(session.ok()) << session.status();
    return session.ok() ? *std::move(session) : nullptr;
  }

 private:
  Member MemberOf(uint32_t number, MemberState state) const {
    Member member{.id = IdOf(number), .control = "control-" + std::to_string(number), .shards = options_.shards, .weight = 100, .zone = ""};
    if (!options_.zones.empty()) member.zone = options_.zones[number % options_.zones.size()];
    member.state = state;
    member.epoch = 1;
    return member;
  }
  size_t IndexOf(const std::string& id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<size_t>(membership_.Find(id) - membership_.members.data());
  }
  std::shared_ptr<Door> AtAddress(const std::string& control) const {
    MutexLock lock(mutex_);
    const auto at = doors_.find("node-" + control.substr(control.find('-') + 1));
    return at == doors_.end() ? nullptr : at->second;
  }

  void StartNode(const std::string& id, const Membership& membership) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    NodeOptions options;
    options.id = id;
    options.membership = membership;
    options.run_blocks = 4;
    options.shards = options_.shards;
    options.dram_bytes = options_.dram_bytes;
    options.slab_bytes = options_.dram_bytes / 4;
    options.transports = {options_.transport};
    options.hot_reads_per_s = options_.hot_reads_per_s;
    if (!options_.ssd.empty()) {
      options.ssd = SsdOptions();
      options.ssd->directory = options_.ssd + "/" + id;
      options.ssd->bytes_max = 256u << 20;
      options.ssd->segment_bytes = 16u << 20;
    }
    options.dial = [this](const std::string& control) {
      const std::shared_ptr<Door> door = AtAddress(control);
      return PeerClient{door, door};
    };
    options.announce = [this, id](MemberState state, absl::AnyInvocable<void(absl::Status)> done) {
      Change([&](Membership& m) {
        for (Member& member : m.members) {
          if (member.id == id) member.state = state, member.epoch = m.epoch;
        }
      });
      done(absl::OkStatus());
    };
    auto node = kvasir::Node::Start(options);
    ASSERT_TRUE(node.ok()) << node.status();
    doors_[id] = std::make_shared<Door>(std::shared_ptr<kvasir::Node>(*std::move(node)));
  }
  void Change(const std::function<void(Membership&)>& change) {
    Membership now;
    {
      MutexLock lock(mutex_);
      if (closing_) return;
      ++membership_.epoch;
      change(membership_);
      now = membership_;
    }
    Tell(now);
  }
  void Tell(const Membership& now) {
    std::vector<std::shared_ptr<kvasir::Node>> all;
    {
      MutexLock lock(mutex_);
      for (auto& [id, door] : doors_) all.push_back(door->node());
    }
    for (const auto& node : all) {
      if (node != nullptr) node->Adopt(now);
    }
  }

  const Options options_;
  mutable Mutex mutex_;
  Membership membership_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::shared_ptr<Door>> doors_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvasir::testing
