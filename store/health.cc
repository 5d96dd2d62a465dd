// SPDX-License-Identifier: Apache-2.0
// The judge: turns what each vital shows into how long it has been stalled.
#include "store/health.h"

#include <algorithm>
#include <utility>

#include "transport/check.h"

namespace kvasir {
namespace {

constexpr const char* kJudge = "judge";
constexpr Duration kWorthSaying = std::chrono::milliseconds(100);  ///< shorter troubles are told without their time

/// "3.2s": one digit is what an operator needs.
std::string Seconds(Duration duration) {
  const int64_t tenths = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count() / 100;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + "s";
}

}  // namespace

std::string HealthReport::Trouble() const {
  std::string text;
  for (const VitalReport& vital : vitals) {
    if (vital.trouble.empty() || !vital.counts) continue;
    text += (text.empty() ? "" : "; ") + vital.name + ": " + vital.trouble;
  }
  return text;
}

bool HealthReport::Serves(const std::string& service) const {
  return std::none_of(vitals.begin(), vitals.end(), [&service](const VitalReport& vital) {
    return !vital.trouble.empty() && vital.counts && vital.service == service;
  });
}

// ---- the kinds -------------------------------------------------------------------------------------------------------
void Health::AddWork(VitalSpec spec, std::function<Work()> read) {
  const std::string trouble = spec.trouble;
  Add(std::move(spec), [read = std::move(read), trouble, last = uint64_t{0}](Instant) mutable {
    const Work work = read();
    const bool moved = std::exchange(last, work.progress) != work.progress;
    return Seen{work.pending ? trouble : "", moved, std::nullopt};
  });
}

void Health::AddPulse(VitalSpec spec, const Pulse& pulse) {
  AddWork(std::move(spec), [&pulse] { return Work{pulse.open() > 0, pulse.ended()}; });
}

void Health::AddDue(VitalSpec spec, std::function<Instant()> earliest) {
  const std::string trouble = spec.trouble;
  Add(std::move(spec), [earliest = std::move(earliest), trouble](Instant now) {
    const Instant due = earliest();
    return due > now ? Seen{} : Seen{trouble, false, due};
  });
}

void Health::AddEcho(VitalSpec spec, std::function<void(Answered)> ask) {
  auto pulse = std::make_shared<Pulse>();  // shared: an answer may come when the vital is gone
  AddWork(std::move(spec), [pulse, ask = std::move(ask)] {
    if (pulse->open() == 0) {
      pulse->Begin();
      ask([pulse] { pulse->End(); });
    }
    return Work{pulse->open() > 0, pulse->ended()};
  });
}

void Health::AddCheck(VitalSpec spec, std::function<std::string()> trouble) {
  Add(std::move(spec), [trouble = std::move(trouble)](Instant) { return Seen{trouble(), false, std::nullopt}; });
}

void Health::Add(VitalSpec spec, std::function<Seen(Instant)> look) {
  MutexLock lock(judging_);
  KVASIR_CHECK(vitals_.size() < kVitalsMax, "more vitals than one report can hold");
  for (const auto& vital : vitals_) KVASIR_CHECK(vital->spec.name != spec.name, "two vitals of one name");
  vitals_.push_back(std::make_unique<Vital>());
  vitals_.back()->spec = std::move(spec);
  vitals_.back()->look = std::move(look);
}

void Health::Remove(const std::string& name) {
  MutexLock lock(judging_);
  std::erase_if(vitals_, [&name](const auto& vital) { return vital->spec.name == name; });
}

void Health::OnJudged(std::function<void(const HealthReport&)> told) {
  MutexLock lock(judging_);
  told_ = std::move(told);
}

// ---- the judge -------------------------------------------------------------------------------------------------------
VitalReport Health::Look(Vital& vital, Instant now) {
  Seen seen = vital.look(now);
  VitalReport report{vital.spec.name, vital.spec.service, "", {}, vital.spec.counts, 0};
  if (seen.trouble.empty() || seen.moved || !vital.looked) vital.well = now;
  vital.looked = true;
  const Duration lasting = now - seen.since.value_or(vital.well);
  // Without patience the first look counts; else trouble must outlast the limit.
  const bool stalled = !seen.trouble.empty() && (vital.spec.limit == Duration::zero() || lasting > vital.spec.limit);
  if (stalled) {
    report.lasting = lasting;
    report.trouble = std::move(seen.trouble) + (lasting < kWorthSaying ? "" : ", for " + Seconds(lasting));
    vital.stalls += vital.stalled ? 0 : 1;
  }
  vital.stalled = stalled;
  report.stalls = vital.stalls;
  return report;
}

std::vector<VitalReport> Health::Judge(Instant now) {
  MutexLock lock(judging_);
  HealthReport report;
  report.ready = true;
  report.judged = now;
  std::vector<VitalReport> changed;
  for (const auto& vital : vitals_) {
    const bool was = vital->stalled;
    report.vitals.push_back(Look(*vital, now));
    if (vital->stalled != was) changed.push_back(report.vitals.back());
    if (vital->stalled && vital->spec.counts) report.ready = false;
    if (vital->stalled && vital->spec.fatal && report.vitals.back().lasting > options_.dead) report.live = false;
  }
  {
    MutexLock copying(reporting_);
    report_ = report;
  }
  ready_.store(report.ready, std::memory_order_relaxed);
  if (told_) told_(report);
  return changed;
}

HealthReport Health::Report(Instant now) const {
  HealthReport report;
  {
    MutexLock lock(reporting_);
    report = report_;
  }
  VitalReport judge{kJudge, "", "", {}, true, 0};
  const Duration silent = now - report.judged;
  if (report.judged == Instant{}) {
    judge.trouble = "the node is starting: nothing was judged yet";
  } else if (silent > options_.silent) {
    judge.lasting = silent;
    judge.trouble = "the judge of this node's health has not looked for " + Seconds(silent);
    report.live = report.live && silent <= options_.dead;
  }
  report.ready = report.ready && judge.trouble.empty();
  report.vitals.push_back(std::move(judge));
  return report;
}

}  // namespace kvasir
