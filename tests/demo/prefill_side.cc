// SPDX-License-Identifier: Apache-2.0
// Pushes, one a layer of a block, and the count of what is still under way.
#include "tests/demo/prefill_side.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "transport/sync.h"

namespace kvasir::demo {
namespace {

/// Counts the pushes of one sequence. Begin on the engine's thread, Done on the Session's Loop, Wait on the engine's.
class PushCount {
 public:
  void Begin() {
    MutexLock lock(mutex_);
    ++under_way_;
  }
  void Done(const PushResult& result) {
    MutexLock lock(mutex_);
    if (!result.status.ok() && sum_.status.ok()) sum_.status = result.status;
    sum_.replicas = first_ ? result.replicas : std::min(sum_.replicas, result.replicas);
    first_ = false;
    sum_.parts_existed += result.existed;
    sum_.raw_bytes += result.raw_bytes;
    sum_.stored_bytes += result.stored_bytes;
    if (--under_way_ == 0) idle_.NotifyAll();
  }
  PushSummary Wait() {
    MutexLock lock(mutex_);
    while (under_way_ > 0) idle_.Wait(mutex_);
    return sum_;
  }

 private:
  Mutex mutex_;
  CondVar idle_;
  uint32_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  bool first_ ABSL_GUARDED_BY(mutex_) = true;
  PushSummary sum_ ABSL_GUARDED_BY(mutex_);
};

/// The pushes of one sequence out of one engine's pages.
class Pusher {
 public:
  Pusher(Session& session, TextEngine& engine, std::span<const uint32_t> tokens, std::string view)
      : session_(session), engine_(engine), chain_(session.Chain(tokens)), view_(std::move(view)) {}
  ~Pusher() { count_.Wait(); }  // the chain is borrowed until then

  void PushLayer(uint32_t layer, uint32_t first_block, uint32_t end_block) {
    for (uint32_t block = first_block; block < end_block; ++block) {
      count_.Begin();
      const model::PagedKv& pages = engine_.rank(0);
      session_.Push({.chain = &chain_,
                     .block = block,
                     .first_layer = layer,
                     .layers = 1,
                     .cache = &pages.cache(),
                     .pages = pages.pages(),
                     .stream = nullptr,
                     .view = view_},
                    [this, block, layer, begin = std::chrono::steady_clock::now()](PushResult result) {
                      engine_.trace().Add(
                          {"push", block, layer, begin, std::chrono::steady_clock::now(), result.stored_bytes});
                      count_.Done(result);
                    });
    }
  }
  PushSummary Finish(Instant computed) {
    PushSummary sum = count_.Wait();
    sum.blocks = static_cast<uint32_t>(chain_.size());
    sum.computed = computed;
    sum.acknowledged = std::chrono::steady_clock::now();
    return sum;
  }

 private:
  Session& session_;
  TextEngine& engine_;
  const PrefixChain chain_;
  const std::string view_;
  PushCount count_;
};

}  // namespace

SessionOptions DemoSession(const StoreAddress& store, TextEngine& engine) {
  const model::Model& model = engine.model();
  SessionOptions options;
  options.push_view = "raw";  // every push names its own
  options.nodes = store.nodes;
  options.tenant = "demo";
  options.domain = DomainKey::FromPassphrase("kvasir demo");
  options.ns.name = "reference model";
  if (const auto digest = FromHex(model.WeightsDigest()); digest.ok()) options.ns.weights.bytes = *digest;
  options.ns.layout = model.layout();
  options.ns.block_tokens = kBlockTokens;
  options.ns.rope_theta = model.config().rope_theta;
  options.layers_per_part = 1;
  options.heads_per_part = 1;
  // Generous: on a busy machine the demo shall be slow, not wrong.
  options.push_deadline = std::chrono::seconds(30);
  options.fetch_deadline = std::chrono::seconds(15);
  options.call_deadline = std::chrono::seconds(5);
  options.transports = store.transports;
  options.trace = engine.trace().Sink();
  return options;
}

absl::StatusOr<Session*> PrefillSide::SessionFor(const PushOptions& options) {
  std::unique_ptr<Session>& session = sessions_[{options.replicas, options.durable}];
  if (session == nullptr) {
    SessionOptions wanted = DemoSession(store_, engine_);
    wanted.replicas = options.replicas;
    wanted.ack = options.durable ? Ack::kDurable : Ack::kVolatile;
    auto opened = Session::Open(std::move(wanted));
    if (!opened.ok()) return opened.status();
    session = *std::move(opened);
  }
  return session.get();
}

absl::StatusOr<PushSummary> PrefillSide::Prefill(std::span<const uint32_t> tokens, const PushOptions& options) {
  const auto session = SessionFor(options);
  if (!session.ok()) return session.status();
  Pusher pusher(**session, engine_, tokens, options.view);
  Hooks hooks;
  hooks.layer_written = [&](uint32_t layer, uint32_t first, uint32_t count) {
    pusher.PushLayer(layer, first / kBlockTokens, (first + count) / kBlockTokens);
  };
  const auto computed = engine_.Compute(tokens, 0, model::LogitsOf::kLast, hooks);
  if (!computed.ok()) return computed.status();
  return pusher.Finish(std::chrono::steady_clock::now());
}

absl::StatusOr<PushSummary> PrefillSide::PushAgain(std::span<const uint32_t> tokens, const PushOptions& options) {
  const auto session = SessionFor(options);
  if (!session.ok()) return session.status();
  Pusher pusher(**session, engine_, tokens, options.view);
  for (uint32_t layer = 0; layer < engine_.model().config().layers; ++layer) {
    pusher.PushLayer(layer, 0, static_cast<uint32_t>(tokens.size()) / kBlockTokens);
  }
  return pusher.Finish(std::chrono::steady_clock::now());
}

}  // namespace kvasir::demo
