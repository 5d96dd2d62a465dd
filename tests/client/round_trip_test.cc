// SPDX-License-Identifier: Apache-2.0
// Goal: what is fetched is what was pushed, bit for bit, whatever the layouts of writer and reader. Method: pages filled
// from one truth, poisoned pages to fetch into, and the codec called directly for lossy views.
#include "tests/client/cluster.h"

namespace kvasir::testing {
namespace {

TEST(RoundTripTest, EveryViewComesBackAsItsCodecMakesIt) {
  for (const char* spec : {"raw", "splitexp", "int(8,tok)", "int(4,chan,32)", "k:int(2,chan,32)|v:int(2,tok,16)"}) {
    SCOPED_TRACE(spec);
    Cluster cluster(1);
    SessionOptions options = cluster.Options();
    options.push_view = spec;
    options.accept = {"any"};
    auto session = cluster.Open(options);
    const PrefixChain chain = session->Chain(Tokens(4));
    Pages written(options.ns, {});
    written.FillWithTruth();
    PushAll(*session, chain, written);
    Pages read(options.ns, {});
    const FetchResult result = FetchAll(*session, chain, read);
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.blocks, 4u);
    EXPECT_EQ(result.tokens, 128u);
    const View view = *View::Make(spec, 2, 1);
    EXPECT_EQ(result.views, std::vector<std::string>(4, view.spec));
    EXPECT_EQ(read.Difference(0, 4, &view), "");
    if (view.lossless) {
      EXPECT_EQ(read.Difference(0, 4), "");
    }
  }
}

TEST(RoundTripTest, AMethodStandsForItsSpec) {
  Cluster cluster(1);
  SessionOptions options = cluster.Options();
  options.push_view = "turboquant4";
  options.accept = {"turboquant4", "lossless"};
  auto session = cluster.Open(options);
  const View turbo = *View::Make("had|lm(4)", 2, 1);
  EXPECT_EQ(session->push_view(), turbo.spec);
  const PrefixChain chain = session->Chain(Tokens(4)), other = session->Chain(Tokens(4, 1));
  Pages written(options.ns, {}), read(options.ns, {});
  written.FillWithTruth();
  PushAll(*session, chain, written);
  PushAll(*session, other, written, "fp8");
  EXPECT_EQ(FetchAll(*session, chain, read).views, std::vector<std::string>(4, turbo.spec));
  EXPECT_EQ(read.Difference(0, 4, &turbo), "");
  FetchRequest request = RequestOf(other, read);
  request.accept = {"turboquant2", "fp8"};
  EXPECT_EQ(FetchAndWait(*session, request).views, std::vector<std::string>(4, View::Make("fp8")->spec));

  constexpr char kNear[] = "no method 'kivi3'; did you mean kivi2 or kivi4? `kvasir codecs` lists all";
  EXPECT_EQ(PushBlock(*session, chain, 0, written, "kivi3").status.message(), kNear);
  request.accept = {"kivi3"};
  EXPECT_EQ(FetchAndWait(*session, request).status.message(), kNear);
  EXPECT_EQ(session->SelectedView(chain, "kivi3", "").status().message(), kNear);
  options.push_view = "kivi3";
  EXPECT_EQ(Session::Open(options).status().message(), absl::StrCat("push_view: ", kNear));
  options.push_view = "raw";
  options.accept = {"lossless", "kivi3"};
  EXPECT_EQ(Session::Open(options).status().message(), absl::StrCat("accept: ", kNear));
}

TEST(RoundTripTest, LayoutsOfWriterAndReaderNeedNotAgree) {
  Cluster cluster(1);
  auto session = cluster.Open();
  const PrefixChain chain = session->Chain(Tokens(4));
  Pages written(SmallNamespace(), {.page_tokens = 16, .heads_first = false, .shuffled = true});
  written.FillWithTruth();
  PushAll(*session, chain, written);
  for (const uint32_t page_tokens : {8u, 16u, 32u}) {
    for (const bool heads_first : {false, true}) {
      Pages read(SmallNamespace(), {.page_tokens = page_tokens, .heads_first = heads_first, .shuffled = true});
      const FetchResult result = FetchAll(*session, chain, read);
      EXPECT_TRUE(result.status.ok()) << result.status;
      EXPECT_EQ(read.Difference(0, 4), "") << page_tokens << heads_first;
    }
  }
}

TEST(RoundTripTest, TwoRanksWriteAndOneReads) {
  Cluster cluster(1);
  auto first = cluster.Open();
  auto second = cluster.Open();
  const PrefixChain chain = first->Chain(Tokens(4));
  for (const uint32_t rank : {0u, 1u}) {
    Pages half(SmallNamespace(), {.first_head = rank * 2, .heads = 2});
    half.FillWithTruth();
    PushAll(rank == 0 ? *first : *second, chain, half);
    Pages whole(SmallNamespace(), {});
    const FetchResult result = FetchAll(*first, chain, whole);
    EXPECT_EQ(result.blocks, rank == 0 ? 0u : 4u) << "a slice is held when all its parts are";
    if (rank == 1) {
      EXPECT_EQ(whole.Difference(0, 4), "");
    }
  }
}

TEST(RoundTripTest, OnlyTheHeadsOfARankMove) {
  Cluster cluster(1);
  auto session = cluster.Open();
  const PrefixChain chain = session->Chain(Tokens(4));
  Pages written(SmallNamespace(), {});
  written.FillWithTruth();
  PushAll(*session, chain, written);
  Pages whole(SmallNamespace(), {});
  const FetchResult all = FetchAll(*session, chain, whole);
  for (const uint32_t rank : {0u, 1u}) {
    Pages half(SmallNamespace(), {.first_head = rank * 2, .heads = 2});
    const FetchResult result = FetchAll(*session, chain, half);
    EXPECT_EQ(result.blocks, 4u);
    EXPECT_EQ(half.Difference(0, 4), "");
    EXPECT_EQ(result.moved_bytes * 2, all.moved_bytes);
    EXPECT_EQ(result.raw_bytes * 2, all.raw_bytes);
  }
}

TEST(RoundTripTest, PipelineRanksWriteTheirLayers) {
  Cluster cluster(1);
  auto session = cluster.Open();
  const PrefixChain chain = session->Chain(Tokens(4));
  for (const uint32_t rank : {0u, 1u}) {
    Pages half(SmallNamespace(), {.first_layer = rank * 2, .layers = 2});
    half.FillWithTruth();
    PushAll(*session, chain, half);
  }
  Pages whole(SmallNamespace(), {});
  EXPECT_EQ(FetchAll(*session, chain, whole).blocks, 4u);
  EXPECT_EQ(whole.Difference(0, 4), "");
}

TEST(RoundTripTest, PartOfAPartsLayersMovesItsFramesOnly) {
  for (const char* spec : {"raw", "splitexp"}) {
    Cluster cluster(1);
    SessionOptions options = cluster.Options();
    options.push_view = spec;
    options.layers_per_part = 4;
    auto session = cluster.Open(options);
    const PrefixChain chain = session->Chain(Tokens(4));
    Pages written(options.ns, {});
    written.FillWithTruth();
    PushAll(*session, chain, written);
    Pages whole(options.ns, {});
    const uint64_t all_bytes = FetchAll(*session, chain, whole).moved_bytes;
    for (uint32_t layer = 0; layer < 4; ++layer) {
      Pages read(options.ns, {});
      FetchRequest request = RequestOf(chain, read);
      request.first_layer = layer;
      request.layers = 1;
      const FetchResult result = FetchAndWait(*session, request);
      EXPECT_TRUE(result.status.ok()) << result.status;
      EXPECT_EQ(read.Difference(0, 4, nullptr, layer, layer + 1), "");
      EXPECT_LT(result.moved_bytes, all_bytes / 2);
    }
  }
}

TEST(RoundTripTest, TheBestAcceptedViewIsTaken) {
  Cluster cluster(1);
  auto session = cluster.Open();
  const PrefixChain chain = session->Chain(Tokens(4));
  Pages written(SmallNamespace(), {});
  written.FillWithTruth();
  PushAll(*session, chain, written, "int(8,tok)");
  Pages read(SmallNamespace(), {});
  EXPECT_EQ(FetchAll(*session, chain, read).blocks, 0u) << "lossless was asked for";
  EXPECT_TRUE(read.Untouched(0, 4));
  FetchRequest request = RequestOf(chain, read);
  request.accept = {"lossless", "int(8,tok)"};
  EXPECT_EQ(FetchAndWait(*session, request).blocks, 4u);
  ASSERT_TRUE(PushBlock(*session, chain, 1, written, "splitexp").status.ok());
  const FetchResult mixed = FetchAndWait(*session, request);
  ASSERT_EQ(mixed.blocks, 4u);
  EXPECT_NE(mixed.views[0], mixed.views[1]) << "chosen block by block";
  EXPECT_EQ(read.Difference(1, 2), "");
}

TEST(RoundTripTest, ManyBlocksOverThreeNodesWithSeveralWorkers) {
  Cluster cluster(3);
  SessionOptions options = cluster.Options();
  options.codec_threads = 2;
  auto session = cluster.Open(options);
  constexpr uint32_t kBlocks = 50;
  const PrefixChain chain = session->Chain(Tokens(kBlocks));
  Pages written(options.ns, {.tokens = kBlocks * 32});
  written.FillWithTruth();
  PushAll(*session, chain, written);
  size_t used = 0;
  for (size_t i = 0; i < 3; ++i) used += cluster.node(i).seen().parts > 0;
  EXPECT_EQ(used, 3u) << "runs spread over the nodes";
  EXPECT_EQ(MatchAndWait(*session, chain).blocks, kBlocks);
  Pages read(options.ns, {.tokens = kBlocks * 32, .heads_first = true});
  const FetchResult result = FetchAll(*session, chain, read);
  EXPECT_EQ(result.blocks, kBlocks) << result.status;
  EXPECT_EQ(read.Difference(0, kBlocks), "");
  FetchRequest middle = RequestOf(chain, read);
  read.Poison();
  middle.first_block = 7;
  middle.blocks = 20;
  EXPECT_EQ(FetchAndWait(*session, middle).blocks, 20u);
  EXPECT_EQ(read.Difference(7, 27), "");
  EXPECT_TRUE(read.Untouched(0, 7));
  EXPECT_TRUE(read.Untouched(27, kBlocks));
}

TEST(RoundTripTest, TheSameBlockTwiceIsASuccess) {
  Cluster cluster(1);
  auto first = cluster.Open();
  auto second = cluster.Open();
  const PrefixChain chain = first->Chain(Tokens(1));
  Pages written(SmallNamespace(), {});
  written.FillWithTruth();
  const PushResult one = PushBlock(*first, chain, 0, written);
  const PushResult two = PushBlock(*second, chain, 0, written);
  EXPECT_TRUE(one.status.ok() && two.status.ok());
  EXPECT_EQ(one.existed, 0u);
  EXPECT_EQ(two.existed, 8u);
  EXPECT_EQ(two.replicas, 1u);
  EXPECT_EQ(two.raw_bytes, SmallNamespace().layout.LayerBytes(4, 32) * 4);
}

TEST(RoundTripTest, WishesReachTheOwners) {
  Cluster cluster(1);
  auto session = cluster.Open();
  const PrefixChain chain = session->Chain(Tokens(6));
  session->Keep(chain, std::chrono::seconds(60));
  session->Release(chain);
  EXPECT_EQ(MatchAndWait(*session, chain).blocks, 0u);  // a call later: both have arrived
  EXPECT_EQ(cluster.node(0).seen().keeps, 6u);
  EXPECT_EQ(cluster.node(0).seen().drops, 6u);
}

}  // namespace
}  // namespace kvasir::testing
