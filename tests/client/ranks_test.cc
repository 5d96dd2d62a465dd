// SPDX-License-Identifier: Apache-2.0
// Goal: ranks of a tensor-parallel job, each with pages and inputs of its own heads only, push together what one process with
// all heads pushes, bit for bit; a rank that waits in vain says for whom. Method: Sessions of several ranks at once against
// fake nodes; all stored parts compared with those of one Session elsewhere.
#include "client/selected.h"
#include "tests/client/cluster.h"
#include "tests/client/extents.h"
#include "tests/kernels/select_chain.h"

namespace kvasir::testing {
namespace {

constexpr char kSnap[] = "B:uni(0.25)|E:win(8,5)|R:win(8)|raw";
constexpr uint32_t kTokens = 128;

/// Everything an engine may bring, over four blocks.
struct Brought {
  explicit Brought(uint64_t salt) : rng(Rng(salt)), all(kTokens, rng, SmallNamespace().layout) {
    all.inputs.query_heads = 2 * SmallNamespace().layout.kv_heads;
  }
  std::mt19937_64 rng;
  SelectFixture all;
};

/// One rank: its Session, its pages, what it brings.
struct Rank {
  Rank(const Cluster& cluster, const SessionOptions& options, const SelectInputs& all, uint32_t first, uint32_t heads)
      : session(cluster.Open(options)),
        chain(session->Chain(Tokens(4))),
        pages(SmallNamespace(), {.first_head = first, .heads = heads, .heads_first = first % 2 == 1}),
        brought(all, SmallNamespace().layout, first, heads) {
    pages.FillWithTruth();
  }
  /// Its PushSelected, under way.
  std::future<PushResult> Start(const std::string& spec, const std::string& about = "") {
    auto done = std::make_shared<std::promise<PushResult>>();
    session->PushSelected({&chain, &pages.cache(), pages.table(), nullptr, spec, about, &brought.inputs},
                          [done](PushResult result) { done->set_value(std::move(result)); });
    return done->get_future();
  }
  std::unique_ptr<Session> session;
  PrefixChain chain;
  Pages pages;
  RankInputs brought;
};

ViewDigest DigestOf(const Rank& rank, const std::string& spec, const std::string& about = "") {
  View view = *View::Make(spec, 2, 1);
  view.selection = client::SelectionContextOf(DomainKey::FromPassphrase("tests"), rank.chain, about);
  return view.Digest();
}

size_t ObjectsOf(Cluster& cluster) {
  size_t count = 0;
  for (size_t i = 0; i < cluster.size(); ++i) cluster.node(i).ForEachObject([&](const std::string&, std::string&) { ++count; });
  return count;
}

TEST(RanksTest, TogetherTheyPushWhatOneProcessWould) {
  const Brought brought(11);
  for (const std::string spec :
       {kSnap, "B:pyr(0.25,20)|E:win(8,5)|R:win(8)|raw", "B:ada(0.25,0.2)|E:win(8,5,max)|R:win(8)|raw",
        "B:head(0.25,0.5)|E:win(8,5)|R:win(8)|raw", "B:gtopk(0.25)|E:win(8,5)|R:win(8)|raw",
        "B:ada(0.3,0,all)|E:ext|raw", "B:class(0.5)|E:late|M:comp|R:sink(4)|R:win(16)|raw",
        "B:uni(0.25)|E:win(8,5)|E:chunk(10)|R:win(8)|raw", "B:tsp(0.1,1,0.2)|E:win(8,7)|E:tsp(1,0.2)|R:win(8)|raw",
        "B:cos3(0.25,0.3)|E:acc|E:vnorm|R:win(8)|k:int(4,chan,32)|v:int(4,tok,16)"}) {
    SCOPED_TRACE(spec);
    for (const std::vector<uint32_t>& cuts : {std::vector<uint32_t>{0, 2, 4}, {0, 1, 3, 4}}) {
      Cluster apart(2), together(1);
      Rank one(together, together.Options(), brought.all.inputs, 0, 4);
      const PushResult whole = one.Start(spec).get();
      ASSERT_TRUE(whole.status.ok()) << whole.status;
      std::vector<std::unique_ptr<Rank>> ranks;
      std::vector<std::future<PushResult>> pushes;
      SessionOptions options = apart.Options();
      options.retry_pause = std::chrono::milliseconds(5);
      for (size_t i = 0; i + 1 < cuts.size(); ++i) {
        ranks.push_back(std::make_unique<Rank>(apart, options, brought.all.inputs, cuts[i], cuts[i + 1] - cuts[i]));
      }
      for (const auto& rank : ranks) pushes.push_back(rank->Start(spec));
      uint64_t stored = 0;
      for (std::future<PushResult>& push : pushes) {
        const PushResult pushed = push.get();
        ASSERT_TRUE(pushed.status.ok()) << pushed.status;
        EXPECT_EQ(pushed.existed, 0u);
        stored += pushed.stored_bytes;
      }
      EXPECT_EQ(stored, whole.stored_bytes);
      const auto parts = apart.PartsOf(DigestOf(*ranks[0], spec));
      EXPECT_EQ(parts.size(), 4u * 2 * 4);
      EXPECT_EQ(parts, together.PartsOf(DigestOf(one, spec)));
      EXPECT_EQ(ObjectsOf(together), 0u) << "who has all heads exchanges nothing";
    }
  }
}

TEST(RanksTest, AReaderFetchesTheUnion) {
  Cluster cluster(1);
  const Brought brought(12);
  Rank low(cluster, cluster.Options(), brought.all.inputs, 0, 2), high(cluster, cluster.Options(), brought.all.inputs, 2, 2);
  auto first = low.Start("snapkv", "a question"), second = high.Start("snapkv", "a question");
  // 32 queries of the window were not brought.
  EXPECT_NE(first.get().status.message().find("window_queries are of 12 queries; bring 32"), std::string::npos);
  EXPECT_FALSE(second.get().status.ok());
  first = low.Start(kSnap, "a question"), second = high.Start(kSnap, "a question");
  ASSERT_TRUE(first.get().status.ok() && second.get().status.ok());
  Extents rows(SmallNamespace().layout, 0, 4, 4 * kTokens);
  FetchRequest request;
  request.chain = &low.chain;
  request.extents = &rows.get();
  request.accept = {*high.session->SelectedView(high.chain, kSnap, "a question")};
  EXPECT_EQ(FetchAndWait(*low.session, request).blocks, 4u);
  EXPECT_EQ(rows.rows(0), 4u * 32);
}

TEST(RanksTest, OneThatWaitsInVainSaysForWhichHeads) {
  Cluster cluster(1);
  const Brought brought(13);
  SessionOptions options = cluster.Options();
  options.push_deadline = std::chrono::seconds(1);
  options.retry_pause = std::chrono::milliseconds(10);
  Rank rank(cluster, options, brought.all.inputs, 1, 2);
  const PushResult alone = rank.Start(kSnap).get();
  EXPECT_TRUE(absl::IsDeadlineExceeded(alone.status)) << alone.status;
  EXPECT_NE(alone.status.message().find("scores of heads 0, 3 did not come within push_deadline"), std::string::npos) << alone.status;
  EXPECT_EQ(cluster.node(0).seen().parts_offered, 0u);
  // What it kept is there when the others come.
  Rank first(cluster, cluster.Options(), brought.all.inputs, 0, 1), last(cluster, cluster.Options(), brought.all.inputs, 3, 1);
  auto one = first.Start(kSnap), other = last.Start(kSnap);
  EXPECT_TRUE(one.get().status.ok());
  EXPECT_TRUE(other.get().status.ok());
  EXPECT_TRUE(rank.Start(kSnap).get().status.ok());
}

TEST(RanksTest, WhatIsKeptOfAHeadCountsForAllOfThem) {
  const std::string spec = "B:ada(0.25,0)|E:ext|raw";
  const Brought brought(14), of_another_job(15);
  Cluster apart(1), together(1);
  SessionOptions options = apart.Options();
  options.push_deadline = std::chrono::seconds(1);
  Rank other(apart, options, of_another_job.all.inputs, 2, 2);
  ASSERT_FALSE(other.Start(spec).get().status.ok()) << "its other half never came";
  Rank low(apart, apart.Options(), brought.all.inputs, 0, 2), high(apart, apart.Options(), brought.all.inputs, 2, 2);
  auto first = low.Start(spec), second = high.Start(spec);
  ASSERT_TRUE(first.get().status.ok());
  ASSERT_TRUE(second.get().status.ok());
  // One process with those scores of heads 2 and 3.
  std::vector<float> external = brought.all.external;
  for (size_t i = 0; i < external.size(); ++i) {
    if (i / kTokens % 4 >= 2) external[i] = of_another_job.all.external[i];
  }
  SelectInputs mixed = brought.all.inputs;
  mixed.external_scores = external;
  Rank one(together, together.Options(), mixed, 0, 4);
  ASSERT_TRUE(one.Start(spec).get().status.ok());
  EXPECT_EQ(apart.PartsOf(DigestOf(low, spec)), together.PartsOf(DigestOf(one, spec)));
}

TEST(RanksTest, StagesThatLookAtAllHeadsAreRefusedByName) {
  Cluster cluster(1);
  const Brought brought(16);
  Rank rank(cluster, cluster.Options(), brought.all.inputs, 0, 2);
  for (const auto& [spec, why] : {std::pair{"B:ent(0.25)|E:win(8,5)|raw", "B:ent looks at window_queries of all heads"},
                                  {"B:unc(0.25)|E:win(8,5)|raw", "B:unc looks at window_queries of all heads"},
                                  {"B:var(0.25)|E:acc|raw", "B:var looks at attention_sums of all heads"},
                                  {"B:uni(0.25)|E:acc|E:chunk(8)|E:vnorm|raw", "E:vnorm looks at keys or values of all heads"}}) {
    const PushResult refused = rank.Start(spec).get();
    EXPECT_TRUE(absl::IsInvalidArgument(refused.status)) << refused.status;
    EXPECT_NE(refused.status.message().find(why), std::string::npos) << refused.status;
  }
  Pages odd(SmallNamespace(), {.layers = 2, .heads = 2});
  const PushResult few = PushSelectedAndWait(
      *rank.session, {&rank.chain, &odd.cache(), odd.table(), nullptr, kSnap, "", &brought.all.inputs});
  EXPECT_NE(few.status.message().find("needs all 4 layers"), std::string::npos) << few.status;
  EXPECT_EQ(ObjectsOf(cluster), 0u);
}

TEST(RanksTest, DroppedScoresLeaveNothing) {
  Cluster cluster(2);
  const Brought brought(17);
  Rank low(cluster, cluster.Options(), brought.all.inputs, 0, 2), high(cluster, cluster.Options(), brought.all.inputs, 2, 2);
  auto first = low.Start("knorm"), second = high.Start("knorm");
  ASSERT_TRUE(first.get().status.ok() && second.get().status.ok());
  EXPECT_EQ(ObjectsOf(cluster), 8u);  // a head: one piece and its manifest
  const auto drop = [&](const std::string& spec) {
    std::promise<absl::Status> done;
    low.session->DropScores(low.chain, spec, "", [&](absl::Status status) { done.set_value(std::move(status)); });
    return done.get_future().get();
  };
  EXPECT_TRUE(absl::IsNotFound(drop(kSnap)));
  EXPECT_TRUE(drop("B:uni(0.5)|E:knorm|raw").ok());
  EXPECT_EQ(ObjectsOf(cluster), 0u);
  EXPECT_TRUE(absl::IsNotFound(drop("knorm")));
  EXPECT_TRUE(absl::IsInvalidArgument(drop("knrom")));
}

TEST(RanksTest, ClosingEndsTheWaitOnce) {
  Cluster cluster(1);
  const Brought brought(18);
  auto rank = std::make_unique<Rank>(cluster, cluster.Options(), brought.all.inputs, 0, 2);
  auto alone = rank->Start(kSnap);
  rank->session.reset();
  EXPECT_TRUE(absl::IsAborted(alone.get().status));
}

}  // namespace
}  // namespace kvasir::testing
