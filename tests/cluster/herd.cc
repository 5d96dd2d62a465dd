// SPDX-License-Identifier: Apache-2.0
#include "tests/cluster/herd.h"

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "transport/check.h"

namespace kvasir::cluster {
namespace {

constexpr Duration kPatience = std::chrono::seconds(120);  ///< sum of all a Session's own deadlines, amply

/// What came back. Callbacks add on Sessions' Loops.
class Returns {
 public:
  void Add(const absl::Status& status, bool existed) {
    MutexLock lock(mutex_);
    ++count_;
    ok_ += status.ok() ? 1 : 0;
    existed_ += existed ? 1 : 0;
    if (!status.ok() && ++statuses_[absl::StatusCodeToString(status.code())] == 1)
      examples_.push_back(status.ToString());
    changed_.NotifyAll();
  }
  void WaitFor(uint64_t count) {
    const Instant until = std::chrono::steady_clock::now() + kPatience;
    MutexLock lock(mutex_);
    while (count_ < count) {
      const Duration left = std::chrono::duration_cast<Duration>(until - std::chrono::steady_clock::now());
      KVASIR_CHECK(left > Duration::zero(), "every call answers within its deadline");
      changed_.WaitFor(mutex_, left);
    }
  }
  nlohmann::json ToJson() {
    MutexLock lock(mutex_);
    return {{"clients", count_},
            {"succeeded", ok_},
            {"existed", existed_},
            {"statuses", statuses_},
            {"examples", examples_}};
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  uint64_t count_ ABSL_GUARDED_BY(mutex_) = 0, ok_ ABSL_GUARDED_BY(mutex_) = 0, existed_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::string, uint64_t> statuses_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> examples_ ABSL_GUARDED_BY(mutex_);  ///< the first of each code
};

SessionOptions OptionsOf(const LoadOptions& load) {
  SessionOptions options;
  options.push_view = "raw";
  options.nodes = load.nodes;
  options.tenant = "cluster herd";
  options.domain = DomainOf(load.shape);
  options.ns = NamespaceOf(load.shape);
  options.layers_per_part = 1;
  options.heads_per_part = 1;
  options.replicas = load.replicas;
  options.transports = load.transports;
  options.staging_bytes = 8u << 20;
  // A herd waits in queues: what is counted here is fills, not time.
  options.push_deadline = options.fetch_deadline = options.call_deadline = std::chrono::seconds(60);
  return options;
}

}  // namespace

absl::StatusOr<nlohmann::json> RunHerd(const LoadOptions& load, const HerdOptions& herd) {
  const Prompt prompt = MakePrompt(load.shape, herd.prompt);
  PromptShape one_block = load.shape;
  one_block.blocks = 1;
  Returns returns;
  std::deque<PromptPages> pages;  // a fetch needs its own; outlives the Sessions
  std::vector<std::unique_ptr<Session>> sessions;
  for (uint32_t i = 0; i < herd.sessions; ++i) {
    auto session = Session::Open(OptionsOf(load));
    if (!session.ok()) return session.status();
    sessions.push_back(*std::move(session));
  }
  for (uint32_t i = 0; i < (herd.push ? 1 : herd.clients); ++i) pages.emplace_back(one_block);
  if (herd.push) pages[0].Fill(prompt.chain, 0);
  const Instant begin = std::chrono::steady_clock::now();
  for (uint32_t i = 0; i < herd.clients; ++i) {
    Session& session = *sessions[i % sessions.size()];
    const PromptPages& mine = pages[herd.push ? 0 : i];
    if (herd.push) {
      PushRequest request;
      request.chain = &prompt.chain;
      request.cache = &mine.cache();
      request.pages = mine.table();
      request.view = prompt.view.spec;
      session.Push(std::move(request),
                   [&returns](const PushResult& result) { returns.Add(result.status, result.existed > 0); });
    } else {
      FetchRequest request;
      request.chain = &prompt.chain;
      request.blocks = 1;
      request.cache = &mine.cache();
      request.pages = mine.table();
      request.accept = {prompt.view.spec};
      session.Fetch(std::move(request), [&returns](const FetchResult& result) { returns.Add(result.status, false); });
    }
  }
  returns.WaitFor(herd.clients);
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
  nlohmann::json out = returns.ToJson();
  uint64_t wrong = 0;
  // A fetch that was not ok left its pages poisoned or half written: only whole ones are judged, and they are the ok
  // ones unless something is wrong, which is what is counted.
  if (!herd.push) {
    uint64_t right = 0;
    for (const PromptPages& page : pages) right += page.FirstWrong(prompt.chain, 0, prompt.view).empty() ? 1 : 0;
    const uint64_t ok = out["succeeded"];
    wrong = ok > right ? ok - right : 0;
  }
  out["wrong"] = wrong;
  out["ms"] = ms;
  return out;
}

}  // namespace kvasir::cluster
