// SPDX-License-Identifier: Apache-2.0
// Shard: what it shows of itself, and what can stall in it.
#include "store/shard.h"

namespace kvasir {

void Shard::Publish() {
  const auto show = [](auto& shown, auto value) { shown.store(value, std::memory_order_relaxed); };
  const auto ticks = [](Instant instant) { return instant.time_since_epoch().count(); };
  show(shown_.blocks, core_.blocks());
  show(shown_.parts, core_.parts());
  show(shown_.dram_parts, core_.dram_parts());
  show(shown_.dram_bytes, core_.live_bytes());
  show(shown_.used, core_.extents().used());
  show(shown_.leases, core_.leases());
  show(shown_.pulls, pulls_.size());
  show(shown_.refused_since, ticks(core_.refused_since()));
  show(shown_.next_tick, ticks(core_.NextTick()));
}

ShardNumbers Shard::Numbers() const {
  ShardNumbers n;
  n.blocks = shown_.blocks;
  n.parts = shown_.parts;
  n.dram_parts = shown_.dram_parts;
  n.dram_bytes = shown_.dram_bytes;
  n.used = shown_.used;
  n.capacity = options_.core.extents.bytes_max;
  n.leases = shown_.leases;
  n.pulls = shown_.pulls;
  n.taking_bytes_total = shown_.taking_bytes_total;
  n.taking_bytes_done = shown_.taking_bytes_done;
  return n;
}

/// On the Loop, at every look of the judge.
void Shard::Beat() {
  if (core_.refused_since() != Instant::max()) Handle(event::Tick{});  // is there room by now?
  const MoveStatus taking = gatherer_->status();
  shown_.taking_bytes_total = taking.bytes_total;
  shown_.taking_bytes_done = taking.bytes_done;
  shown_.behind.store((std::chrono::steady_clock::now() - loop_.loop().Now()).count(), std::memory_order_relaxed);
}

void Shard::AddVitals(NodeHealth& health) {
  const HealthOptions& limits = options_.health;
  const std::string name = "shard." + std::to_string(options_.core.shard) + ".";
  const std::string of = " of shard " + std::to_string(options_.core.shard);
  const auto instant = [](const std::atomic<Duration::rep>& at) { return Instant(Duration(at.load(std::memory_order_relaxed))); };
  health.AddEcho({name + "loop", "the Loop" + of + " does not answer", limits.thread, "dram", true, true},
                 [this](NodeHealth::Answered answered) {
                   loop_.loop().Post([this, answered = std::move(answered)]() mutable {
                     Beat();
                     loop_.loop().At(loop_.loop().Now(), [answered = std::move(answered)] { answered(true); });  // timers run too
                   });
                 });
  health.AddCheck({name + "clock", "", {}, "dram"}, [this, of, limits]() -> std::string {
    const Duration behind(shown_.behind.load(std::memory_order_relaxed));
    if (behind <= limits.overdue) return "";
    return "the clock" + of + " is " + std::to_string(std::chrono::ceil<std::chrono::seconds>(behind).count()) + "s behind";
  });
  health.AddDue({name + "timers", "the timers" + of + " are late: leases do not end", limits.overdue, "dram"},
                [this, instant] { return instant(shown_.next_tick); });
  health.AddDue({name + "pulls", "a pull" + of + " did not end at its deadline", limits.overdue, "dram"},
                [this] { return pulls_.earliest(); });
  health.AddPulse({name + "checks", "landed bytes" + of + " wait for their check, and none ends", limits.thread, "dram"}, checks_);
  health.AddPulse({name + "writes", "parts" + of + " wait to be on the SSD, and none comes", limits.thread, "ssd"}, writes_);
  health.AddPulse({name + "reads", "parts" + of + " wait to come from the SSD, and none does", limits.thread, "ssd"}, reads_);
  health.AddDue({name + "room", "new blocks are refused: DRAM" + of + " is full and nothing may be evicted", limits.refused, "dram"},
                [this, instant] { return instant(shown_.refused_since); });
}

}  // namespace kvasir
