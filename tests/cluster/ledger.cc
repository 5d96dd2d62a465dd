// SPDX-License-Identifier: Apache-2.0
#include "tests/cluster/ledger.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/check.h"

namespace kvasir::cluster {

const char* Name(Level level) { return level == Level::kReplicated ? "REPLICATED" : "REPLICATED+DURABLE"; }

Percentiles PercentilesOf(std::vector<uint32_t>& microseconds) {
  Percentiles found;
  found.count = microseconds.size();
  if (microseconds.empty()) return found;
  std::sort(microseconds.begin(), microseconds.end());
  const auto at = [&](uint64_t permille) {
    const uint64_t rank = (found.count * permille + 999) / 1000;  // of 1..count
    return microseconds[std::max<uint64_t>(rank, 1) - 1] / 1000.0;
  };
  found.p50_ms = at(500);
  found.p99_ms = at(990);
  found.p999_ms = at(999);
  found.max_ms = at(1000);
  return found;
}

void Ledger::Example(const std::string& text) {
  Both([&](Figures& f) {
    if (f.examples.size() < Figures::kExamplesMax) f.examples.push_back(text);
  });
}

void Ledger::Pushed(uint32_t prompt, uint32_t block, Level level, const absl::Status& status, bool existed) {
  if (status.ok()) Adopt(prompt, block, level);
  MutexLock lock(mutex_);
  Both([&](Figures& f) {
    ++f.pushes;
    f.acked += status.ok() ? 1 : 0;
    f.existed += existed ? 1 : 0;
    if (status.ok()) return;
    ++f.errors;
    ++f.statuses[absl::StrCat("push ", absl::StatusCodeToString(status.code()))];
  });
  if (!status.ok()) Example(absl::StrCat("push of prompt ", prompt, " block ", block, ": ", status.ToString()));
  changed_.NotifyAll();
}

void Ledger::Adopt(uint32_t prompt, uint32_t block, Level level) {
  KVASIR_CHECK(block < blocks_per_prompt_, "a block of the prompt");
  MutexLock lock(mutex_);
  Entry& entry = prompts_[prompt];
  if (block == 0 && !entry.acked.contains(0)) readable_.push_back(prompt);
  Level& known = entry.acked.try_emplace(block, level).first->second;
  known = std::max(known, level);
}

void Ledger::Attempted(const Attempt& attempt) {
  const uint32_t missed = attempt.expected - std::min(attempt.got, attempt.expected);
  const bool error = missed > 0 && !absl::IsNotFound(attempt.status);
  MutexLock lock(mutex_);
  Both([&](Figures& f) {
    ++f.attempts;
    f.fetched += attempt.got;
    f.hits += attempt.expected - missed;
    f.missed += missed;
    f.errors += error ? 1 : 0;
    f.wrong += attempt.wrong.size();
    if (missed > 0) ++f.statuses[absl::StrCat("fetch ", absl::StatusCodeToString(attempt.status.code()))];
  });
  for (const std::string& where : attempt.wrong)
    Example(absl::StrCat("WRONG BYTES in prompt ", attempt.prompt, ": ", where));
  if (missed == 0 || attempt.again) return;
  Example(absl::StrCat("fetch of prompt ", attempt.prompt, " got ", attempt.got, " of ", attempt.expected,
                       " acked blocks: ", attempt.status.ToString()));
}

void Ledger::ReadEnded(uint32_t prompt, Instant begin, Instant end, bool satisfied, bool failed_first) {
  const auto us = static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(end - begin).count());
  MutexLock lock(mutex_);
  Both([&](Figures& f) {
    ++f.reads;
    if (f.read_us.size() < Figures::kSamplesMax)
      f.read_us.push_back(static_cast<uint32_t>(std::min<uint64_t>(us, ~0u)));
    if (failed_first || !satisfied) f.longest_outage_us = std::max(f.longest_outage_us, us);
    if (satisfied) return;
    ++f.given_up;
    ++f.errors;
  });
  if (!satisfied) {
    prompts_[prompt].given_up = true;
    std::erase(readable_, prompt);
    unswept_.erase(prompt);
    Example(absl::StrCat("prompt ", prompt, " could not be read for ", us / 1000, " ms: given up"));
  } else if (begin >= marked_) {
    unswept_.erase(prompt);
  }
  changed_.NotifyAll();
}

uint32_t Ledger::AckedPrefix(uint32_t prompt) const {
  MutexLock lock(mutex_);
  const auto entry = prompts_.find(prompt);
  if (entry == prompts_.end()) return 0;
  uint32_t prefix = 0;
  while (entry->second.acked.contains(prefix)) ++prefix;
  return prefix;
}

std::map<uint32_t, std::map<uint32_t, Level>> Ledger::AckedBlocks() const {
  MutexLock lock(mutex_);
  std::map<uint32_t, std::map<uint32_t, Level>> acked;
  for (const auto& [prompt, entry] : prompts_) acked[prompt] = entry.acked;
  return acked;
}

bool Ledger::Choose(uint64_t random, uint32_t* prompt) {
  MutexLock lock(mutex_);
  if (random % 2 == 0 && !unswept_.empty()) {
    auto next = unswept_.upper_bound(sweep_at_);  // round and round: several readers do not choose the same
    if (next == unswept_.end()) next = unswept_.begin();
    *prompt = sweep_at_ = *next;
    return true;
  }
  if (readable_.empty()) return false;
  *prompt = readable_[random / 2 % readable_.size()];
  return true;
}

Figures Ledger::Mark(Instant now) {
  MutexLock lock(mutex_);
  marked_ = now;
  unswept_ = std::set<uint32_t>(readable_.begin(), readable_.end());
  return std::exchange(since_mark_, Figures());
}

Figures Ledger::Total() const {
  MutexLock lock(mutex_);
  return total_;
}

bool Ledger::Reached(const Progress& progress) const {
  return since_mark_.reads >= progress.reads && since_mark_.acked >= progress.acked &&
         (!progress.sweep || unswept_.empty());
}

bool Ledger::Await(const Progress& progress, Duration patience) {
  const Instant until = std::chrono::steady_clock::now() + patience;
  MutexLock lock(mutex_);
  while (!Reached(progress)) {
    const Duration left = std::chrono::duration_cast<Duration>(until - std::chrono::steady_clock::now());
    if (left <= Duration::zero()) return false;
    changed_.WaitFor(mutex_, left);
  }
  return true;
}

}  // namespace kvasir::cluster
