// SPDX-License-Identifier: Apache-2.0
// NodeHealth: can this node do its work, and if not, what stalls. Every place that can stall has a vital, named for operators.
// One judge, on a thread of its own, looks at all of them; nothing it asks may wait for what it judges. A node is ready
// while no vital stalls that counts, and again as soon as none does: nobody has to say so.
//
//   kind   the judge reads                                     stalls when, for longer than its limit,
//   Work   whether something is pending, and a count           something is pending and the count does not move
//   Due    when the oldest thing under way must have ended     that is past
//   Echo   (asks, and waits to be answered)                    an answer does not come
//   Check  a text: "" or the trouble                           there is trouble
//
// Who works pays two relaxed additions (Pulse) and reads no clock: the judge keeps the time. Sans-I/O: Judge(now) is all that
// happens; the node's judge thread calls it, tests call it with times of their own.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "transport/loop.h"
#include "transport/sync.h"

namespace kvasir {

/// How long each kind of stall may last. Every limit and two looks of the judge together are less than kTruth.
struct HealthOptions {
  static constexpr Duration kTruth = std::chrono::seconds(5);  ///< readiness is true within this, either way

  Duration every = std::chrono::milliseconds(500);    ///< between two looks of the judge
  Duration thread = std::chrono::seconds(3);          ///< a thread does not finish what it took, a Loop does not answer
  Duration overdue = std::chrono::seconds(3);         ///< a pull after its deadline, a timer after its time
  Duration disk_slow = std::chrono::seconds(3);       ///< age of the oldest queued disk operation
  Duration refused = std::chrono::seconds(2);         ///< new blocks are refused for want of room; the table is full
  Duration silent = std::chrono::seconds(3);          ///< the judge itself does not look
  Duration dead = std::chrono::seconds(60);           ///< only a restart ends it: not alive any more
};

/// Work taken and work ended. Any thread.
class Pulse {
 public:
  void Begin(uint64_t n = 1) { begun_.fetch_add(n, std::memory_order_relaxed); }
  void End(uint64_t n = 1) { ended_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t ended() const { return ended_.load(std::memory_order_relaxed); }
  uint64_t open() const {
    const uint64_t ended = this->ended();  // first: what began since is pending, never less than nothing
    return begun_.load(std::memory_order_relaxed) - ended;
  }

 private:
  std::atomic<uint64_t> begun_{0}, ended_{0};
};

/// When things under way on one Loop must have ended. That Loop adds and removes; any thread reads the earliest.
class Deadlines {
 public:
  void Add(Instant due, uint64_t id) {
    open_.emplace(due, id);
    Publish();
  }
  void Remove(Instant due, uint64_t id) {
    open_.erase({due, id});
    Publish();
  }
  size_t size() const { return open_.size(); }
  /// Instant::max() = nothing is under way.
  Instant earliest() const { return Instant(Duration(earliest_.load(std::memory_order_relaxed))); }

 private:
  void Publish() {
    const Instant first = open_.empty() ? Instant::max() : open_.begin()->first;
    earliest_.store(first.time_since_epoch().count(), std::memory_order_relaxed);
  }
  std::set<std::pair<Instant, uint64_t>> open_;
  std::atomic<Duration::rep> earliest_{Instant::max().time_since_epoch().count()};
};

/// What a vital is called and what its stall means.
struct VitalSpec {
  std::string name;           ///< "shard.0.loop": unique
  std::string trouble;        ///< "the Loop of shard 0 does not run"; for a Check the check says it
  Duration limit{};           ///< a stall shorter than this is none
  std::string service = "";   ///< the tier that stands or falls with it: "dram", "ssd"
  bool counts = true;         ///< false: told, but the node stays ready
  bool fatal = false;         ///< a thread: past HealthOptions::dead only a restart helps
};

struct VitalReport {
  std::string name, service;
  std::string trouble;        ///< "" = well
  Duration lasting{};         ///< of the trouble
  bool counts = true;
  uint64_t stalls = 0;        ///< so far
};
struct HealthReport {
  bool ready = false, live = true;
  Instant judged{};
  std::vector<VitalReport> vitals;  ///< in order of their addition
  /// What stalls and counts, for one line: "shard.0.loop: the Loop ... for 3.1s; ...". "" when ready.
  std::string Trouble() const;
  /// False when a vital that counts stalls and bears this service.
  bool Serves(const std::string& service) const;
};

class NodeHealth {
 public:
  static constexpr size_t kVitalsMax = 4096;

  struct Work {
    bool pending = false;
    uint64_t progress = 0;    ///< moves whenever something was done
  };
  /// Any thread, once, also after the vital is gone. False: it was not answered as it should be, and is asked again.
  using Answered = std::function<void(bool well)>;

  explicit NodeHealth(HealthOptions options) : options_(options) {}

  // Any thread. The functions are called by the judge only, and never after Remove returned.
  void AddWork(VitalSpec spec, std::function<Work()> read);
  void AddPulse(VitalSpec spec, const Pulse& pulse);
  void AddDue(VitalSpec spec, std::function<Instant()> earliest);
  void AddEcho(VitalSpec spec, std::function<void(Answered)> ask);
  void AddCheck(VitalSpec spec, std::function<std::string()> trouble);
  void Remove(const std::string& name);
  /// Called after each look, on the judge's thread; nullptr: no more, also none under way.
  void OnJudged(std::function<void(const HealthReport&)> told);

  /// Looks at every vital. Returns those whose state changed, for the log. One thread at a time.
  std::vector<VitalReport> Judge(Instant now);

  /// Any thread, waits for nobody. `now` shows whether the judge itself is alive.
  HealthReport Report(Instant now) const;
  bool ready() const { return ready_.load(std::memory_order_relaxed); }
  const HealthOptions& options() const { return options_; }

 private:
  /// What one look sees.
  struct Seen {
    std::string trouble;          ///< "" = none
    bool moved = false;           ///< since the last look something was done
    std::optional<Instant> since; ///< of the trouble, where that is known better than by looking
  };
  struct Vital {
    VitalSpec spec;
    std::function<Seen(Instant now)> look;
    Instant well{};               ///< the last look that found it well
    bool looked = false;
    bool stalled = false;
    uint64_t stalls = 0;
  };
  void Add(VitalSpec spec, std::function<Seen(Instant)> look);
  VitalReport Look(Vital& vital, Instant now);

  const HealthOptions options_;
  Mutex judging_;             // held while the judge looks: Remove waits for it
  std::vector<std::unique_ptr<Vital>> vitals_ ABSL_GUARDED_BY(judging_);
  std::function<void(const HealthReport&)> told_ ABSL_GUARDED_BY(judging_);
  std::atomic<bool> ready_{false};
  mutable Mutex reporting_;   // held for a copy only
  HealthReport report_ ABSL_GUARDED_BY(reporting_);
};

}  // namespace kvasir
