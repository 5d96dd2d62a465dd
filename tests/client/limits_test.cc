// SPDX-License-Identifier: Apache-2.0
// Goal: layers become visible one by one, deadlines are misses, limits are named, and a Session ends cleanly at any time.
// Method: FakeStores that hold parts and offers back until told; no sleeps.
#include "tests/client/cluster.h"

namespace kvasir::testing {
namespace {

using std::chrono::milliseconds;

constexpr uint64_t kSlotBytes = 4608;  ///< one raw part of the small namespace: 4,096 + 256 + 16 + 4 * 16, rounded up

std::future<FetchResult> StartFetch(Session& session, FetchRequest request, FetchId* id) {
  auto done = std::make_shared<std::promise<FetchResult>>();
  std::future<FetchResult> result = done->get_future();
  *id = session.Fetch(std::move(request), [done](FetchResult r) { done->set_value(std::move(r)); });
  return result;
}

struct LimitsTest : ::testing::Test {
  void Open(const SessionOptions& options, uint32_t blocks = 4) {
    session = cluster.Open(options);
    chain = session->Chain(Tokens(blocks));
    written.FillWithTruth();
  }
  Cluster cluster{1};
  std::unique_ptr<Session> session;
  PrefixChain chain;
  Pages written{SmallNamespace(), {}}, read{SmallNamespace(), {}};
};

TEST_F(LimitsTest, LayersComeInOrder) {
  Open(cluster.Options());
  PushAll(*session, chain, written);
  cluster.node(0).HoldLayersFrom(1);
  FetchId fetch = 0;
  auto result = StartFetch(*session, RequestOf(chain, read), &fetch);
  EXPECT_EQ(*session->WaitFound(fetch), 4u);
  EXPECT_EQ(*session->WaitLayer(fetch, 0, nullptr), 4u);
  EXPECT_EQ(*session->WaitLayer(fetch, 1, nullptr), 4u);
  EXPECT_EQ(read.Difference(0, 4, nullptr, 0, 2), "");
  EXPECT_EQ(result.wait_for(milliseconds(0)), std::future_status::timeout);
  cluster.node(0).MakeReady(1);
  EXPECT_EQ(*session->WaitLayer(fetch, 3, nullptr), 4u);
  EXPECT_EQ(read.Difference(0, 4), "");
  EXPECT_EQ(result.get().blocks, 4u);
  EXPECT_EQ(*session->WaitLayer(fetch, 3, nullptr), 4u) << "a finished fetch is remembered";
  EXPECT_TRUE(absl::IsNotFound(session->WaitLayer(999, 0, nullptr).status()));
  EXPECT_TRUE(absl::IsNotFound(session->WaitFound(0).status()));
}

TEST_F(LimitsTest, ReadinessMayOvertakeTheAnswer) {
  Open(cluster.Options());
  PushAll(*session, chain, written);
  cluster.node(0).HoldLayersFrom(1);
  cluster.node(0).EventsFirst(true);
  const FetchResult result = FetchAll(*session, chain, read);
  EXPECT_EQ(result.blocks, 4u) << result.status;
  EXPECT_EQ(read.Difference(0, 4), "");
}

TEST_F(LimitsTest, TheDeadlineIsAMiss) {
  SessionOptions options = cluster.Options();
  Open(options);
  PushAll(*session, chain, written);
  options.fetch_deadline = milliseconds(500);
  options.staging_bytes = 2 * kSlotBytes;  // one slot for fetches
  auto reader = cluster.Open(options);
  cluster.node(0).HoldLayersFrom(1);
  FetchId fetch = 0;
  auto result = StartFetch(*reader, RequestOf(chain, read), &fetch);
  EXPECT_EQ(*reader->WaitLayer(fetch, 0, nullptr), 4u);
  EXPECT_EQ(*reader->WaitLayer(fetch, 3, nullptr), 0u);
  const FetchResult late = result.get();
  EXPECT_TRUE(absl::IsDeadlineExceeded(late.status)) << late.status;
  EXPECT_EQ(late.blocks, 0u);
  EXPECT_EQ(CounterOf(*reader, "miss_late"), 4u);
  // Nothing leaked: the one slot serves the next fetch, the lease was given back.
  cluster.node(0).HoldLayersFrom(~0u);
  EXPECT_EQ(FetchAll(*session, chain, read).blocks, 4u);
  EXPECT_EQ(FetchAll(*reader, chain, read).blocks, 4u);
  MatchAndWait(*reader, chain);
  MatchAndWait(*session, chain);
  EXPECT_EQ(cluster.node(0).seen().leases, 0u);
}

TEST_F(LimitsTest, LeasesAreRenewedWhileAFetchWaits) {
  FakeStore::Options base;
  base.lease = milliseconds(40);
  Cluster short_leases(1, base);
  auto holder = short_leases.Open();
  chain = holder->Chain(Tokens(4));
  written.FillWithTruth();
  PushAll(*holder, chain, written);
  short_leases.node(0).HoldLayersFrom(1);
  FetchId fetch = 0;
  auto result = StartFetch(*holder, RequestOf(chain, read), &fetch);
  while (short_leases.node(0).seen().renews < 2) EXPECT_TRUE(holder->WaitFound(fetch).ok());
  short_leases.node(0).MakeReady(1);
  EXPECT_EQ(result.get().blocks, 4u);
}

TEST_F(LimitsTest, ARevokedLeaseIsAskedOfTheNextOwner) {
  Cluster two(2);
  SessionOptions options = two.Options();
  options.replicas = 2;
  auto holder = two.Open(options);
  chain = holder->Chain(Tokens(4));
  written.FillWithTruth();
  PushAll(*holder, chain, written);
  FakeStore& primary = two.node(two.Owners(chain, 0)[0]);
  primary.HoldLayersFrom(1);
  FetchId fetch = 0;
  auto result = StartFetch(*holder, RequestOf(chain, read), &fetch);
  EXPECT_EQ(*holder->WaitLayer(fetch, 0, nullptr), 4u);
  primary.RevokeLeases();
  EXPECT_EQ(result.get().blocks, 4u);
  EXPECT_EQ(read.Difference(0, 4), "");
}

TEST_F(LimitsTest, PushesWaitForRoomInStaging) {
  SessionOptions options = cluster.Options();
  options.staging_bytes = 2 * kSlotBytes;  // one slot for pushes
  Open(options);
  std::vector<std::promise<PushResult>> done(4);
  for (uint32_t block = 0; block < 4; ++block) {
    PushRequest request;
    request.chain = &chain;
    request.block = block;
    request.cache = &written.cache();
    request.pages = written.table();
    session->Push(request, [&, block](PushResult result) { done[block].set_value(std::move(result)); });
  }
  for (auto& push : done) EXPECT_TRUE(push.get_future().get().status.ok());
  EXPECT_EQ(FetchAll(*session, chain, read).blocks, 4u);
  EXPECT_EQ(read.Difference(0, 4), "");
}

TEST_F(LimitsTest, APartThatCanNeverFitIsRefused) {
  SessionOptions options = cluster.Options();
  Open(options);
  PushAll(*session, chain, written);
  options.staging_bytes = kSlotBytes;
  auto small = cluster.Open(options);
  EXPECT_TRUE(absl::IsResourceExhausted(PushBlock(*small, chain, 0, written).status));
  const FetchResult result = FetchAll(*small, chain, read);
  EXPECT_TRUE(absl::IsResourceExhausted(result.status)) << result.status;
  EXPECT_EQ(result.blocks, 0u);
}

TEST_F(LimitsTest, TheQueueOfPushesHasALimit) {
  SessionOptions options = cluster.Options();
  options.pushes_queued_max = 3;
  Open(options);
  cluster.node(0).HoldOffers(true);
  std::vector<std::promise<PushResult>> done(4);
  PushRequest request;
  request.chain = &chain;
  request.cache = &written.cache();
  request.pages = written.table();
  for (uint32_t block = 0; block < 4; ++block) {
    request.block = block;
    session->Push(request, [&, block](PushResult result) { done[block].set_value(std::move(result)); });
  }
  EXPECT_TRUE(absl::IsResourceExhausted(done[3].get_future().get().status));
  cluster.node(0).HoldOffers(false);
  for (uint32_t block = 0; block < 3; ++block) EXPECT_TRUE(done[block].get_future().get().status.ok());
}

TEST_F(LimitsTest, APushThatTimesOutGivesItsSlotsBack) {
  SessionOptions options = cluster.Options();
  options.push_deadline = milliseconds(300);
  options.retry_pause = Duration::zero();
  options.staging_bytes = 2 * kSlotBytes;
  Open(options);
  cluster.node(0).HoldOffers(true);
  const PushResult late = PushBlock(*session, chain, 0, written);
  EXPECT_TRUE(absl::IsDeadlineExceeded(late.status)) << late.status;
  cluster.node(0).HoldOffers(false);
  const PushResult again = PushBlock(*session, chain, 0, written);
  EXPECT_TRUE(again.status.ok()) << again.status;
  EXPECT_EQ(FetchAll(*session, chain, read).blocks, 1u);
}

TEST_F(LimitsTest, WrongRequestsAreNamed) {
  Open(cluster.Options());
  PushRequest push;
  EXPECT_TRUE(absl::IsInvalidArgument(PushAndWait(*session, push).status));
  push.chain = &chain;
  push.cache = &written.cache();
  push.block = 4;
  EXPECT_TRUE(absl::IsInvalidArgument(PushAndWait(*session, push).status));
  push.block = 3;
  push.pages = written.table().first(7);
  EXPECT_TRUE(absl::IsInvalidArgument(PushAndWait(*session, push).status));
  push.pages = written.table();
  push.first_layer = 1;
  push.layers = 2;
  EXPECT_TRUE(absl::IsInvalidArgument(PushAndWait(*session, push).status)) << "not whole parts";
  push.layers = 0;
  push.first_layer = 0;
  push.view = "no such codec";
  EXPECT_TRUE(absl::IsInvalidArgument(PushAndWait(*session, push).status));
  FetchRequest fetch = RequestOf(chain, read);
  fetch.blocks = 5;
  EXPECT_TRUE(absl::IsInvalidArgument(FetchAndWait(*session, fetch).status));
  fetch.blocks = 0;
  fetch.accept = {"no such codec"};
  EXPECT_TRUE(absl::IsInvalidArgument(FetchAndWait(*session, fetch).status));
  fetch.accept.clear();
  fetch.layers = 5;
  EXPECT_TRUE(absl::IsInvalidArgument(FetchAndWait(*session, fetch).status));
  EXPECT_TRUE(read.Untouched(0, 4));
}

TEST_F(LimitsTest, ASessionEndsInTheMiddleOfEverything) {
  Open(cluster.Options());
  PushAll(*session, chain, written);
  const PrefixChain other = session->Chain(Tokens(4, 1));
  cluster.node(0).HoldLayersFrom(1);
  cluster.node(0).HoldOffers(true);
  FetchId fetch = 0;
  auto fetched = StartFetch(*session, RequestOf(chain, read), &fetch);
  EXPECT_EQ(*session->WaitLayer(fetch, 0, nullptr), 4u);
  std::vector<absl::Status> ended;
  PushRequest push;
  push.chain = &other;
  push.cache = &written.cache();
  push.pages = written.table();
  for (push.block = 0; push.block < 4; ++push.block) {
    session->Push(push, [&ended](const PushResult& result) { ended.push_back(result.status); });
  }
  cluster.node(0).Silence(true);
  session->Match(other, [&ended](const MatchResult& result) { ended.push_back(result.status); });
  session.reset();
  EXPECT_TRUE(absl::IsAborted(fetched.get().status));
  ASSERT_EQ(ended.size(), 5u);
  for (const absl::Status& status : ended) EXPECT_TRUE(absl::IsAborted(status)) << status;
  // What was held at the node finds nobody: it must not crash, and may not seal wrong bytes.
  cluster.node(0).Silence(false);
  cluster.node(0).HoldOffers(false);
  cluster.node(0).HoldLayersFrom(~0u);
  auto again = cluster.Open();
  read.Poison();
  EXPECT_EQ(FetchAll(*again, chain, read).blocks, 4u);
  EXPECT_EQ(read.Difference(0, 4), "");
}

TEST_F(LimitsTest, ASessionMayEndWithJobsUnderWay) {
  for (int round = 0; round < 20; ++round) {
    Open(cluster.Options());
    std::atomic<int> ended = 0;
    PushRequest push;
    push.chain = &chain;
    push.cache = &written.cache();
    push.pages = written.table();
    for (push.block = 0; push.block < 4; ++push.block) session->Push(push, [&ended](const PushResult&) { ++ended; });
    FetchId fetch = 0;
    auto fetched = StartFetch(*session, RequestOf(chain, read), &fetch);
    session.reset();
    EXPECT_EQ(ended, 4);
    EXPECT_EQ(fetched.wait_for(milliseconds(0)), std::future_status::ready);
  }
}

TEST_F(LimitsTest, WorkCanBeTraced) {
  SessionOptions options = cluster.Options();
  std::map<std::string, int> spans;
  options.trace = [&spans](const TraceSpan& span) {
    EXPECT_LE(span.begin, span.end);
    ++spans[span.what];
  };
  Open(options);
  PushAll(*session, chain, written);
  FetchAll(*session, chain, read);
  session.reset();
  for (const char* what : {"encode", "offer", "acquire", "pull", "decode"}) EXPECT_GT(spans[what], 0) << what;
}

}  // namespace
}  // namespace kvasir::testing
