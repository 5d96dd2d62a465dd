// SPDX-License-Identifier: Apache-2.0
// Own check of the row that is about what travels: a Session and a store in this process, over the loopback transport.
#include <future>
#include <random>

#include "client/session.h"
#include "kernels/number_formats.h"
#include "tests/client/fake_store.h"
#include "tests/kernels/engine.h"
#include "tests/seeds/checks.h"

namespace kvasir::seeds {
namespace {

constexpr uint32_t kPage = 16, kBlock = 256;  ///< tokens
constexpr double kUseful = 0.85;              ///< of the bytes that travel, those of the head that was asked for

/// Pages for heads [first, first + heads) of the chain.
testing::Engine PagesOf(const Capture& c, uint32_t first, uint32_t heads) {
  std::mt19937_64 rng(37);
  KvLayout own = c.layout;
  own.kv_heads = heads;
  testing::Engine engine = testing::MakeEngine(own, testing::Order::kHND, kPage, c.tokens, rng);
  engine.cache.layout = c.layout;
  engine.cache.first_head = first;
  return engine;
}

/// use(address of a row in the pages, its captured row), for every row of heads [first, first + heads).
template <class Use>
void EachRow(const Capture& c, const testing::Engine& engine, Use use) {
  for (uint32_t layer = 0; layer < c.layout.layers; ++layer) {
    for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
      const uint64_t dim = c.layout.dim(tensor);
      for (uint32_t head = engine.cache.first_head; head < engine.cache.first_head + engine.cache.heads; ++head) {
        for (uint32_t t = 0; t < c.tokens; ++t) {
          use(reinterpret_cast<uint8_t*>(engine.cache.At(layer, tensor, engine.pages[t / kPage], head, t % kPage)),
              c.rows.Of(layer, head, tensor).subspan(t * dim, dim));
        }
      }
    }
  }
}

/// One store, one session, and the chain pushed with a head in each part.
struct Link {
  explicit Link(const Fixtures& f, const Codec& codec) : capture(f.text) {
    testing::FakeStore::Options options;
    options.membership.epoch = 1;
    options.membership.members = {{.id = "node-0", .control = "control-0", .shards = 1, .weight = 100, .zone = ""}};
    store = std::make_shared<testing::FakeStore>(options);
    SessionOptions session_options;
    session_options.nodes = {"control-0"};
    session_options.domain = DomainKey::FromPassphrase("seeds");
    session_options.ns.name = "reference model";
    session_options.ns.layout = capture.layout;
    session_options.ns.block_tokens = kBlock;
    session_options.push_view = codec.spec();
    session_options.transports = {"loopback"};
    session_options.dial = [of = store](const std::string&) -> std::shared_ptr<StoreApi> { return of; };
    auto opened = Session::Open(std::move(session_options));
    if (!opened.ok()) return;
    session = *std::move(opened);
    chain = session->Chain(f.tokens);
    const testing::Engine engine = PagesOf(capture, 0, capture.layout.kv_heads);
    EachRow(capture, engine, [](uint8_t* to, std::span<const float> row) {
      for (size_t i = 0; i < row.size(); ++i) StoreElement(ElementType::kBfloat16, row[i], to + 2 * i);
    });
    pushed = true;
    for (uint32_t block = 0; block < chain.size(); ++block) {
      std::promise<PushResult> done;
      PushRequest request;
      request.chain = &chain;
      request.block = block;
      request.cache = &engine.cache;
      request.pages = engine.pages;
      session->Push(std::move(request), [&done](PushResult result) { done.set_value(std::move(result)); });
      pushed &= done.get_future().get().status.ok();
    }
  }
  /// Fetches into `engine`; the bytes that moved, 0 where not every block came.
  uint64_t Fetch(const testing::Engine& engine) {
    std::promise<FetchResult> done;
    FetchRequest request;
    request.chain = &chain;
    request.cache = &engine.cache;
    request.pages = engine.pages;
    session->Fetch(std::move(request), [&done](FetchResult result) { done.set_value(std::move(result)); });
    const FetchResult result = done.get_future().get();
    return result.blocks == chain.size() ? result.moved_bytes : 0;
  }
  const Capture& capture;
  std::shared_ptr<testing::FakeStore> store;
  std::unique_ptr<Session> session;
  PrefixChain chain;
  bool pushed = false;
};

/// Row 37. Rates are a matter of machines (./run bench T1); which bytes travel is not.
Verdict OneHead(Fixtures& f, const Row&, const Codec& codec, const StoredChain&) {
  Link link(f, codec);
  if (!link.pushed) return {false, "the chain could not be pushed"};
  const KvLayout& layout = f.text.layout;
  const uint64_t all = link.Fetch(PagesOf(f.text, 0, layout.kv_heads));
  double most = 0, useful = 1;
  for (uint32_t head = 0; head < layout.kv_heads; ++head) {
    const testing::Engine engine = PagesOf(f.text, head, 1);
    const uint64_t moved = link.Fetch(engine);
    if (moved == 0 || all == 0) return {false, "a head does not come alone"};
    bool same = true;
    EachRow(f.text, engine, [&](const uint8_t* at, std::span<const float> row) {
      for (size_t i = 0; i < row.size(); ++i) same &= LoadElement(ElementType::kBfloat16, at + 2 * i) == row[i];
    });
    if (!same) return {false, Said("head %u is not the one that was stored", head)};
    most = std::max(most, static_cast<double>(moved) / static_cast<double>(all));
    const double wanted = static_cast<double>(layout.layers * layout.LayerBytes(1, f.text.tokens));
    useful = std::min(useful, wanted / static_cast<double>(moved));
  }
  return {
      most <= 1.01 / layout.kv_heads && useful >= kUseful,
      Said("each of %u heads alone moves %.1f%% of what all do, and %.2f%% of that are its rows; to the bit as stored "
           "(bytes over a link in this process; rates: ./run bench T1)",
           layout.kv_heads, 100 * most, 100 * useful)};
}

constexpr NamedCheck kChecks[] = {{37, OneHead}};

}  // namespace

std::span<const NamedCheck> LinkChecks() { return kChecks; }

}  // namespace kvasir::seeds
