// SPDX-License-Identifier: Apache-2.0
// StallStage: a real node whose threads, disk and clock a test can stop at named places and let go again. Limits of its health
// are short, so that a stall takes a moment and not seconds.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "store/node.h"
#include "tests/store/raw_client.h"
#include "tests/store/ssd_testing.h"

namespace kvasir::testing {

/// NodeOptions::hold: what the node is about to do at a site passes, waits there (the thread stops), or is kept back (the
/// thread goes on: a lost wake-up) until Open.
class Sites {
 public:
  ~Sites() { Open(); }
  /// The first `visitors` to come wait.
  void Block(const std::string& site, uint64_t visitors = UINT64_MAX) { Change([&] { blocked_[site] = visitors; }); }
  void Keep(const std::string& site) { Change([&] { kept_.insert(site); }); }
  void Open() {
    std::vector<Task> late;
    Change([&] {
      blocked_.clear();
      kept_.clear();
      late.swap(held_);
    });
    for (Task& task : late) task();
  }
  bool At(std::string_view site, Task& task) {
    const std::string name(site);
    std::unique_lock lock(mutex_);
    const uint64_t visit = ++visits_[name];
    changed_.notify_all();
    changed_.wait(lock, [&] { return !blocked_.contains(name) || visit > blocked_[name]; });
    if (!kept_.contains(name)) return false;
    held_.push_back(std::move(task));
    return true;
  }
  /// Waits until `count` came to the site since a site was last closed or opened.
  void AwaitVisits(const std::string& site, uint64_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return visits_[site] >= count; });
  }

 private:
  template <class F>
  void Change(F&& change) {
    std::lock_guard lock(mutex_);
    change();
    visits_.clear();
    changed_.notify_all();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, uint64_t> blocked_;
  std::set<std::string> kept_;
  std::map<std::string, uint64_t> visits_;
  std::vector<Task> held_;
};

/// What the disk does with operations of the kinds in `kinds`; the others pass.
class DiskGate {
 public:
  enum class Does { kPass, kWait, kSlow, kNoSpace, kShort, kError };
  static constexpr std::chrono::milliseconds kSlow{80};  ///< of an operation of a slow disk
  ~DiskGate() { Set(Does::kPass, {}); }
  void Set(Does does, std::set<DiskOp::Kind> kinds) {
    std::lock_guard lock(mutex_);
    does_ = does;
    kinds_ = std::move(kinds);
    changed_.notify_all();
  }
  FaultyDisk::Verdict Decide(const DiskOp& op) {
    std::unique_lock lock(mutex_);
    const auto stands = [&](Does does) { return does_ == does && kinds_.contains(op.kind); };
    changed_.wait(lock, [&] { return !stands(Does::kWait); });
    if (stands(Does::kSlow)) changed_.wait_for(lock, kSlow, [&] { return !stands(Does::kSlow); });
    if (stands(Does::kNoSpace)) return {true, -ENOSPC};
    if (stands(Does::kShort)) return {true, 0};
    if (stands(Does::kError)) return {true, -EIO};
    return {};
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  Does does_ = Does::kPass;
  std::set<DiskOp::Kind> kinds_;
};

/// A clock that can stand still.
class StillClock {
 public:
  Instant Now() {
    std::lock_guard lock(mutex_);
    return still_.value_or(std::chrono::steady_clock::now());
  }
  void Stop() {
    std::lock_guard lock(mutex_);
    still_ = std::chrono::steady_clock::now();
  }
  void Go() {
    std::lock_guard lock(mutex_);
    still_.reset();
  }

 private:
  std::mutex mutex_;
  std::optional<Instant> still_;
};

class StallStage {
 public:
  StallStage();
  ~StallStage();

  /// What a stall may set before the node starts.
  NodeOptions options;
  bool ssd = false;
  bool cold = false;       ///< with `ssd`: one block is on the disk alone

  void Start();
  Node& node() { return *node_; }
  RawClient& client() { return *client_; }
  const PrefixChain& chain() const { return chain_; }
  /// Runs `work` beside the test; joined before the node goes.
  void Aside(std::function<void()> work) { aside_.emplace_back(std::move(work)); }
  /// Stops the Loop of a shard, inside an answer, until Go.
  void StopLoop(uint32_t shard);
  void Go();               ///< lets everything go on
  void Restart();          ///< the node, on the same directory
  /// Looks at each judgement until `seen` holds; false after a minute.
  bool Await(const std::function<bool(const HealthReport&)>& seen);

  Sites sites;
  DiskGate disk;
  StillClock clock;

 private:
  void JoinAside();

  TempDirectory directory_;
  std::atomic<uint64_t> disk_operations_{0};
  PrefixChain chain_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopped_ = false;
  std::unique_ptr<Node> node_;
  std::unique_ptr<RawClient> client_;
  std::vector<std::thread> aside_;
};

}  // namespace kvasir::testing
