// SPDX-License-Identifier: Apache-2.0
// Rank threads that fetch, and the computation that waits for them layer by layer.
#include "tests/demo/decode_side.h"

#include <algorithm>
#include <future>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "transport/sync.h"

namespace kvasir::demo {
namespace {

/// The fetch of one rank, on a thread of its own; ends with the fetch.
class RankFetch {
 public:
  RankFetch(Session& session, FetchRequest request, uint32_t layers) {
    thread_ = std::thread([this, &session, request = std::move(request), layers] { Run(session, request, layers); });
  }
  ~RankFetch() { thread_.join(); }
  RankFetch(const RankFetch&) = delete;
  RankFetch& operator=(const RankFetch&) = delete;

  /// Blocks that will come unless something fails.
  uint32_t WaitFound() {
    MutexLock lock(mutex_);
    while (!found_) changed_.Wait(mutex_);
    return *found_;
  }
  /// Leading blocks that have the layer, once no more come.
  uint32_t WaitLayer(uint32_t layer) {
    MutexLock lock(mutex_);
    while (layers_.size() <= layer) changed_.Wait(mutex_);
    return layers_[layer];
  }
  FetchResult WaitEnd() {
    MutexLock lock(mutex_);
    while (!result_) changed_.Wait(mutex_);
    return *result_;
  }

 private:
  void Run(Session& session, const FetchRequest& request, uint32_t layers) {
    std::promise<FetchResult> ended;
    const FetchId id = session.Fetch(request, [&](FetchResult result) { ended.set_value(std::move(result)); });
    Tell([&, found = session.WaitFound(id).value_or(0)] { found_ = found; });
    for (uint32_t layer = 0; layer < layers; ++layer) {
      Tell([&, blocks = session.WaitLayer(id, layer, nullptr).value_or(0)] { layers_.push_back(blocks); });
    }
    Tell([&, result = ended.get_future().get()] { result_ = result; });
  }
  template <class Change>
  void Tell(Change change) {
    MutexLock lock(mutex_);
    change();
    changed_.NotifyAll();
  }

  // Guarded by mutex_: said in words, since the lambdas of Run are beyond the analysis.
  Mutex mutex_;
  CondVar changed_;
  std::optional<uint32_t> found_;
  std::vector<uint32_t> layers_;
  std::optional<FetchResult> result_;
  std::thread thread_;
};

/// The fetches of all ranks for one sequence.
class JobFetch {
 public:
  JobFetch(TextEngine& engine, const std::vector<std::unique_ptr<Session>>& sessions, const FetchRequest& request) {
    for (size_t rank = 0; rank < sessions.size(); ++rank) {
      FetchRequest mine = request;
      mine.cache = &engine.rank(rank).cache();
      mine.pages = engine.rank(rank).pages();
      ranks_.push_back(
          std::make_unique<RankFetch>(*sessions[rank], std::move(mine), engine.model().config().layers));
    }
  }
  /// Leading blocks that every rank found. Where they differ, waits for the end, so that nobody writes pages any more
  /// which the computation takes for its own.
  uint32_t WaitFound() {
    uint32_t least = ~0u, most = 0;
    for (auto& rank : ranks_) {
      const uint32_t found = rank->WaitFound();
      least = std::min(least, found);
      most = std::max(most, found);
    }
    return least == most ? least : WaitEnd().blocks;
  }
  bool LayerHas(uint32_t layer, uint32_t blocks) {
    return std::all_of(ranks_.begin(), ranks_.end(), [&](auto& rank) { return rank->WaitLayer(layer) >= blocks; });
  }
  FetchSummary WaitEnd() {
    FetchSummary sum;
    sum.blocks = ~0u;
    for (auto& rank : ranks_) {
      FetchResult result = rank->WaitEnd();
      sum.moved_bytes += result.moved_bytes;
      sum.raw_bytes += result.raw_bytes;
      if (result.blocks < sum.blocks) sum.status = result.status;
      sum.blocks = std::min(sum.blocks, result.blocks);
      if (sum.views.empty()) sum.views = std::move(result.views);
    }
    return sum;
  }

 private:
  std::vector<std::unique_ptr<RankFetch>> ranks_;
};

/// Without the pages: each rank puts its own. No blocks = to the end of the chain.
FetchRequest RequestFor(const PrefixChain& chain, uint32_t first_block, uint32_t blocks,
                        const std::vector<std::string>& accept) {
  FetchRequest request;
  request.chain = &chain;
  request.first_block = first_block;
  request.blocks = blocks;
  request.accept = accept;
  return request;
}

MatchResult MatchAndWait(Session& session, const PrefixChain& chain) {
  std::promise<MatchResult> done;
  session.Match(chain, [&](MatchResult result) { done.set_value(std::move(result)); });
  return done.get_future().get();
}

}  // namespace

absl::StatusOr<std::unique_ptr<DecodeSide>> DecodeSide::Open(TextEngine& engine, const StoreAddress& store) {
  std::unique_ptr<DecodeSide> side(new DecodeSide(engine));
  for (size_t rank = 0; rank < engine.ranks(); ++rank) {
    auto session = Session::Open(DemoSession(store, engine));
    if (!session.ok()) return session.status();
    side->sessions_.push_back(*std::move(session));
  }
  return side;
}

absl::StatusOr<Continuation> DecodeSide::Generate(std::span<const uint32_t> prompt,
                                                  const std::vector<std::string>& accept, uint32_t count) {
  Continuation out;
  out.begin = std::chrono::steady_clock::now();
  const auto size = static_cast<uint32_t>(prompt.size());
  const PrefixChain chain = sessions_[0]->Chain(prompt);
  out.matched_blocks = MatchAndWait(*sessions_[0], chain).blocks;
  JobFetch fetch(engine_, sessions_, RequestFor(chain, 0, 0, accept));

  uint32_t blocks = fetch.WaitFound();
  Hooks hooks;
  hooks.before_layer = [&](uint32_t layer) { return fetch.LayerHas(layer, blocks); };
  for (;;) {
    // The last token is always computed: its logits are what the first new token comes from.
    const uint32_t first = std::min(blocks * kBlockTokens, size - 1);
    const auto logits = engine_.Compute(prompt, first, model::LogitsOf::kLast, hooks);
    if (!logits.ok() && !absl::IsUnavailable(logits.status())) return logits.status();
    if (logits.ok()) {
      out.first_token = std::chrono::steady_clock::now();
      out.computed_tokens += size - first;
      auto text = engine_.Continue(*logits, size - 1, count);
      if (!text.ok()) return text.status();
      out.text = *std::move(text);
      break;
    }
    // Damage was found late: what really came is known when the fetch has ended; from there on it is computed.
    blocks = fetch.WaitEnd().blocks;
    hooks.before_layer = nullptr;
    ++out.restarts;
  }
  out.end = std::chrono::steady_clock::now();
  out.fetched = fetch.WaitEnd();
  return out;
}

FetchSummary DecodeSide::Fetch(std::span<const uint32_t> tokens, uint32_t first_block, uint32_t blocks,
                               const std::vector<std::string>& accept) {
  const PrefixChain chain = sessions_[0]->Chain(tokens);
  JobFetch fetch(engine_, sessions_, RequestFor(chain, first_block, blocks, accept));
  return fetch.WaitEnd();
}

std::vector<std::pair<std::string, uint64_t>> DecodeSide::Counters() const {
  std::map<std::string, uint64_t> sum;
  for (const auto& session : sessions_) {
    for (const auto& [name, value] : session->Counters()) sum[name] += value;
  }
  return {sum.begin(), sum.end()};
}

}  // namespace kvasir::demo
