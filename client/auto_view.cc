// SPDX-License-Identifier: Apache-2.0
// Trials on made-up blocks, and the rule.
#include "client/auto_view.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <future>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/number_formats.h"
#include "transport/check.h"

namespace kvasir::client {
namespace {

/// A cache of made-up keys and values: normal, as large as their channel.
class TrialPages {
 public:
  TrialPages(const Namespace& ns, uint32_t layers, uint32_t tokens) {
    const KvLayout& l = ns.layout;
    const uint64_t size = ElementBytes(l.element);
    cache.layout = l;
    cache.heads = l.kv_heads;
    cache.page_tokens = ns.block_tokens;
    cache.key_strides = StridesOf(l.key_dim * size, l.kv_heads, ns.block_tokens);
    cache.value_strides = StridesOf(l.value_dim * size, l.kv_heads, ns.block_tokens);
    const uint32_t pages = tokens / ns.block_tokens;
    for (uint32_t i = 0; i < pages; ++i) table.push_back(i);
    const uint64_t key_bytes = static_cast<uint64_t>(cache.key_strides.page) * pages;
    const uint64_t value_bytes = static_cast<uint64_t>(cache.value_strides.page) * pages;
    memory_.resize((key_bytes + value_bytes) * layers);
    for (uint32_t layer = 0; layer < layers; ++layer) {
      std::byte* key = memory_.data() + (key_bytes + value_bytes) * layer;
      cache.layers.push_back({key, value_bytes == 0 ? nullptr : key + key_bytes});
    }
  }
  void Fill(uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    const KvLayout& l = cache.layout;
    const uint32_t size = ElementBytes(l.element), period = std::max(1u, l.key_dim);
    constexpr uint64_t kDrawn = 1 << 16;  // then repeated: drawing all of them would take longer than the trial
    std::vector<uint8_t> drawn(kDrawn * size);
    for (uint64_t i = 0; i < kDrawn; ++i) {
      const float spread = 0.5f + static_cast<float>(i % period * 37 % 100) / 50.0f;
      StoreElement(l.element, normal(random) * spread, drawn.data() + i * size);
    }
    for (size_t at = 0; at < memory_.size(); at += drawn.size()) {
      std::memcpy(memory_.data() + at, drawn.data(), std::min(drawn.size(), memory_.size() - at));
    }
  }
  PagedCache cache;
  std::vector<uint32_t> table;

 private:
  static PageStrides StridesOf(uint64_t row, uint32_t heads, uint32_t tokens) {
    const auto bytes = static_cast<int64_t>(row);
    return {.page = bytes * heads * tokens, .head = bytes, .token = bytes * heads};
  }
  std::vector<std::byte> memory_;
};

double SecondsSince(Instant begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// One block after another would measure latencies: all at once, as an engine does.
absl::Status PushAll(Session& session, const PrefixChain& chain, const TrialPages& pages, uint32_t layers,
                     const std::string& view, ViewTrial& trial) {
  std::vector<std::promise<PushResult>> ends(chain.size());
  for (uint32_t block = 0; block < chain.size(); ++block) {
    session.Push(
        {.chain = &chain, .block = block, .layers = layers, .cache = &pages.cache, .pages = pages.table, .view = view},
        [&end = ends[block]](PushResult result) { end.set_value(std::move(result)); });
  }
  absl::Status status;
  for (std::promise<PushResult>& end : ends) {
    const PushResult result = end.get_future().get();
    status.Update(result.status);
    trial.raw_bytes += result.raw_bytes;
    trial.stored_bytes += result.stored_bytes;
  }
  return status;
}

absl::Status FetchAll(Session& session, const PrefixChain& chain, const TrialPages& pages, uint32_t layers,
                      const std::string& view) {
  std::promise<FetchResult> end;
  session.Fetch({.chain = &chain, .layers = layers, .cache = &pages.cache, .pages = pages.table, .accept = {view}},
                [&end](FetchResult result) { end.set_value(std::move(result)); });
  const FetchResult result = end.get_future().get();
  if (result.blocks == chain.size()) return absl::OkStatus();
  return result.status.ok() ? absl::NotFoundError("blocks pushed a moment ago are not held") : result.status;
}

std::string ObjectName(const Desk& desk) {
  return absl::StrCat("view/auto/", ToHex(desk.ns_digest), "/", desk.options.layers_per_part, "x",
                      desk.options.heads_per_part);
}

/// A place for the choice: any, as long as all Sessions take the same.
BlockKey PlaceOfChoice(const Desk& desk) {
  BlockKey key;
  Sha256(ObjectName(desk), key.bytes);
  return key;
}

/// Asks the owners in turn until one answers, whatever it says.
void AskOwner(Desk& desk, std::vector<Owner> owners, size_t next, ObjectRequest request,
              std::function<void(absl::StatusOr<ObjectReply>)> done) {
  if (next == owners.size()) return done(absl::UnavailableError("no node that keeps the choice of a view answers"));
  NodeLink* link = owners[next].link;
  auto again = [&desk, owners, next, request, done](absl::Status) { AskOwner(desk, owners, next + 1, request, done); };
  link->Greet([&desk, link, request, done, again](const absl::Status& greeted) {
    if (!greeted.ok()) return again(greeted);
    link->Object(request, desk.loop.Now() + desk.options.call_deadline,
                 [done, again](absl::StatusOr<ObjectReply> reply) {
                   if (absl::IsUnavailable(reply.status()) || absl::IsDeadlineExceeded(reply.status()))
                     return again(reply.status());
                   done(std::move(reply));
                 });
  });
}

}  // namespace

void LoadChoice(Desk& desk, Router& router, std::function<void(absl::StatusOr<std::string>)> done) {
  ObjectRequest request;
  request.name = ObjectName(desk);
  AskOwner(desk, router.Writers(PlaceOfChoice(desk)), 0, std::move(request),
           [done = std::move(done)](absl::StatusOr<ObjectReply> reply) {
             if (!reply.ok()) return done(reply.status());
             done(std::move(reply->value));
           });
}

void KeepChoice(Desk& desk, Router& router, std::string choice, std::function<void(absl::Status)> done) {
  ObjectRequest request;
  request.name = ObjectName(desk);
  request.put = true;
  request.value = std::move(choice);
  AskOwner(desk, router.Writers(PlaceOfChoice(desk)), 0, std::move(request),
           [done = std::move(done)](const absl::StatusOr<ObjectReply>& reply) { done(reply.status()); });
}

std::vector<std::string> AutoCandidates(const Namespace& ns) {
  std::vector<std::string> candidates;
  for (const char* spec : {"raw", "splitexp", "splitexp(ans)"}) {
    const auto codec = Codec::Parse(spec);
    KVASIR_CHECK(codec.ok() && (*codec)->lossless(), "a spec of ours");
    const FrameShape shape{ns.layout.kv_heads, ns.block_tokens, ns.layout.key_dim, ns.layout.element};
    if ((*codec)->Check(KvTensor::kKey, shape).ok()) candidates.push_back((*codec)->spec());
  }
  return candidates;
}

const ViewTrial& ChooseView(std::span<const ViewTrial> trials) {
  KVASIR_CHECK(!trials.empty(), "there is always raw");
  const auto fastest = std::min_element(trials.begin(), trials.end(),
                                        [](const ViewTrial& a, const ViewTrial& b) { return a.fetch_s < b.fetch_s; });
  const ViewTrial* chosen = &*fastest;
  for (const ViewTrial& trial : trials) {
    if (trial.fetch_s <= fastest->fetch_s * kAlike && trial.stored_bytes < chosen->stored_bytes) chosen = &trial;
  }
  return *chosen;
}

absl::StatusOr<std::vector<ViewTrial>> TryViews(Session& session, const SessionOptions& options) {
  const Namespace& ns = options.ns;
  const uint32_t layers = std::min(options.layers_per_part, ns.layout.layers);
  const uint64_t block_bytes = ns.layout.LayerBytes(ns.layout.kv_heads, ns.block_tokens) * layers;
  const uint32_t blocks =
      static_cast<uint32_t>(std::clamp<uint64_t>(kTrialBytes / std::max<uint64_t>(block_bytes, 1), 1, 64));
  std::random_device random;
  TrialPages pages(ns, layers, blocks * ns.block_tokens);
  std::vector<ViewTrial> trials;
  for (const std::string& view : AutoCandidates(ns)) {
    ViewTrial trial{view, 0, 0, 0, 0};
    for (uint32_t round = 0; round < kTrialRounds; ++round) {
      pages.Fill(random());
      std::vector<uint32_t> tokens(uint64_t{blocks} * ns.block_tokens);
      for (uint32_t& token : tokens) token = random();
      const PrefixChain chain = session.Chain(tokens);
      ViewTrial once{view, 0, 0, 0, 0};
      Instant begin = std::chrono::steady_clock::now();
      if (absl::Status pushed = PushAll(session, chain, pages, layers, view, once); !pushed.ok()) return pushed;
      once.push_s = SecondsSince(begin);
      begin = std::chrono::steady_clock::now();
      const absl::Status fetched = FetchAll(session, chain, pages, layers, view);
      once.fetch_s = SecondsSince(begin);
      session.Release(chain);
      if (!fetched.ok()) return fetched;
      if (round == 0 || once.fetch_s < trial.fetch_s) trial = once;
    }
    trials.push_back(std::move(trial));
  }
  return trials;
}

std::string FormatChoice(const ViewTrial& chosen, std::span<const ViewTrial> trials) {
  std::string text = absl::StrCat(chosen.view, "\n");
  for (const ViewTrial& trial : trials) {
    const double raw = 1e-9 * static_cast<double>(trial.raw_bytes);
    absl::StrAppendFormat(&text, "%s: push %.3f GB/s, fetch %.3f GB/s, %.3f of the bytes\n", trial.view,
                          raw / trial.push_s, raw / trial.fetch_s,
                          static_cast<double>(trial.stored_bytes) / static_cast<double>(trial.raw_bytes));
  }
  return text;
}

absl::StatusOr<std::string> ParseChoice(std::string_view kept, const Namespace& ns) {
  const std::string view(kept.substr(0, kept.find('\n')));
  const std::vector<std::string> candidates = AutoCandidates(ns);
  if (std::find(candidates.begin(), candidates.end(), view) != candidates.end()) return view;
  return absl::InvalidArgumentError(absl::StrCat("the view '", view.substr(0, 64), "' is none that auto may choose"));
}

}  // namespace kvasir::client
