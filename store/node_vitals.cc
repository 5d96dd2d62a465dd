// SPDX-License-Identifier: Apache-2.0
// NodeImpl: what can stall in a node beside its shards, the judge that looks, and numbers that wait for nobody.
#include "store/node_impl.h"

namespace kvasir {

void NodeImpl::AddVitals() {
  const HealthOptions& limits = options_.health;
  for (auto& shard : shards_) shard->AddVitals(health_);
  health_.AddEcho({"keeper", "the Loop that keeps sessions does not answer", limits.thread, "", true, true},
                  [this](NodeHealth::Answered answered) {
                    keeper_.loop().Post([this, answered = std::move(answered)]() mutable {
                      keeper_.loop().At(keeper_.loop().Now(), [answered = std::move(answered)] { answered(true); });
                    });
                  });
  health_.AddPulse({"check.queue", "bytes wait to be checked, and no thread takes them", limits.thread, "dram"}, workers_->queued());
  for (uint32_t i = 0; i < workers_->threads(); ++i) {
    const std::string number = std::to_string(i);
    health_.AddPulse({"check." + number, "checking thread " + number + " does not end what it took", limits.thread, "dram", true, true},
                     workers_->busy(i));
  }
  health_.AddCheck({"sessions", "", limits.refused}, [this]() -> std::string {
    if (session_count_ < options_.sessions_max) return "";
    return "the table of sessions is full (" + std::to_string(options_.sessions_max) + "): new clients are refused";
  });
  health_.AddCheck({"recovery", "", {}}, [this]() -> std::string {
    return shards_recovering_ == 0 ? "" : "parts found on the SSD are being taken in";
  });
  health_.AddCheck({"serving", "", {}}, [this]() -> std::string {
    return state_ == MemberState::kDraining ? "draining: it takes no new blocks" : "";
  });
  if (ssd_ != nullptr) AddSsdVitals();
}

void NodeImpl::AddSsdVitals() {
  const HealthOptions& limits = options_.health;
  const auto thread = [this](std::string name, std::string trouble, auto&& pick) {
    VitalSpec spec{std::move(name), std::move(trouble), options_.health.thread, "ssd", true, true};
    health_.AddWork(std::move(spec), [this, pick] {
      const SsdVitals::Thread shown = pick(ssd_->Vitals());
      return NodeHealth::Work{shown.busy, shown.progress};
    });
  };
  thread("ssd.writer", "the disk's writing thread does not end what it took", [](const SsdVitals& v) { return v.writer; });
  for (size_t i = 0; i < ssd_->Vitals().readers.size(); ++i) {
    const std::string number = std::to_string(i);
    thread("ssd.reader." + number, "the disk's reading thread " + number + " does not end what it took",
           [i](const SsdVitals& v) { return v.readers[i]; });
  }
  health_.AddDue({"ssd.slow_writes", "the disk is slow: a write waits", limits.disk_slow, "ssd"},
                 [this] { return ssd_->Vitals().oldest_write; });
  health_.AddDue({"ssd.slow_reads", "the disk is slow: a read waits", limits.disk_slow, "ssd"},
                 [this] { return ssd_->Vitals().oldest_read; });
  health_.AddCheck({"ssd.space", "", limits.refused, "ssd"}, [this]() -> std::string {
    return ssd_->Vitals().out_of_space ? "the disk is full: nothing new is kept there. Free some space on it" : "";
  });
  health_.AddCheck({"ssd.device", "", {}, "ssd"}, [this]() -> std::string {
    const std::string cause = ssd_->Failure();
    return cause.empty() ? "" : "the disk failed and is read only: " + cause + ". Replace it and restart the node";
  });
}

/// On the judge's thread.
void NodeImpl::JudgeHealth() {
  if (!judging_) return;
  Task judge = [this] { judge_.loop().Post([this] { JudgeHealth(); }); };
  if (options_.hold && options_.hold("judge", judge)) return;
  const bool first = health_.Report(judge_.loop().Now()).judged == Instant{};  // what is not there yet at the start is no news
  for (const VitalReport& vital : health_.Judge(judge_.loop().Now())) {
    if (first) continue;
    if (vital.trouble.empty()) {
      options_.log(Severity::kInfo, "well again", {{"vital", vital.name}});
    } else {
      options_.log(Severity::kWarning, vital.counts ? "not ready" : "trouble", {{"vital", vital.name}, {"cause", vital.trouble}});
    }
  }
  judge_.loop().After(options_.health.every, [this] { JudgeHealth(); });
}

NodeNumbers NodeImpl::Numbers() const {
  NodeNumbers numbers;
  numbers.sessions = session_count_;
  numbers.object_bytes = objects_->bytes();
  numbers.object_bytes_max = objects_->bytes_max();
  TierStatus dram{"dram", "ok", 0, 0, 0, 0};
  for (const auto& shard : shards_) {
    const ShardNumbers held = shard->Numbers();
    numbers.leases += held.leases;
    numbers.blocks += held.blocks;
    numbers.parts += held.parts;
    numbers.pulls += held.pulls;
    numbers.taking_over.bytes_total += held.taking_bytes_total;
    numbers.taking_over.bytes_done += held.taking_bytes_done;
    dram.capacity += held.capacity;
    dram.used += held.used;
    dram.live += held.dram_bytes;
    dram.parts += held.dram_parts;
  }
  numbers.handing_over = HandingOver();
  numbers.tiers.push_back(std::move(dram));
  if (ssd_ == nullptr) return numbers;
  const SsdStatus ssd = ssd_->Status();
  numbers.ssd_read_errors = ssd.read_errors;
  numbers.ssd_write_errors = ssd.write_errors;
  numbers.tiers.push_back(SsdTierStatus(ssd));
  return numbers;
}

std::vector<std::pair<std::string, std::string>> NodeImpl::Features() const {
  auto features = options_.features;
  if (ssd_ == nullptr) {
    features.emplace_back("io_uring", "off: there is no SSD tier");
    return features;
  }
  constexpr std::string_view kWhyNot = "(io_uring: ";
  const std::string io = ssd_->Status().io;
  const size_t why = io.find(kWhyNot);
  const size_t begin = why + kWhyNot.size();
  features.emplace_back("io_uring", why == std::string::npos ? "on" : "off: " + io.substr(begin, io.find(')', begin) - begin));
  features.emplace_back("O_DIRECT", io.ends_with("O_DIRECT") ? "on" : "off: the file system of the SSD tier refuses it");
  return features;
}

}  // namespace kvasir
