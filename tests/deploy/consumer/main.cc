// SPDX-License-Identifier: Apache-2.0
// The smallest useful program on Kvasir: pushes the KV of one block, fetches it into another cache, compares.
//   consumer                     with a node inside this process
//   consumer 127.0.0.1:7070      with a running kvasird
#include <cstdio>
#include <future>
#include <numeric>
#include <vector>

#include "client/session.h"
#include "deploy/embedded/embedded.h"

namespace {

constexpr uint32_t kLayers = 4, kHeads = 2, kDim = 64, kTokens = 128;

/// KV of one block as an engine might keep it: [layer][K,V][head][token][dim], bf16.
struct Cache {
  explicit Cache(const kvasir::Namespace& ns) : bytes(kLayers * ns.layout.LayerBytes(kHeads, kTokens)) {
    const size_t tensor = bytes.size() / kLayers / 2;
    pages.layout = ns.layout;
    pages.heads = kHeads;
    pages.page_tokens = kTokens;
    pages.key_strides = pages.value_strides = {.page = 0, .head = kTokens * kDim * 2, .token = kDim * 2};
    for (size_t layer = 0; layer < kLayers; ++layer) {
      pages.layers.push_back({bytes.data() + layer * 2 * tensor, bytes.data() + (layer * 2 + 1) * tensor});
    }
  }
  std::vector<std::byte> bytes;
  kvasir::PagedCache pages;
};

int Fail(const char* what, const absl::Status& status) {
  std::fprintf(stderr, "consumer: %s: %s\n", what, std::string(status.message()).c_str());
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  kvasir::SessionOptions options;
  options.domain = kvasir::DomainKey::FromPassphrase("consumer");
  options.ns.name = "consumer-model";
  options.ns.layout = {kLayers, kHeads, kDim, kDim, kvasir::ElementType::kBfloat16};
  options.ns.block_tokens = kTokens;
  options.push_view = "splitexp";

  kvasir::Embedded embedded;
  if (argc > 1) {
    options.nodes = {argv[1]};
  } else {
    kvasir::NodeOptions node;
    node.dram_bytes = node.slab_bytes = 64 << 20;
    auto started = kvasir::StartEmbedded(node);
    if (!started.ok()) return Fail("node", started.status());
    embedded = *started;
    embedded.Attach(&options);
  }
  auto session = kvasir::Session::Open(options);
  if (!session.ok()) return Fail("session", session.status());

  std::vector<uint32_t> tokens(kTokens);
  std::iota(tokens.begin(), tokens.end(), 0);
  const kvasir::PrefixChain chain = (*session)->Chain(tokens);
  const std::vector<uint32_t> page = {0};
  Cache source(options.ns), target(options.ns);
  for (size_t i = 0; i < source.bytes.size(); ++i) {  // bf16 values from 0.5 to 2
    source.bytes[i] = static_cast<std::byte>(i % 2 == 0 ? i * 7 : 0x3F);
  }

  std::promise<kvasir::PushResult> pushed;
  (*session)->Push({.chain = &chain, .block = 0, .cache = &source.pages, .pages = page},
                   [&](kvasir::PushResult result) { pushed.set_value(result); });
  const kvasir::PushResult push = pushed.get_future().get();
  if (!push.status.ok()) return Fail("push", push.status);

  std::promise<kvasir::FetchResult> fetched;
  (*session)->Fetch({.chain = &chain, .cache = &target.pages, .pages = page},
                    [&](kvasir::FetchResult result) { fetched.set_value(result); });
  const kvasir::FetchResult fetch = fetched.get_future().get();
  if (fetch.blocks != 1) return Fail("fetch", fetch.status);
  if (source.bytes != target.bytes) return Fail("compare", absl::DataLossError("the bytes differ"));
  std::printf("pushed and fetched one block: %zu bytes raw, %zu stored\n", static_cast<size_t>(push.raw_bytes),
              static_cast<size_t>(push.stored_bytes));
  return 0;
}
