// SPDX-License-Identifier: Apache-2.0
// Session: the public face. Every method posts to the Session's Loop, where router, pushes and fetches live.
#include "client/session.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/auto_view.h"
#include "client/desk.h"
#include "client/dial.h"
#include "client/fetch.h"
#include "client/inputs_keeper.h"
#include "client/layer_gate.h"
#include "client/matcher.h"
#include "client/push.h"
#include "client/router.h"
#include "client/selected.h"
#include "transport/check.h"

namespace kvasir {

namespace client {
namespace {

/// Blocks the calling thread until another has given a value.
template <class T>
class Handover {
 public:
  void Give(T value) {
    MutexLock lock(mutex_);
    value_ = std::move(value);
    changed_.NotifyAll();
  }
  T Take() {
    MutexLock lock(mutex_);
    while (!value_) changed_.Wait(mutex_);
    return *std::move(value_);
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  std::optional<T> value_ ABSL_GUARDED_BY(mutex_);
};

Counter CounterOf(LinkNews news) {
  switch (news) {
    case LinkNews::kHello: return Counter::kHellos;
    case LinkNews::kOffer: return Counter::kOffers;
    case LinkNews::kAcquire: return Counter::kAcquires;
    case LinkNews::kLeaseLost: return Counter::kLeasesLost;
    case LinkNews::kNodeFailure: break;
  }
  return Counter::kNodeFailures;
}

class SessionImpl : public Session {
 public:
  SessionImpl(SessionOptions options, std::unique_ptr<Staging> staging)
      : options_(std::move(options)),
        staging_(std::move(staging)),
        views_(options_.ns.layout),
        thread_(std::make_unique<LoopThread>("kvasir-session")),
        mailbox_(std::make_shared<Mailbox>(thread_->loop())),
        bench_(mailbox_, *options_.device, options_.codec_threads),
        desk_{.loop = thread_->loop(), .options = options_, .ns_digest = options_.ns.Digest(),
              .mailbox = mailbox_, .counters = counters_, .staging = *staging_,
              .bench = bench_, .views = views_, .writer = NewIncarnation(), .links = Links(), .push_view = options_.push_view},
        router_(desk_),
        matches_(desk_, router_),
        pushes_(desk_, router_),
        keeper_(desk_, router_),
        exchange_(desk_, keeper_),
        selected_(desk_, pushes_, exchange_),
        fetches_(desk_, router_) {}
  ~SessionImpl() override;
  absl::Status Connect();
  /// Makes "auto" a view. Blocks for the trial where there is no choice yet.
  void AgreeOnView();

  const Namespace& ns() const override { return options_.ns; }
  std::string push_view() const override { return desk_.push_view; }
  PrefixChain Chain(std::span<const uint32_t> tokens) const override {
    return PrefixChain::FromTokens(options_.domain, options_.ns, tokens);
  }
  Membership membership() const override { return router_.membership(); }
  uint32_t run_blocks() const override { return router_.run_blocks(); }

  void Match(const PrefixChain& chain, std::function<void(MatchResult)> done) override;
  void Push(PushRequest request, std::function<void(PushResult)> done) override;
  void PushSelected(PushSelectedRequest request, std::function<void(PushResult)> done) override;
  void KeepInputs(const PrefixChain& chain, std::string_view about, const SelectInputs& inputs,
                  std::function<void(absl::Status)> done) override;
  void LoadInputs(const PrefixChain& chain, std::string_view about,
                  std::function<void(absl::StatusOr<std::shared_ptr<const KeptInputs>>)> done) override;
  void DropInputs(const PrefixChain& chain, std::string_view about, std::function<void(absl::Status)> done) override;
  void DropScores(const PrefixChain& chain, std::string_view spec, std::string_view about,
                  std::function<void(absl::Status)> done) override;
  absl::StatusOr<std::string> SelectedView(const PrefixChain& chain, std::string_view spec,
                                           std::string_view about) const override;
  FetchId Fetch(FetchRequest request, std::function<void(FetchResult)> done) override;
  absl::StatusOr<uint32_t> WaitLayer(FetchId fetch, uint32_t layer, Stream stream) override;
  absl::StatusOr<uint32_t> WaitFound(FetchId fetch) override;
  void Release(const PrefixChain& chain) override { Wish(chain, Duration::zero()); }
  void Keep(const PrefixChain& chain, Duration how_long) override { Wish(chain, how_long); }
  std::vector<std::pair<std::string, uint64_t>> Counters() const override { return counters_.Read(); }

 private:
  LinkDesk Links();
  absl::StatusOr<std::shared_ptr<LayerGate>> GateOf(FetchId fetch) const;
  void Wish(const PrefixChain& chain, Duration keep_for);
  void StartFetch(FetchOrder order);

  // Destroyed by hand, in the order that ~SessionImpl gives.
  const SessionOptions options_;
  CounterSet counters_;
  const std::unique_ptr<Staging> staging_;
  ViewBook views_;
  GateTable gates_;
  std::unique_ptr<LoopThread> thread_;
  const std::shared_ptr<Mailbox> mailbox_;
  Workbench bench_;
  Desk desk_;
  Router router_;
  Matcher matches_;
  PushEngine pushes_;
  InputsKeeper keeper_;
  ScoreExchange exchange_;
  SelectedPushes selected_;
  FetchEngine fetches_;
};

LinkDesk SessionImpl::Links() {
  HelloRequest hello;
  hello.client = absl::StrCat("kvasir-client/", getpid());
  hello.tenant = options_.tenant;
  hello.domain = options_.domain.Id();
  hello.ns = options_.ns;
  return {.loop = thread_->loop(),
          .mailbox = mailbox_,
          .hello = std::move(hello),
          .transports = options_.transports,
          .call_deadline = options_.call_deadline,
          .retry_pause = options_.retry_pause,
          .dial = options_.dial,
          .transport = [this](const std::string& name) -> Transport* {
            Carrier* carrier = staging_->CarrierNamed(name);
            return carrier == nullptr ? nullptr : carrier->transport.get();
          },
          .count = [this](LinkNews news) { counters_.Add(CounterOf(news)); },
          .warn = options_.warn};
}

/// Ends what is under way, waits for the device, closes connections, then transports, then regions; the Loop goes last, so
/// that everything it still runs finds its objects alive.
SessionImpl::~SessionImpl() {
  KVASIR_CHECK(!thread_->loop().InLoop(), "a Session is not destroyed from its own callback");
  Handover<bool> drained;
  thread_->loop().Post([this, &drained] {
    matches_.Abort();
    selected_.Abort();
    exchange_.Abort();
    keeper_.Abort();
    pushes_.Abort();
    fetches_.Abort();
    bench_.OnIdle([&drained] { drained.Give(true); });
  });
  drained.Take();
  thread_->Call([this] { router_.Close(absl::AbortedError("the session was closed")); });
  mailbox_->Close();
  thread_->Call([this] { staging_->CloseTransports(); });
  thread_->Call([this] { staging_->CloseRegions(); });
  thread_.reset();
}

/// Greets the addresses in turn until one answers.
absl::Status SessionImpl::Connect() {
  Handover<absl::Status> carriers;
  thread_->loop().Post([&] { carriers.Give(staging_->OpenCarriers(thread_->loop(), options_.transports)); });
  if (absl::Status status = carriers.Take(); !status.ok()) return status;
  std::string tried;
  for (const std::string& address : options_.nodes) {
    Handover<absl::Status> greeted;
    thread_->loop().Post([&] { router_.Greet(address, [&greeted](absl::Status status) { greeted.Give(status); }); });
    const absl::Status status = greeted.Take();
    if (status.ok()) return status;
    if (absl::IsFailedPrecondition(status)) return status;
    absl::StrAppend(&tried, tried.empty() ? "" : "; ", address, ": ", status.message());
  }
  return absl::UnavailableError(absl::StrCat("no node answered: ", tried));
}

void SessionImpl::AgreeOnView() {
  const auto load = [this] {
    Handover<absl::StatusOr<std::string>> loaded;
    thread_->loop().Post([&] { LoadChoice(desk_, router_, [&loaded](auto kept) { loaded.Give(std::move(kept)); }); });
    return loaded.Take();
  };
  const auto warn = [this](const absl::Status& why) {
    if (options_.warn) thread_->Call([&] { options_.warn("", absl::StrCat("view auto: ", why.message())); });
  };
  // Where nothing can be tried: what costs no link more than elements as they are, and few links less.
  std::string view = AutoCandidates(options_.ns).size() > 1 ? "splitexp" : "raw";
  absl::StatusOr<std::string> kept = load();
  if (absl::IsNotFound(kept.status()) && options_.device->memory() == MemoryKind::kHost) {
    const auto trials = TryViews(*this, options_);
    if (trials.ok()) {
      Handover<absl::Status> told;
      thread_->loop().Post([&] {
        KeepChoice(desk_, router_, FormatChoice(ChooseView(*trials), *trials), [&told](const absl::Status& status) { told.Give(status); });
      });
      told.Take().IgnoreError();  // another may have been first: what is there now counts
      kept = load();
      if (!kept.ok()) kept = ChooseView(*trials).view;
    } else {
      warn(trials.status());
    }
  }
  const auto parsed = kept.ok() ? ParseChoice(*kept, options_.ns) : absl::StatusOr<std::string>(kept.status());
  if (parsed.ok()) view = *parsed;
  if (!parsed.ok() && !absl::IsNotFound(parsed.status())) warn(parsed.status());
  thread_->Call([&] { desk_.push_view = view; });
}

void SessionImpl::Match(const PrefixChain& chain, std::function<void(MatchResult)> done) {
  thread_->loop().Post([this, chain, done = std::move(done)]() mutable {
    absl::StatusOr<std::vector<std::string>> accept = CanonicalAccept(options_.accept);
    if (!accept.ok()) return done({.status = accept.status()});
    matches_.Start(std::move(chain), *std::move(accept), std::move(done));
  });
}

void SessionImpl::Push(PushRequest request, std::function<void(PushResult)> done) {
  PushOrder order;
  order.after = bench_.Mark(request.stream);
  order.request = std::move(request);
  order.done = std::move(done);
  thread_->loop().Post([this, order = std::move(order)]() mutable {
    order.deadline = desk_.loop.Now() + options_.push_deadline;
    absl::Status status = CheckPush(order, desk_);
    if (status.ok()) return pushes_.Start(std::move(order));
    counters_.Add(Counter::kPushFailures);
    PushResult refused;
    refused.status = std::move(status);
    order.done(std::move(refused));
  });
}

void SessionImpl::PushSelected(PushSelectedRequest request, std::function<void(PushResult)> done) {
  auto after = bench_.Mark(request.stream);
  thread_->loop().Post([this, request = std::move(request), after = std::move(after), done = std::move(done)]() mutable {
    selected_.Start(std::move(request), std::move(after), std::move(done));
  });
}

void SessionImpl::KeepInputs(const PrefixChain& chain, std::string_view about, const SelectInputs& inputs,
                             std::function<void(absl::Status)> done) {
  std::string bytes = KeptInputs::Encode(inputs);
  absl::Status status;
  if (chain.size() == 0) status = absl::InvalidArgumentError("inputs: the chain is empty");
  if (bytes.size() > kKeptInputsBytesMax) {
    status = absl::InvalidArgumentError(absl::StrCat("inputs: ", bytes.size(), " bytes, kKeptInputsBytesMax is ", kKeptInputsBytesMax));
  }
  std::string context = status.ok() ? SelectionContextOf(options_.domain, chain, about) : "";
  thread_->loop().Post([this, run = status.ok() ? chain[0] : BlockKey{}, context = std::move(context), bytes = std::move(bytes),
                        status, done = std::move(done)]() mutable {
    if (!status.ok()) return done(status);
    keeper_.Keep(run, std::move(context), std::move(bytes), std::move(done));
  });
}

void SessionImpl::LoadInputs(const PrefixChain& chain, std::string_view about,
                             std::function<void(absl::StatusOr<std::shared_ptr<const KeptInputs>>)> done) {
  const bool empty = chain.size() == 0;
  std::string context = empty ? "" : SelectionContextOf(options_.domain, chain, about);
  thread_->loop().Post([this, run = empty ? BlockKey{} : chain[0], context = std::move(context), done = std::move(done)]() mutable {
    if (context.empty()) return done(absl::InvalidArgumentError("inputs: the chain is empty"));
    keeper_.Load(run, std::move(context), std::move(done));
  });
}

void SessionImpl::DropInputs(const PrefixChain& chain, std::string_view about, std::function<void(absl::Status)> done) {
  const bool empty = chain.size() == 0;
  std::string context = empty ? "" : SelectionContextOf(options_.domain, chain, about);
  thread_->loop().Post([this, run = empty ? BlockKey{} : chain[0], context = std::move(context), done = std::move(done)]() mutable {
    if (context.empty()) return done(absl::InvalidArgumentError("inputs: the chain is empty"));
    keeper_.Drop(run, std::move(context), std::move(done));
  });
}

void SessionImpl::DropScores(const PrefixChain& chain, std::string_view spec, std::string_view about,
                             std::function<void(absl::Status)> done) {
  auto canonical = CanonicalSpec(spec);
  if (chain.size() == 0) canonical = absl::InvalidArgumentError("scores: the chain is empty");
  thread_->loop().Post([this, chain, canonical, about = std::string(about), done = std::move(done)]() mutable {
    if (!canonical.ok()) return done(canonical.status());
    exchange_.Drop(chain, *canonical, about, std::move(done));
  });
}

absl::StatusOr<std::string> SessionImpl::SelectedView(const PrefixChain& chain, std::string_view spec,
                                                      std::string_view about) const {
  if (chain.size() == 0) return absl::InvalidArgumentError("selected view: the chain is empty");
  auto accept = CanonicalAccept({std::string(spec)});
  if (!accept.ok()) return accept.status();
  return absl::StrCat(accept->front(), "#", SelectionContextOf(options_.domain, chain, about));
}

FetchId SessionImpl::Fetch(FetchRequest request, std::function<void(FetchResult)> done) {
  FetchOrder order;
  std::tie(order.id, order.gate) = gates_.Make();
  const FetchId id = order.id;
  order.after = bench_.Mark(request.stream);
  order.request = std::move(request);
  order.done = std::move(done);
  order.deadline = std::chrono::steady_clock::now() + options_.fetch_deadline;
  thread_->loop().Post([this, order = std::move(order)]() mutable { StartFetch(std::move(order)); });
  return id;
}

void SessionImpl::StartFetch(FetchOrder order) {
  absl::StatusOr<Slice> slice = SliceOfFetch(order.request, options_.ns);
  absl::StatusOr<std::vector<std::string>> accept =
      CanonicalAccept(order.request.accept.empty() ? options_.accept : order.request.accept);
  if (!slice.ok() || !accept.ok()) {
    FetchResult refused;
    refused.status = slice.ok() ? std::move(accept).status() : std::move(slice).status();
    order.gate->Finish(0);
    return order.done(std::move(refused));
  }
  order.slice = *slice;
  order.accept = *std::move(accept);
  fetches_.Start(std::move(order));
}

absl::StatusOr<std::shared_ptr<LayerGate>> SessionImpl::GateOf(FetchId fetch) const {
  if (thread_->loop().InLoop()) return absl::FailedPreconditionError("a callback of the Session may not wait for a fetch");
  std::shared_ptr<LayerGate> gate = gates_.Find(fetch);
  if (!gate) return absl::NotFoundError(absl::StrCat("there is no fetch ", fetch));
  return gate;
}

/// The jobs of a layer have ended when its gate opens: their writes are seen by whatever any stream starts afterwards.
absl::StatusOr<uint32_t> SessionImpl::WaitLayer(FetchId fetch, uint32_t layer, Stream) {
  auto gate = GateOf(fetch);
  if (!gate.ok()) return gate.status();
  return (*gate)->WaitLayer(layer);
}

absl::StatusOr<uint32_t> SessionImpl::WaitFound(FetchId fetch) {
  auto gate = GateOf(fetch);
  if (!gate.ok()) return gate.status();
  return (*gate)->WaitFound();
}

/// Tells every owner of every run; 0 = drop.
void SessionImpl::Wish(const PrefixChain& chain, Duration keep_for) {
  thread_->loop().Post([this, chain, keep_for] {
    const uint32_t run_blocks = router_.run_blocks();
    std::map<std::pair<NodeLink*, uint32_t>, std::vector<BlockKey>> wishes;
    for (size_t block = 0; block < chain.size(); block += run_blocks) {
      const auto run = chain.keys().subspan(block, std::min<size_t>(run_blocks, chain.size() - block));
      for (const Owner& owner : router_.Readers(run[0])) {
        std::vector<BlockKey>& keys = wishes[{owner.link, owner.shard}];
        keys.insert(keys.end(), run.begin(), run.end());
      }
    }
    for (auto& [where, keys] : wishes) {
      NodeLink* link = where.first;
      link->Greet([link, shard = where.second, keys = std::move(keys), keep_for](const absl::Status& status) {
        for (size_t i = 0; status.ok() && i < keys.size(); i += kBlocksPerAcquireMax) {
          std::vector<BlockKey> some(keys.begin() + i, keys.begin() + std::min(keys.size(), i + kBlocksPerAcquireMax));
          const bool keep = keep_for > Duration::zero();
          link->Wish(shard, keep ? some : std::vector<BlockKey>(), keep_for, keep ? std::vector<BlockKey>() : some);
        }
      });
    }
  });
}

}  // namespace
}  // namespace client

absl::StatusOr<std::unique_ptr<Session>> Session::Open(SessionOptions options) {
  if (options.nodes.empty()) return absl::InvalidArgumentError("nodes: no address");
  if (options.replicas == 0) return absl::InvalidArgumentError("replicas: at least 1");
  if (options.layers_per_part == 0 || options.heads_per_part == 0) {
    return absl::InvalidArgumentError("layers_per_part and heads_per_part: at least 1");
  }
  if (absl::Status status = options.ns.Validate(); !status.ok()) return status;
  if (auto accept = client::CanonicalAccept(options.accept); !accept.ok()) {
    return absl::Status(accept.status().code(), absl::StrCat("accept: ", accept.status().message()));
  }
  const bool choose = options.push_view == client::kAutoView;
  if (!choose) {
    auto spec = client::CanonicalSpec(options.push_view);
    if (!spec.ok()) return absl::Status(spec.status().code(), absl::StrCat("push_view: ", spec.status().message()));
    options.push_view = *std::move(spec);
  }
  if (auto view = View::Make(choose ? "raw" : options.push_view, options.layers_per_part, options.heads_per_part); !view.ok()) {
    return view.status();
  }
  if (!options.dial) {
    auto dial = client::DefaultDial();
    if (!dial.ok()) return dial.status();
    options.dial = *std::move(dial);
  }
  if (!options.device) options.device = MakeCpuDevice({.codec_threads = options.codec_threads});
  auto staging = client::Staging::Create(options.staging_bytes, *options.device);
  if (!staging.ok()) return staging.status();
  auto session = std::make_unique<client::SessionImpl>(std::move(options), *std::move(staging));
  if (absl::Status status = session->Connect(); !status.ok()) return status;
  if (choose) session->AgreeOnView();
  return session;
}

}  // namespace kvasir
