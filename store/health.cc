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
void NodeHealth::AddWork(VitalSpec spec, std::function<Work()> read) {
  const std::string trouble = spec.trouble;
  Add(std::move(spec), [read = std::move(read), trouble, last = std::optional<uint64_t>()](Instant) mutable {
    const Work work = read();
    const bool moved = std::exchange(last, work.progress) != work.progress;  // the first look has nothing to compare
    return Seen{work.pending ? trouble : "", moved, std::nullopt};
  });
}

void NodeHealth::AddPulse(VitalSpec spec, const Pulse& pulse) {
  AddWork(std::move(spec), [&pulse] { return Work{pulse.open() > 0, pulse.ended()}; });
}

void NodeHealth::AddDue(VitalSpec spec, std::function<Instant()> earliest) {
  const std::string trouble = spec.trouble;
  Add(std::move(spec), [earliest = std::move(earliest), trouble](Instant now) {
    const Instant due = earliest();
    return due > now ? Seen{} : Seen{trouble, false, due};
  });
}

void NodeHealth::AddEcho(VitalSpec spec, std::function<void(Answered)> ask) {
  struct Question {
    std::atomic<bool> open{false};
    std::atomic<uint64_t> answers{0};
  };
  auto question = std::make_shared<Question>();  // shared: an answer may come when the vital is gone
  AddWork(std::move(spec), [question, ask = std::move(ask)] {
    const uint64_t answers = question->answers;
    if (!question->open.exchange(true)) {
      ask([question](bool well) {
        question->answers += well ? 1 : 0;
        question->open = false;
      });
    }
    return Work{true, answers};  // there is always a question: answers must go on coming
  });
}

void NodeHealth::AddCheck(VitalSpec spec, std::function<std::string()> trouble) {
  Add(std::move(spec), [trouble = std::move(trouble)](Instant) { return Seen{trouble(), false, std::nullopt}; });
}

void NodeHealth::Add(VitalSpec spec, std::function<Seen(Instant)> look) {
  MutexLock lock(judging_);
  KVASIR_CHECK(vitals_.size() < kVitalsMax, "more vitals than one report can hold");
  for (const auto& vital : vitals_) KVASIR_CHECK(vital->spec.name != spec.name, "two vitals of one name");
  {
    MutexLock copying(reporting_);  // listed from now on, well until it is looked at
    report_.vitals.push_back({spec.name, spec.service, "", {}, spec.counts, 0});
  }
  vitals_.push_back(std::make_unique<Vital>());
  vitals_.back()->spec = std::move(spec);
  vitals_.back()->look = std::move(look);
}

void NodeHealth::Remove(const std::string& name) {
  MutexLock lock(judging_);
  std::erase_if(vitals_, [&name](const auto& vital) { return vital->spec.name == name; });
}

void NodeHealth::OnJudged(std::function<void(const HealthReport&)> told) {
  MutexLock lock(judging_);
  told_ = std::move(told);
}

// ---- the judge -------------------------------------------------------------------------------------------------------
VitalReport NodeHealth::Look(Vital& vital, Instant now) {
  Seen seen = vital.look(now);
  VitalReport report{vital.spec.name, vital.spec.service, "", {}, vital.spec.counts, 0};
  if (seen.trouble.empty() || seen.moved || !vital.looked) vital.well = now;
  vital.looked = true;
  const Duration lasting = now - seen.since.value_or(vital.well);
  // Without patience trouble counts at its first look; else it must outlast the limit.
  const bool patient = vital.spec.limit > Duration::zero();
  const bool stalled = !seen.trouble.empty() && !seen.moved && (!patient || lasting > vital.spec.limit);
  if (stalled) {
    report.lasting = lasting;
    report.trouble = std::move(seen.trouble) + (lasting < kWorthSaying ? "" : ", for " + Seconds(lasting));
    vital.stalls += vital.stalled ? 0 : 1;
  }
  vital.stalled = stalled;
  report.stalls = vital.stalls;
  return report;
}

std::vector<VitalReport> NodeHealth::Judge(Instant now) {
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

HealthReport NodeHealth::Report(Instant now) const {
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
