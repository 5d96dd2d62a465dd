// SPDX-License-Identifier: Apache-2.0
// Cluster: a few FakeStores with one membership, Sessions to them, and pushes and fetches that a test waits for.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/session.h"
#include "tests/client/fake_store.h"
#include "tests/client/pages.h"

namespace kvasir::testing {

class Cluster {
 public:
  explicit Cluster(uint32_t nodes, FakeStore::Options base = {}) {
    base.membership.epoch = 1;
    base.membership.members.clear();
    for (uint32_t i = 0; i < nodes; ++i) {
      base.membership.members.push_back({.id = "node-" + std::to_string(i), .control = "control-" + std::to_string(i),
                                         .shards = 1, .weight = 100, .zone = ""});
    }
    membership_ = base.membership;
    for (const Member& member : membership_.members) {
      base.id = member.id;
      stores_.push_back(std::make_shared<FakeStore>(base));
    }
    transport_ = base.transport;
  }

  SessionOptions Options() const {
    SessionOptions options;
    options.push_view = "raw";
    options.nodes = {"control-0"};
    options.domain = DomainKey::FromPassphrase("tests");
    options.ns = SmallNamespace();
    options.layers_per_part = 2;
    options.staging_bytes = 4u << 20;
    options.transports = {transport_};
    // A busy machine is slow, not wrong: who tests a deadline sets it.
    options.push_deadline = options.fetch_deadline = options.call_deadline = std::chrono::seconds(60);
    options.dial = [stores = stores_](const std::string& address) -> std::shared_ptr<StoreApi> {
      return stores[std::stoul(address.substr(address.find('-') + 1))];
    };
    return options;
  }
  std::unique_ptr<Session> Open(SessionOptions options) const {
    auto session = Session::Open(std::move(options));
    EXPECT_TRUE(session.ok()) << session.status();
    return session.ok() ? *std::move(session) : nullptr;
  }
  std::unique_ptr<Session> Open() const { return Open(Options()); }
  /// Writes to two nodes; one that is silent costs a reader a second.
  SessionOptions Impatient() const {
    SessionOptions options = Options();
    options.replicas = 2;
    options.call_deadline = std::chrono::seconds(1);
    return options;
  }

  FakeStore& node(size_t i) { return *stores_[i]; }
  size_t size() const { return stores_.size(); }
  const Membership& membership() const { return membership_; }
  /// Owners of a block's run, primary first.
  std::vector<size_t> Owners(const PrefixChain& chain, uint32_t block, uint32_t run_blocks = 4) const {
    std::vector<size_t> owners;
    for (const Placed& placed : Place(chain.RunKey(block, run_blocks), membership_, static_cast<uint32_t>(size()))) {
      owners.push_back(placed.member);
    }
    return owners;
  }
  /// All parts of a view that any node has, but for the stamps of who and when.
  std::map<PartId, std::vector<std::byte>> PartsOf(const ViewDigest& view) const {
    std::map<PartId, std::vector<std::byte>> parts;
    for (const auto& store : stores_) {
      store->ForEachPart([&](const PartId& id, std::span<std::byte> bytes) {
        if (id.view != view) return;
        std::vector<std::byte>& part = parts[id] = {bytes.begin(), bytes.end()};
        StampGeneration(part, 0);
        std::memset(part.data() + offsetof(PartHeader, writer), 0, sizeof(uint64_t));
        std::memset(part.data() + offsetof(PartHeader, root), 0, 16);  // it covers the writer
      });
    }
    return parts;
  }

 private:
  Membership membership_;
  std::string transport_;
  std::vector<std::shared_ptr<FakeStore>> stores_;
};

/// `blocks` whole blocks of tokens; `salt` makes other chains.
inline std::vector<uint32_t> Tokens(uint32_t blocks, uint32_t salt = 0) {
  std::vector<uint32_t> tokens(blocks * SmallNamespace().block_tokens);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<uint32_t>(i * 2654435761u + salt);
  return tokens;
}

inline PushResult PushAndWait(Session& session, PushRequest request) {
  std::promise<PushResult> done;
  session.Push(std::move(request), [&done](PushResult result) { done.set_value(std::move(result)); });
  return done.get_future().get();
}
inline PushResult PushBlock(Session& session, const PrefixChain& chain, uint32_t block, const Pages& pages, std::string view = "") {
  PushRequest request;
  request.chain = &chain;
  request.block = block;
  request.cache = &pages.cache();
  request.pages = pages.table();
  request.view = std::move(view);
  return PushAndWait(session, std::move(request));
}
inline PushResult PushSelectedAndWait(Session& session, PushSelectedRequest request) {
  std::promise<PushResult> done;
  session.PushSelected(std::move(request), [&done](PushResult result) { done.set_value(std::move(result)); });
  return done.get_future().get();
}
inline void PushAll(Session& session, const PrefixChain& chain, const Pages& pages, const std::string& view = "") {
  for (uint32_t block = 0; block < chain.size(); ++block) {
    const PushResult result = PushBlock(session, chain, block, pages, view);
    ASSERT_TRUE(result.status.ok()) << "block " << block << ": " << result.status;
  }
}

inline FetchRequest RequestOf(const PrefixChain& chain, const Pages& pages) {
  FetchRequest request;
  request.chain = &chain;
  request.cache = &pages.cache();
  request.pages = pages.table();
  return request;
}
inline FetchResult FetchAndWait(Session& session, FetchRequest request) {
  std::promise<FetchResult> done;
  session.Fetch(std::move(request), [&done](FetchResult result) { done.set_value(std::move(result)); });
  return done.get_future().get();
}
inline FetchResult FetchAll(Session& session, const PrefixChain& chain, const Pages& pages) {
  return FetchAndWait(session, RequestOf(chain, pages));
}
inline MatchResult MatchAndWait(Session& session, const PrefixChain& chain) {
  std::promise<MatchResult> done;
  session.Match(chain, [&done](MatchResult result) { done.set_value(std::move(result)); });
  return done.get_future().get();
}
inline uint64_t CounterOf(const Session& session, const std::string& name) {
  for (const auto& [counter, value] : session.Counters()) {
    if (counter == name) return value;
  }
  ADD_FAILURE() << "no counter " << name;
  return 0;
}

}  // namespace kvasir::testing
