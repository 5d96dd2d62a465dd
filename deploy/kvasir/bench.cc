// SPDX-License-Identifier: Apache-2.0
// kvasir bench: pushes random blocks to a running store, fetches them back and compares them. Goes the way an engine
// goes: one Session, blocks from paged memory, `in_flight` of them under way.
//
//   source pages   [slot 0][slot 1]...   filled once; block i lies in slot i % in_flight, with its number written into
//   it target pages   [slot 0][slot 1]...   where fetched blocks land, beside the source of the same slot
#include <sys/random.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <deque>
#include <functional>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "client/auto_view.h"
#include "client/session.h"
#include "deploy/kvasir/command.h"
#include "deploy/kvasir/nodes.h"
#include "deploy/term.h"
#include "deploy/text.h"
#include "kernels/methods.h"
#include "transport/sync.h"

namespace kvasir {
namespace {

constexpr uint64_t kMemoryMax = 8ull << 30;  ///< of source and target pages together
constexpr uint32_t kLayersPerPart = 8;
constexpr Duration kBlockDeadline = std::chrono::seconds(30);

/// Pages of `slots` blocks, K and V of a layer side by side: [layer][K,V][slot][head][token][dim].
class Pages {
 public:
  Pages(const Namespace& ns, uint32_t slots) {
    const KvLayout& l = ns.layout;
    const uint64_t tensor = l.LayerBytes(l.kv_heads, ns.block_tokens) / 2;
    bytes_.resize(tensor * 2 * slots * l.layers);
    cache_ = {.layout = l,
              .first_layer = 0,
              .first_head = 0,
              .heads = l.kv_heads,
              .page_tokens = ns.block_tokens,
              .layers = {},
              .key_strides = {},
              .value_strides = {},
              .memory = MemoryKind::kHost,
              .device = 0};
    const auto token = static_cast<int64_t>(l.key_dim * ElementBytes(l.element));
    cache_.key_strides = {static_cast<int64_t>(tensor), token * ns.block_tokens, token};
    cache_.value_strides = cache_.key_strides;
    for (uint32_t layer = 0; layer < l.layers; ++layer) {
      std::byte* base = bytes_.data() + layer * 2 * slots * tensor;
      cache_.layers.push_back({base, base + slots * tensor});
    }
    tensor_bytes_ = tensor;
  }
  std::span<std::byte> all() { return bytes_; }
  const PagedCache& cache() const { return cache_; }
  /// K or V of one layer in one slot.
  std::span<std::byte> Tensor(uint32_t layer, bool value, uint32_t slot) {
    std::byte* base = value ? cache_.layers[layer].value : cache_.layers[layer].key;
    return {base + slot * tensor_bytes_, tensor_bytes_};
  }

 private:
  std::vector<std::byte> bytes_;
  PagedCache cache_;
  uint64_t tensor_bytes_ = 0;
};

/// What happened to one block, told by the Session's Loop to the thread that drives the bench.
struct Event {
  uint32_t block = 0;
  absl::Status status;
  Duration took{};
  uint64_t stored_bytes = 0;
};
class Events {
 public:
  void Put(Event event) {
    MutexLock lock(mutex_);
    events_.push_back(std::move(event));
    filled_.NotifyOne();
  }
  Event Take() {
    MutexLock lock(mutex_);
    while (events_.empty()) filled_.Wait(mutex_);
    Event event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

 private:
  Mutex mutex_;
  CondVar filled_;
  std::deque<Event> events_ ABSL_GUARDED_BY(mutex_);
};

/// One phase's figures.
struct Phase {
  std::string name;
  uint32_t done = 0, failed = 0, differing = 0;
  uint64_t raw_bytes = 0, stored_bytes = 0;
  Duration wall{};
  std::vector<Duration> took;
  absl::Status first_error;

  double seconds() const { return std::max(1e-9, std::chrono::duration<double>(wall).count()); }
  Duration Percentile(double share) const {
    return took.empty() ? Duration{} : took[static_cast<size_t>(share * static_cast<double>(took.size() - 1))];
  }
};

class Bench {
 public:
  Bench(const BenchFlags& flags, const Namespace& ns, Session& session, bool lossless)
      : flags_(flags),
        ns_(ns),
        session_(session),
        lossless_(lossless),
        slots_(std::min(flags.in_flight, flags.blocks)),
        source_(ns, slots_),
        target_(ns, slots_) {
    std::vector<uint32_t> tokens(uint64_t{flags.blocks} * ns.block_tokens);
    for (uint32_t& token : tokens) token = static_cast<uint32_t>(Random());
    chain_ = std::make_unique<PrefixChain>(session.Chain(tokens));
    for (uint32_t block = 0; block < flags.blocks; ++block) pages_.push_back(block % slots_);
    FillSource();
  }

  Phase Push() {
    return Run("push", [this](uint32_t block, std::function<void(absl::Status, uint64_t)> done) {
      Stamp(block);
      session_.Push({.chain = chain_.get(),
                     .block = block,
                     .first_layer = 0,
                     .layers = 0,
                     .cache = &source_.cache(),
                     .pages = pages_,
                     .stream = nullptr,
                     .view = ""},
                    [done](PushResult r) { done(r.status, r.stored_bytes); });
    });
  }
  Phase Fetch() {
    return Run("fetch", [this](uint32_t block, std::function<void(absl::Status, uint64_t)> done) {
      session_.Fetch({.chain = chain_.get(),
                      .first_block = block,
                      .blocks = 1,
                      .first_layer = 0,
                      .layers = 0,
                      .cache = &target_.cache(),
                      .pages = pages_,
                      .stream = nullptr,
                      .accept = {},
                      .planes = flags_.planes},
                     [done](FetchResult r) {
                       done(r.blocks == 1 ? absl::OkStatus() : absl::NotFoundError(Cat("missed: ", r.status.message())),
                            r.moved_bytes);
                     });
    });
  }
  /// The blocks were made up: let them go first.
  void Forget() { session_.Release(*chain_); }
  uint64_t block_bytes() const {
    return ns_.layout.layers * ns_.layout.LayerBytes(ns_.layout.kv_heads, ns_.block_tokens);
  }

 private:
  using Start = std::function<void(uint32_t block, std::function<void(absl::Status, uint64_t stored)> done)>;

  uint64_t Random() {  // splitmix64: fast, and good enough to be incompressible
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }

  /// bf16 values of magnitude 2^-7 to 2: random sign and mantissa, three random bits of exponent.
  void FillSource() {
    const auto bytes = source_.all();
    for (size_t at = 0; at + 8 <= bytes.size(); at += 8) {
      const uint64_t word = (Random() & 0x83FF'83FF'83FF'83FFull) | 0x3C00'3C00'3C00'3C00ull;
      std::memcpy(bytes.data() + at, &word, sizeof word);
    }
  }

  /// Makes the blocks that share a slot differ: each tensor begins with the block's number, 8 bits an element.
  void Stamp(uint32_t block) {
    for (uint32_t layer = 0; layer < ns_.layout.layers; ++layer) {
      for (const bool value : {false, true}) {
        const auto tensor = source_.Tensor(layer, value, block % slots_);
        for (size_t i = 0; i < 4; ++i) {
          const auto element = static_cast<uint16_t>(0x3C00 | ((block >> (8 * i)) & 0xFF));
          std::memcpy(tensor.data() + i * sizeof element, &element, sizeof element);
        }
      }
    }
  }
  bool Differs(uint32_t block) {
    Stamp(block);
    for (uint32_t layer = 0; layer < ns_.layout.layers; ++layer) {
      for (const bool value : {false, true}) {
        const auto want = source_.Tensor(layer, value, block % slots_);
        const auto got = target_.Tensor(layer, value, block % slots_);
        if (std::memcmp(want.data(), got.data(), want.size()) != 0) return true;
      }
    }
    return false;
  }

  /// Every slot carries one block at a time; the next of the slot starts when the last has ended and was looked at.
  Phase Run(const std::string& name, const Start& start) {
    using Clock = std::chrono::steady_clock;
    Phase phase;
    phase.name = name;
    Events events;
    const auto launch = [&](uint32_t block) {
      const auto begun = Clock::now();
      start(block, [&events, block, begun](absl::Status status, uint64_t stored) {
        events.Put({block, std::move(status), Clock::now() - begun, stored});
      });
    };
    Progress progress(name, flags_.blocks * block_bytes(), Progress::Unit::kBytes);
    const auto begun = Clock::now();
    for (uint32_t block = 0; block < slots_; ++block) launch(block);
    for (uint32_t ended = 0; ended < flags_.blocks; ++ended) {
      const Event event = events.Take();
      progress.Add(block_bytes());
      if (event.status.ok()) {
        ++phase.done;
        phase.raw_bytes += block_bytes();
        phase.stored_bytes += event.stored_bytes;
        phase.took.push_back(event.took);
        if (name == "fetch" && lossless_ && Differs(event.block)) ++phase.differing;
      } else {
        ++phase.failed;
        if (phase.first_error.ok()) phase.first_error = event.status;
      }
      if (event.block + slots_ < flags_.blocks) launch(event.block + slots_);
    }
    phase.wall = Clock::now() - begun;
    std::sort(phase.took.begin(), phase.took.end());
    return phase;
  }

  const BenchFlags& flags_;
  const Namespace& ns_;
  Session& session_;
  const bool lossless_;
  const uint32_t slots_;
  uint64_t state_ = 0;
  Pages source_, target_;
  std::unique_ptr<PrefixChain> chain_;
  std::vector<uint32_t> pages_;
};

Namespace MakeNamespace(const BenchFlags& flags) {
  Namespace ns;
  ns.name = Cat("kvasir-bench-", flags.layers, "x", flags.heads, "x", flags.dim, "x", flags.block_tokens);
  Sha256(ns.name, ns.weights.bytes);
  ns.layout = {flags.layers, flags.heads, flags.dim, flags.dim, ElementType::kBfloat16};
  ns.block_tokens = flags.block_tokens;
  return ns;
}

void PrintJson(const BenchFlags& flags, const std::string& codec, const Bench& bench, std::span<const Phase> phases) {
  nlohmann::ordered_json out = {{"codec", codec},
                                {"planes", flags.planes},
                                {"block_bytes", bench.block_bytes()},
                                {"in_flight", flags.in_flight},
                                {"replicas", flags.replicas},
                                {"durable", flags.durable}};
  for (const Phase& phase : phases) {
    const auto micros = [](Duration d) { return std::chrono::duration<double, std::micro>(d).count(); };
    out[phase.name] = {{"blocks", phase.done},
                       {"failed", phase.failed},
                       {"differing", phase.differing},
                       {"raw_bytes", phase.raw_bytes},
                       {"stored_bytes", phase.stored_bytes},
                       {"seconds", phase.seconds()},
                       {"blocks_per_second", phase.done / phase.seconds()},
                       {"raw_bytes_per_second", static_cast<double>(phase.raw_bytes) / phase.seconds()},
                       {"stored_bytes_per_second", static_cast<double>(phase.stored_bytes) / phase.seconds()},
                       {"p50_us", micros(phase.Percentile(0.5))},
                       {"p99_us", micros(phase.Percentile(0.99))}};
  }
  std::printf("%s\n", out.dump(1).c_str());
}

/// Bytes moved for each byte of pages.
std::string ShareText(const Phase& phase) {
  char text[16];
  const auto raw = static_cast<double>(std::max<uint64_t>(phase.raw_bytes, 1));
  std::snprintf(text, sizeof text, "%.3f", static_cast<double>(phase.stored_bytes) / raw);
  return text;
}

void PrintTable(const BenchFlags& flags, const std::string& codec, const Bench& bench, bool lossless,
                std::span<const Phase> phases) {
  std::printf("codec %s, blocks of %s, %u in flight, %u replica%s%s\n\n", codec.c_str(),
              HumanBytes(bench.block_bytes()).c_str(), flags.in_flight, flags.replicas, flags.replicas == 1 ? "" : "s",
              flags.durable ? ", durable" : "");
  Table table({"", "BLOCKS", "FAILED", "TIME", "BLOCKS/S", "RAW", "MOVED", "OF RAW", "P50", "P99"});
  for (const Phase& phase : phases) {
    table.Row({phase.name, Cat(phase.done), Cat(phase.failed), HumanDuration(phase.wall),
               HumanCount(phase.done / phase.seconds()),
               HumanRate(static_cast<double>(phase.raw_bytes) / phase.seconds()),
               HumanRate(static_cast<double>(phase.stored_bytes) / phase.seconds()), ShareText(phase),
               HumanDuration(phase.Percentile(0.5)), HumanDuration(phase.Percentile(0.99))});
  }
  std::printf("%s\n", table.Text().c_str());
  if (!lossless) {
    std::printf("The codec is lossy: what came back was not compared.\n");
  } else if (phases[1].failed == 0 && phases[1].differing == 0) {
    std::printf("Every byte that came back is the byte that was pushed.\n");
  }
}

absl::Status Verdict(std::span<const Phase> phases) {
  for (const Phase& phase : phases) {
    if (phase.differing > 0) {
      return absl::DataLossError(Cat(phase.differing,
                                     " fetched blocks differ from what was pushed. This must never happen: "
                                     "please report it with the nodes' logs"));
    }
  }
  for (const Phase& phase : phases) {
    if (phase.failed == 0) continue;
    return absl::UnavailableError(Cat(phase.failed, " of ", phase.failed + phase.done, " blocks could not be ",
                                      phase.name == "push" ? "pushed" : "fetched",
                                      "; the first: ", phase.first_error.message(), ". See: kvasir status"));
  }
  return absl::OkStatus();
}

absl::StatusOr<SessionOptions> OptionsOf(const GlobalFlags& global, const BenchFlags& flags, const Namespace& ns) {
  SessionOptions options;
  options.nodes = global.nodes;
  options.tenant = "kvasir-bench";
  if (getrandom(options.domain.bytes.data(), options.domain.bytes.size(), 0) != 32) {
    return absl::UnavailableError("the system gives no random numbers");
  }
  options.ns = ns;
  options.push_view = flags.codec;
  options.layers_per_part = std::min(kLayersPerPart, flags.layers);
  options.accept = {flags.codec};
  options.replicas = flags.replicas;
  options.ack = flags.durable ? Ack::kDurable : Ack::kVolatile;
  options.push_deadline = kBlockDeadline;
  options.fetch_deadline = kBlockDeadline;
  options.call_deadline = global.timeout;
  options.transports = Split(flags.transports, ',');
  return options;
}

absl::StatusOr<std::unique_ptr<Session>> OpenSession(const GlobalFlags& global, const SessionOptions& options) {
  auto session = Session::Open(options);
  if (!session.ok() && session.status().code() == absl::StatusCode::kUnavailable) {
    return Unreachable(Join(global.nodes, ", "), session.status());
  }
  return session;
}

/// `--codec auto`: what a Session that says "auto" would choose here, and what it saw. Keeps nothing.
absl::Status TryAuto(const GlobalFlags& global, const BenchFlags& flags) {
  const Namespace ns = MakeNamespace(flags);
  auto options = OptionsOf(global, flags, ns);
  if (!options.ok()) return options.status();
  options->push_view = "raw";
  options->accept = {"lossless"};
  const auto session = OpenSession(global, *options);
  if (!session.ok()) return session.status();
  const auto trials = client::TryViews(**session, *options);
  if (!trials.ok()) return trials.status();
  const client::ViewTrial& chosen = client::ChooseView(*trials);
  const auto rate = [](const client::ViewTrial& trial, double seconds) { return static_cast<double>(trial.raw_bytes) / seconds; };
  const auto share = [](const client::ViewTrial& trial) {
    return static_cast<double>(trial.stored_bytes) / static_cast<double>(trial.raw_bytes);
  };
  nlohmann::ordered_json out = {{"codec", "auto"}, {"chosen", chosen.view}, {"trials", nlohmann::ordered_json::array()}};
  Table table({"VIEW", "PUSH", "FETCH", "BYTES OF RAW", ""});
  for (const client::ViewTrial& trial : *trials) {
    out["trials"].push_back({{"view", trial.view},
                             {"push_raw_bytes_per_second", rate(trial, trial.push_s)},
                             {"fetch_raw_bytes_per_second", rate(trial, trial.fetch_s)},
                             {"bytes_of_raw", share(trial)}});
    table.Row({trial.view, HumanRate(rate(trial, trial.push_s)), HumanRate(rate(trial, trial.fetch_s)),
               absl::StrFormat("%.3f", share(trial)), &trial == &chosen ? "chosen" : ""});
  }
  if (global.json) {
    std::printf("%s\n", out.dump(1).c_str());
  } else {
    std::printf("%s\nThe fastest to fetch; of those within %.0f %% of it, the one of fewest bytes.\n", table.Text().c_str(),
                100 * (client::kAlike - 1));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status RunBench(const GlobalFlags& global, const BenchFlags& flags) {
  if (flags.codec == client::kAutoView) return TryAuto(global, flags);
  const auto codec = CodecNamed(flags.codec);
  if (!codec.ok()) return absl::InvalidArgumentError(Cat("--codec: ", codec.error().message));
  const Namespace ns = MakeNamespace(flags);
  const uint64_t block = ns.layout.layers * ns.layout.LayerBytes(ns.layout.kv_heads, ns.block_tokens);
  if (const uint64_t memory = 2 * block * flags.in_flight; memory > kMemoryMax) {
    return absl::InvalidArgumentError(Cat(flags.in_flight, " blocks of ", HumanBytes(block), " in flight need ",
                                          HumanBytes(memory), " here. Give less --in-flight, --layers or --heads"));
  }
  const auto options = OptionsOf(global, flags, ns);
  if (!options.ok()) return options.status();
  auto session = OpenSession(global, *options);
  if (!session.ok()) return session.status();
  Bench bench(flags, ns, **session, (*codec)->lossless());
  const Phase phases[] = {bench.Push(), bench.Fetch()};
  bench.Forget();
  if (global.json) {
    PrintJson(flags, (*codec)->spec(), bench, phases);
  } else {
    PrintTable(flags, (*codec)->spec(), bench, (*codec)->lossless(), phases);
  }
  return Verdict(phases);
}

}  // namespace kvasir
