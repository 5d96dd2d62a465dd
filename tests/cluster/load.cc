// SPDX-License-Identifier: Apache-2.0
// Sessions, threads and their paces. What a verdict is made of is in load_verify.cc.
#include "tests/cluster/load.h"

#include <future>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/check.h"

namespace kvasir::cluster {
namespace {

constexpr size_t kReaderSessions = 2;
constexpr Duration kRetryPause = std::chrono::milliseconds(10);  ///< of a read that fell short
constexpr Duration kNothingYet = std::chrono::milliseconds(20);  ///< before a reader looks again for something acked
/// A Session answers within its own deadlines; one that does not is broken, and pages lent to it cannot be taken back.
constexpr Duration kCallbackPatience = std::chrono::seconds(60);

template <class T>
T TakeInTime(std::future<T> future, const char* what) {
  KVASIR_CHECK(future.wait_for(kCallbackPatience) == std::future_status::ready, what);
  return future.get();
}

Duration PeriodOf(double per_s) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(1 / per_s));
}

}  // namespace

void StopSignal::Set() {
  MutexLock lock(mutex_);
  stopped_ = true;
  changed_.NotifyAll();
}

void StopSignal::Reset() { stopped_ = false; }

bool StopSignal::WaitUntil(Instant until) {
  MutexLock lock(mutex_);
  while (!stopped_) {
    const Duration left = std::chrono::duration_cast<Duration>(until - std::chrono::steady_clock::now());
    if (left <= Duration::zero()) return true;
    changed_.WaitFor(mutex_, left);
  }
  return false;
}

Load::Load(LoadOptions options)
    : options_(std::move(options)),
      ledger_(options_.shape.blocks),
      next_prompt_(options_.first_prompt),
      began_(std::chrono::steady_clock::now()) {}

absl::StatusOr<std::unique_ptr<Load>> Load::Open(LoadOptions options) {
  std::unique_ptr<Load> load(new Load(std::move(options)));
  if (!load->options_.log.empty()) {
    load->log_ = std::fopen(load->options_.log.c_str(), "a");
    if (load->log_ == nullptr)
      return absl::InvalidArgumentError(absl::StrCat(load->options_.log, " cannot be written"));
  }
  for (auto [session, ack] : {std::pair{&load->writer_, Ack::kVolatile}, {&load->durable_writer_, Ack::kDurable}}) {
    auto opened = load->OpenSession(ack);
    if (!opened.ok()) return opened.status();
    *session = *std::move(opened);
  }
  for (size_t i = 0; i < kReaderSessions; ++i) {
    auto opened = load->OpenSession(Ack::kVolatile);
    if (!opened.ok()) return opened.status();
    load->readers_.push_back(*std::move(opened));
  }
  return load;
}

Load::~Load() {
  Stop();
  if (log_ != nullptr) std::fclose(log_);
}

/// Deadlines are the Session's own: what is measured is what a client gets that sets none.
absl::StatusOr<std::unique_ptr<Session>> Load::OpenSession(Ack ack) const {
  SessionOptions session;
  session.push_view = "raw";
  session.nodes = options_.nodes;
  session.tenant = "cluster load";
  session.domain = DomainOf(options_.shape);
  session.ns = NamespaceOf(options_.shape);
  session.layers_per_part = 1;
  session.heads_per_part = 1;
  session.replicas = options_.replicas;
  session.ack = ack;
  session.transports = options_.transports;
  return Session::Open(std::move(session));
}

Level Load::LevelOf(uint32_t prompt) const {
  const bool durable = options_.durable_every != 0 && prompt % options_.durable_every == 1;
  return durable ? Level::kReplicatedDurable : Level::kReplicated;
}

void Load::LogAck(uint32_t prompt, uint32_t block, Level level) {
  if (log_ == nullptr) return;
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - began_).count();
  MutexLock lock(log_mutex_);
  std::fprintf(log_, "{\"prompt\":%u,\"block\":%u,\"level\":\"%s\",\"ms\":%lld}\n", prompt, block, Name(level),
               static_cast<long long>(ms));
  std::fflush(log_);
}

/// All blocks of the prompt at once; waits for all.
void Load::PushPrompt(uint32_t number, PromptPages& pages) {
  const Prompt prompt = MakePrompt(options_.shape, number);
  const Level level = LevelOf(number);
  std::vector<std::promise<PushResult>> done(prompt.chain.size());
  for (uint32_t block = 0; block < prompt.chain.size(); ++block) pages.Fill(prompt.chain, block);
  for (uint32_t block = 0; block < prompt.chain.size(); ++block) {
    PushRequest request;
    request.chain = &prompt.chain;
    request.block = block;
    request.cache = &pages.cache();
    request.pages = pages.table();
    request.view = prompt.view.spec;
    WriterOf(number).Push(std::move(request),
                          [&done, block](PushResult result) { done[block].set_value(std::move(result)); });
  }
  for (uint32_t block = 0; block < prompt.chain.size(); ++block) {
    const PushResult result = TakeInTime(done[block].get_future(), "a push answers within its deadline");
    ledger_.Pushed(number, block, level, result.status, result.existed > 0);
    if (result.status.ok()) LogAck(number, block, level);
  }
}

void Load::Prefill(uint32_t prompts, uint32_t threads) {
  std::atomic<uint32_t> left = prompts;
  std::vector<std::thread> writers;
  for (uint32_t i = 0; i < threads; ++i) {
    writers.emplace_back([&] {
      PromptPages pages(options_.shape);
      for (;;) {
        uint32_t now = left;
        while (now > 0 && !left.compare_exchange_weak(now, now - 1)) {
        }
        if (now == 0) return;
        PushPrompt(next_prompt_++, pages);
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
}

void Load::Start() {
  stop_.Reset();
  for (uint32_t i = 0; i < options_.writers; ++i) threads_.emplace_back([this, i] { Write(i); });
  for (uint32_t i = 0; i < options_.readers; ++i) threads_.emplace_back([this, i] { Read(i); });
}

void Load::Stop() {
  stop_.Set();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void Load::Write(uint64_t) {
  PromptPages pages(options_.shape);
  Instant next = std::chrono::steady_clock::now();
  while (stop_.WaitUntil(next)) {
    next = std::max(next + PeriodOf(options_.prompts_per_s), std::chrono::steady_clock::now());
    const uint32_t number = next_prompt_++;
    if (number - options_.first_prompt >= options_.prompts_max) return;
    PushPrompt(number, pages);
  }
}

void Load::Read(uint64_t salt) {
  PromptPages pages(options_.shape);
  uint64_t random = Mix(options_.shape.seed ^ Mix(salt + 1));
  Session& session = *readers_[salt % readers_.size()];
  Instant next = std::chrono::steady_clock::now();
  while (stop_.WaitUntil(next)) {
    random = Mix(random);
    uint32_t prompt = 0;
    if (!ledger_.Choose(random, &prompt)) {
      next = std::chrono::steady_clock::now() + kNothingYet;
      continue;
    }
    next = std::max(next + PeriodOf(options_.reads_per_s), std::chrono::steady_clock::now());
    ReadPrompt(prompt, session, pages, random);
  }
}

FetchResult Load::FetchBlocks(const Prompt& prompt, uint32_t first, uint32_t blocks, Session& session,
                              PromptPages& pages) const {
  pages.Poison();
  FetchRequest request;
  request.chain = &prompt.chain;
  request.first_block = first;
  request.blocks = blocks;
  request.cache = &pages.cache();
  request.pages = pages.table();
  request.accept = {prompt.view.spec};
  std::promise<FetchResult> done;
  session.Fetch(std::move(request), [&done](FetchResult result) { done.set_value(std::move(result)); });
  return TakeInTime(done.get_future(), "a fetch answers within its deadline");
}

std::vector<std::string> Load::WrongBlocks(const Prompt& prompt, uint32_t first, uint32_t blocks,
                                           const PromptPages& pages) const {
  std::vector<std::string> wrong;
  for (uint32_t block = first; block < first + blocks; ++block) {
    std::string where = pages.FirstWrong(prompt.chain, block, prompt.view);
    if (!where.empty()) wrong.push_back(std::move(where));
  }
  return wrong;
}

/// Until all is there that was acked when it began. One read in four asks for the whole prompt, acked or not: what
/// comes must be right all the same.
void Load::ReadPrompt(uint32_t number, Session& session, PromptPages& pages, uint64_t random) {
  const Prompt prompt = MakePrompt(options_.shape, number);
  const uint32_t expected = ledger_.AckedPrefix(number);
  const uint32_t asked = random % 8 < 2 ? static_cast<uint32_t>(prompt.chain.size()) : expected;
  const Instant begin = std::chrono::steady_clock::now();
  for (bool failed = false;; failed = true) {
    const FetchResult result = FetchBlocks(prompt, 0, asked, session, pages);
    ledger_.Attempted(
        {number, expected, result.blocks, result.status, WrongBlocks(prompt, 0, result.blocks, pages), failed});
    const Instant now = std::chrono::steady_clock::now();
    const bool satisfied = result.blocks >= expected;
    if (satisfied || now - begin >= options_.give_up) return ledger_.ReadEnded(number, begin, now, satisfied, failed);
    if (!stop_.WaitUntil(now + kRetryPause)) return;  // stopped in the middle: not a read
  }
}

std::map<std::string, uint64_t> Load::ClientCounters() const {
  std::map<std::string, uint64_t> counters;
  std::vector<const Session*> sessions = {writer_.get(), durable_writer_.get()};
  for (const auto& reader : readers_) sessions.push_back(reader.get());
  for (const Session* session : sessions) {
    for (const auto& [name, value] : session->Counters()) counters[name] += value;
  }
  return counters;
}

}  // namespace kvasir::cluster
