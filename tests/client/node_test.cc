// SPDX-License-Identifier: Apache-2.0
// Goal: Session and Node, written against one contract by different hands, agree: over every transport, with replicas,
// through the loss of a node. Method: real nodes in this process, called directly.
#include "store/node.h"
#include "tests/client/cluster.h"
#include "tests/client/extents.h"

namespace kvasir::testing {
namespace {

class RealNodes : public ::testing::TestWithParam<const char*> {
 protected:
  void Start(uint32_t count) {
    Membership membership;
    membership.epoch = 1;
    for (uint32_t i = 0; i < count; ++i) {
      membership.members.push_back({.id = "node-" + std::to_string(i), .control = "control-" + std::to_string(i), .shards = 2,
                                    .weight = 100, .zone = ""});
    }
    for (const Member& member : membership.members) {
      NodeOptions options;
      options.id = member.id;
      options.membership = membership;
      options.run_blocks = 4;
      options.shards = member.shards;
      options.dram_bytes = 64u << 20;
      options.slab_bytes = 16u << 20;
      options.transports = {GetParam()};
      auto node = Node::Start(options);
      ASSERT_TRUE(node.ok()) << node.status();
      nodes.push_back(std::shared_ptr<Node>(*std::move(node)));
    }
  }
  std::unique_ptr<Session> Open(uint32_t replicas) {
    SessionOptions options;
    options.push_view = "raw";
    options.nodes = {"control-0"};
    options.domain = DomainKey::FromPassphrase("tests");
    options.ns = SmallNamespace();
    options.layers_per_part = 2;
    options.staging_bytes = 4u << 20;
    options.transports = {"shm", GetParam()};
    options.replicas = replicas;
    options.codec_threads = 2;
    options.dial = [this](const std::string& address) -> std::shared_ptr<StoreApi> {
      return nodes[std::stoul(address.substr(address.find('-') + 1))];
    };
    auto session = Session::Open(options);
    EXPECT_TRUE(session.ok()) << session.status();
    return *std::move(session);
  }
  std::vector<std::shared_ptr<Node>> nodes;
};

TEST_P(RealNodes, WhatWasPushedIsFetched) {
  Start(3);
  auto session = Open(1);
  constexpr uint32_t kBlocks = 40;
  const PrefixChain chain = session->Chain(Tokens(kBlocks));
  for (const char* spec : {"raw", "splitexp", "int(8,tok)"}) {
    Pages written(SmallNamespace(), {.tokens = kBlocks * 32, .shuffled = true});
    Pages read(SmallNamespace(), {.tokens = kBlocks * 32, .heads_first = true});
    written.FillWithTruth();
    PushAll(*session, chain, written, spec);
    FetchRequest request = RequestOf(chain, read);
    const View view = *View::Make(spec, 2, 1);
    request.accept = {view.spec};
    const FetchResult result = FetchAndWait(*session, request);
    EXPECT_EQ(result.blocks, kBlocks) << result.status;
    EXPECT_EQ(read.Difference(0, kBlocks, &view), "");
  }
  EXPECT_EQ(MatchAndWait(*session, chain).blocks, kBlocks);
  EXPECT_EQ(MatchAndWait(*session, session->Chain(Tokens(4, 9))).blocks, 0u);
}

TEST_P(RealNodes, OneRankFetchesItsHeadsAndLayers) {
  Start(1);
  auto session = Open(1);
  const PrefixChain chain = session->Chain(Tokens(4));
  Pages written(SmallNamespace(), {});
  written.FillWithTruth();
  PushAll(*session, chain, written);
  Pages read(SmallNamespace(), {.first_head = 2, .heads = 2});
  FetchRequest request = RequestOf(chain, read);
  request.first_layer = 1;
  request.layers = 2;
  const FetchResult result = FetchAndWait(*session, request);
  EXPECT_EQ(result.blocks, 4u) << result.status;
  EXPECT_EQ(read.Difference(0, 4, nullptr, 1, 3), "");
}

TEST_P(RealNodes, TwoReplicasOutliveOneNode) {
  Start(3);
  auto session = Open(2);
  constexpr uint32_t kBlocks = 24;
  const PrefixChain chain = session->Chain(Tokens(kBlocks));
  Pages written(SmallNamespace(), {.tokens = kBlocks * 32}), read(SmallNamespace(), {.tokens = kBlocks * 32});
  written.FillWithTruth();
  PushAll(*session, chain, written);
  auto other = Open(2);
  PushResult again = PushBlock(*other, chain, 0, written);
  EXPECT_TRUE(again.status.ok()) << again.status;
  EXPECT_EQ(again.existed, 16u);
  // Its sessions and listeners end as if it had died; calls to it are answered by what replaces it: another, empty node.
  nodes[2] = nodes[1];
  session = Open(2);
  const FetchResult result = FetchAll(*session, chain, read);
  EXPECT_EQ(result.blocks, kBlocks) << result.status;
  EXPECT_EQ(read.Difference(0, kBlocks), "");
}

/// Chosen twice, about two things, and there in full.
TEST_P(RealNodes, ChoicesLieBesideTheFullBlocks) {
  Start(3);
  auto session = Open(2);
  constexpr uint32_t kBlocks = 12, kTokens = kBlocks * 32;
  const PrefixChain chain = session->Chain(Tokens(kBlocks));
  Pages written(SmallNamespace(), {.tokens = kTokens});
  written.FillWithTruth();
  PushAll(*session, chain, written);
  const std::string spec = "B:uni(0.25)|E:ext|R:win(8)|raw";
  std::vector<float> scores(SmallNamespace().layout.layers * 4 * kTokens);
  for (const std::string about : {"first", "second"}) {
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = static_cast<float>((i % kTokens) % (about == "first" ? 5 : 7));
    SelectInputs inputs;
    inputs.external_scores = scores;
    const PushResult pushed = PushSelectedAndWait(*session, {&chain, &written.cache(), written.table(), nullptr, spec, about, &inputs});
    ASSERT_TRUE(pushed.status.ok()) << pushed.status;
    EXPECT_EQ(pushed.replicas, 2u);
    EXPECT_EQ(pushed.existed, 0u);
    Extents rows(SmallNamespace().layout, 0, 4, 4 * kTokens);
    FetchRequest fetch;
    fetch.chain = &chain;
    fetch.extents = &rows.get();
    fetch.accept = {*session->SelectedView(chain, spec, about)};
    const FetchResult fetched = FetchAndWait(*session, fetch);
    ASSERT_EQ(fetched.blocks, kBlocks) << fetched.status;
    const ChainSelection chosen = ChooseHere(spec, written.cache(), written.table(), kTokens, inputs);
    std::vector<uint32_t> positions;
    for (uint32_t token = 0; token < kTokens; ++token) {
      if (chosen.selection.classes[token] != RowClass::kDropped) positions.push_back(token);
    }
    ASSERT_EQ(positions.size(), kTokens / 4);
    EXPECT_TRUE(std::equal(positions.begin(), positions.end(), rows.layer(0).positions.begin()));
    fetch.accept = {spec, "any"};
    EXPECT_EQ(FetchAndWait(*session, fetch).views, std::vector<std::string>(kBlocks, "P:raw"));
  }
  Pages read(SmallNamespace(), {.tokens = kTokens});
  EXPECT_EQ(FetchAll(*session, chain, read).blocks, kBlocks);
  EXPECT_EQ(read.Difference(0, kBlocks), "");
}

TEST_P(RealNodes, InputsAreKeptAsObjects) {
  Start(2);
  auto session = Open(2);
  const PrefixChain chain = session->Chain(Tokens(4));
  const std::vector<float> scores((3u << 20) / 4 + 5, 0.25f);  // three pieces and a bit
  SelectInputs inputs;
  inputs.external_scores = scores;
  std::promise<absl::Status> kept;
  session->KeepInputs(chain, "", inputs, [&](absl::Status status) { kept.set_value(std::move(status)); });
  const absl::Status status = kept.get_future().get();
  EXPECT_TRUE(status.ok()) << status;
  std::promise<absl::StatusOr<std::shared_ptr<const KeptInputs>>> loaded;
  session->LoadInputs(chain, "", [&](const auto& got) { loaded.set_value(got); });
  const auto got = loaded.get_future().get();
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(KeptInputs::Encode((*got)->inputs()), KeptInputs::Encode(inputs));
}

INSTANTIATE_TEST_SUITE_P(Transports, RealNodes, ::testing::Values("loopback", "tcp", "shm"));

}  // namespace
}  // namespace kvasir::testing
