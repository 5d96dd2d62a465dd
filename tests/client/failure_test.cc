// SPDX-License-Identifier: Apache-2.0
// Goal: whatever nodes do, a fetch ends with right bytes or a counted miss, and pushes reach as many nodes as can be had.
// Method: FakeStores that die, fall silent, forget, refuse, and whose stored bytes are damaged region by region.
#include "tests/client/cluster.h"

namespace kvasir::testing {
namespace {

/// A chain written to a cluster, and pages to read it into.
struct Written {
  Written(const Cluster& cluster, Session& session, uint32_t blocks)
      : ns(cluster.Options().ns), chain(session.Chain(Tokens(blocks))), written(ns, {.tokens = blocks * 32}),
        read(ns, {.tokens = blocks * 32}) {
    written.FillWithTruth();
    PushAll(session, chain, written);
  }
  Namespace ns;
  PrefixChain chain;
  Pages written, read;
};

TEST(FailureTest, TheOtherReplicaAnswersForADeadNode) {
  for (size_t victim = 0; victim < 3; ++victim) {
    Cluster cluster(3);
    SessionOptions options = cluster.Options();
    options.nodes = {"control-0", "control-1", "control-2"};
    options.replicas = 2;
    auto session = cluster.Open(options);
    Written w(cluster, *session, 24);
    auto reader = cluster.Open(options);
    ASSERT_EQ(FetchAll(*reader, w.chain, w.read).blocks, 24u);
    w.read.Poison();
    cluster.node(victim).Kill();
    const FetchResult result = FetchAll(*reader, w.chain, w.read);
    EXPECT_EQ(result.blocks, 24u) << result.status;
    EXPECT_EQ(w.read.Difference(0, 24), "");
    EXPECT_EQ(MatchAndWait(*reader, w.chain).blocks, 24u);
  }
}

TEST(FailureTest, ANodeThatDiesDuringTheFetchIsReplaced) {
  Cluster cluster(2);
  SessionOptions options = cluster.Options();
  options.replicas = 2;
  auto session = cluster.Open(options);
  Written w(cluster, *session, 4);
  FakeStore& primary = cluster.node(cluster.Owners(w.chain, 0)[0]);
  primary.HoldLayersFrom(1);
  std::promise<FetchResult> done;
  const FetchId fetch = session->Fetch(RequestOf(w.chain, w.read), [&done](FetchResult r) { done.set_value(std::move(r)); });
  EXPECT_EQ(*session->WaitLayer(fetch, 1, nullptr), 4u);
  primary.Kill();
  const FetchResult result = done.get_future().get();
  EXPECT_EQ(result.blocks, 4u) << result.status;
  EXPECT_EQ(w.read.Difference(0, 4), "");
  EXPECT_GE(CounterOf(*session, "failovers"), 4u);
  EXPECT_GE(CounterOf(*session, "node_failures"), 1u);
}

TEST(FailureTest, ACopyWrittenWhileThePrimaryWasAwayIsFound) {
  Cluster cluster(2);
  auto session = cluster.Open();
  const PrefixChain chain = session->Chain(Tokens(4));
  SessionOptions options = cluster.Options();
  options.nodes = {"control-0", "control-1"};
  const size_t primary = cluster.Owners(chain, 0)[0];
  cluster.node(primary).Kill();
  auto writer = cluster.Open(options);
  Pages written(options.ns, {}), read(options.ns, {});
  written.FillWithTruth();
  PushAll(*writer, chain, written);
  cluster.node(primary).Revive();
  auto reader = cluster.Open(options);
  EXPECT_EQ(FetchAll(*reader, chain, read).blocks, 4u);
  EXPECT_EQ(read.Difference(0, 4), "");
}

TEST(FailureTest, TheFirstGapEndsThePrefix) {
  Cluster cluster(3);
  auto session = cluster.Open();
  Written w(cluster, *session, 16);
  for (const uint32_t gap : {13u, 9u, 4u, 0u}) {
    for (size_t i = 0; i < 3; ++i) cluster.node(i).DropParts([&](const PartId& id) { return id.key == w.chain[gap]; });
    w.read.Poison();
    const FetchResult result = FetchAll(*session, w.chain, w.read);
    EXPECT_TRUE(absl::IsNotFound(result.status)) << result.status;
    EXPECT_EQ(result.blocks, gap);
    EXPECT_EQ(w.read.Difference(0, gap), "");
    EXPECT_EQ(MatchAndWait(*session, w.chain).blocks, gap);
  }
  EXPECT_GE(CounterOf(*session, "miss_absent"), 4u);
}

/// Every byte of header, spec and directory, and every 61st of the frames, of one part of block 1.
TEST(FailureTest, ADamagedByteAnywhereIsAMiss) {
  Cluster cluster(1);
  SessionOptions options = cluster.Options();
  options.push_view = "splitexp";
  auto session = cluster.Open(options);
  Written w(cluster, *session, 3);
  const uint64_t frames = FramesOffset(static_cast<uint32_t>(View::Make("splitexp")->spec.size()), 4);
  uint64_t bytes = 0;
  auto flip = [&](uint64_t at) {
    cluster.node(0).ForEachPart([&](const PartId& id, std::span<std::byte> part) {
      if (id.key != w.chain[1] || id.layer_group != 1 || id.head_group != 2) return;
      bytes = part.size();
      part[at] ^= std::byte{static_cast<uint8_t>(1u << at % 8)};
    });
  };
  flip(0);
  flip(0);
  uint64_t misses = 0;
  for (uint64_t at = 0; at < bytes; at += at < frames ? 1 : 61) {
    flip(at);
    w.read.Poison();
    const FetchResult result = FetchAll(*session, w.chain, w.read);
    EXPECT_EQ(result.blocks, 1u) << "byte " << at;
    EXPECT_TRUE(absl::IsDataLoss(result.status)) << "byte " << at << ": " << result.status;
    EXPECT_EQ(w.read.Difference(0, result.blocks), "") << "byte " << at;
    ++misses;
    flip(at);
  }
  EXPECT_EQ(CounterOf(*session, "miss_header") + CounterOf(*session, "miss_crc"), misses);
  EXPECT_GT(CounterOf(*session, "miss_crc"), 0u);
  EXPECT_EQ(FetchAll(*session, w.chain, w.read).blocks, 3u);
}

TEST(FailureTest, ADamagedCopyIsReplacedByTheOther) {
  Cluster cluster(2);
  SessionOptions options = cluster.Options();
  options.replicas = 2;
  auto session = cluster.Open(options);
  Written w(cluster, *session, 4);
  const size_t primary = cluster.Owners(w.chain, 0)[0];
  for (const bool in_frames : {false, true}) {
    cluster.node(primary).ForEachPart([&](const PartId& id, std::span<std::byte> part) {
      if (id.key == w.chain[2] && id.layer_group == 1) part[in_frames ? part.size() - 1 : 20] ^= std::byte{4};
    });
    w.read.Poison();
    const FetchResult result = FetchAll(*session, w.chain, w.read);
    EXPECT_EQ(result.blocks, 4u) << result.status;
    EXPECT_EQ(w.read.Difference(0, 4), "");
  }
  EXPECT_EQ(CounterOf(*session, "failovers"), 2u);
  // Damaged on both: a miss.
  for (size_t i = 0; i < 2; ++i) {
    cluster.node(i).ForEachPart([&](const PartId& id, std::span<std::byte> part) {
      if (id.key == w.chain[2]) part[part.size() - 2] ^= std::byte{1};
    });
  }
  EXPECT_EQ(FetchAll(*session, w.chain, w.read).blocks, 2u);
}

TEST(FailureTest, AViewThatWasNotAcceptedIsRefused) {
  Cluster cluster(1);
  SessionOptions options = cluster.Options();
  options.push_view = "int(4,tok,16)";
  auto session = cluster.Open(options);
  Written w(cluster, *session, 4);
  cluster.node(0).IgnoreAccept(true);
  EXPECT_EQ(FetchAll(*session, w.chain, w.read).blocks, 0u);
  EXPECT_TRUE(w.read.Untouched(0, 4));
  EXPECT_EQ(CounterOf(*session, "miss_header"), 1u);
}

TEST(FailureTest, AForgottenSessionIsOpenedAgain) {
  Cluster cluster(1);
  auto session = cluster.Open();
  Written w(cluster, *session, 4);
  cluster.node(0).ForgetSessions();
  EXPECT_EQ(FetchAll(*session, w.chain, w.read).blocks, 4u);
  EXPECT_EQ(w.read.Difference(0, 4), "");
  EXPECT_EQ(cluster.node(0).seen().hellos, 2u);
  cluster.node(0).ForgetSessions();
  cluster.node(0).DropParts([](const PartId&) { return true; });
  const PushResult pushed = PushBlock(*session, w.chain, 0, w.written);
  EXPECT_TRUE(pushed.status.ok()) << pushed.status;
}

TEST(FailureTest, ASilentNodeIsRoutedAround) {
  Cluster cluster(2);
  SessionOptions options = cluster.Impatient();
  options.retry_pause = std::chrono::hours(1);
  auto session = cluster.Open(options);
  Written w(cluster, *session, 4);
  FakeStore& primary = cluster.node(cluster.Owners(w.chain, 0)[0]);
  primary.Silence(true);
  EXPECT_EQ(FetchAll(*session, w.chain, w.read).blocks, 4u);
  EXPECT_EQ(w.read.Difference(0, 4), "");
  const uint64_t asked = primary.seen().acquires;
  EXPECT_EQ(FetchAll(*session, w.chain, w.read).blocks, 4u);
  EXPECT_EQ(primary.seen().acquires, asked) << "it is not asked again for retry_pause";
}

/// Stopped after it granted and before it served: half of the deadline, then the other replica. Not what is left of it.
TEST(FailureTest, ANodeThatStopsInTheMiddleLeavesTimeForTheOther) {
  FakeStore::Options base;
  base.transport = "tcp";
  Cluster cluster(2, base);
  SessionOptions options = cluster.Options();
  options.replicas = 2;
  options.fetch_deadline = std::chrono::seconds(4);
  options.call_deadline = std::chrono::seconds(60);
  auto session = cluster.Open(options);
  Written w(cluster, *session, 4);
  FakeStore& primary = cluster.node(cluster.Owners(w.chain, 0)[0]);
  primary.StopAfterAcquire();
  const FetchResult got = FetchAll(*session, w.chain, w.read);
  primary.Go();
  EXPECT_EQ(got.blocks, 4u) << got.status;
  EXPECT_EQ(w.read.Difference(0, 4), "");
}

TEST(FailureTest, AnOwnerThatNeverAnsweredIsNotTakenForTheFastest) {
  Cluster cluster(2);
  SessionOptions options = cluster.Impatient();
  options.retry_pause = Duration::zero();
  auto writer = cluster.Open(options);
  Written w(cluster, *writer, 4);
  auto reader = cluster.Open(options);
  const std::vector<size_t> owners = cluster.Owners(w.chain, 0);
  FakeStore &primary = cluster.node(owners[0]), &second = cluster.node(owners[1]);
  EXPECT_EQ(FetchAll(*reader, w.chain, w.read).blocks, 4u);
  primary.Silence(true);
  second.Kill();
  EXPECT_EQ(FetchAll(*reader, w.chain, w.read).blocks, 0u);  // the primary is known to be slow, of the other nothing is
  primary.Silence(false);
  second.Revive();
  const uint64_t greeted = second.seen().hellos;
  EXPECT_EQ(FetchAll(*reader, w.chain, w.read).blocks, 4u);
  EXPECT_EQ(second.seen().hellos, greeted);
}

TEST(FailureTest, ASlowOwnerIsAskedLast) {
  Cluster cluster(2);
  SessionOptions options = cluster.Impatient();
  options.retry_pause = Duration::zero();  // so that it is not for the failure that it is skipped
  auto session = cluster.Open(options);
  Written w(cluster, *session, 4);
  const std::vector<size_t> owners = cluster.Owners(w.chain, 0);
  FakeStore& primary = cluster.node(owners[0]);
  primary.Silence(true);
  EXPECT_EQ(FetchAll(*session, w.chain, w.read).blocks, 4u);
  primary.Silence(false);
  const uint64_t asked = primary.seen().acquires;
  EXPECT_EQ(FetchAll(*session, w.chain, w.read).blocks, 4u);
  EXPECT_EQ(primary.seen().acquires, asked) << "the other is much faster";
  cluster.node(owners[1]).Kill();
  EXPECT_EQ(FetchAll(*session, w.chain, w.read).blocks, 4u) << "slow is better than none";
}

TEST(FailureTest, AnOwnerThatIsBackIsAskedWhenNoOtherIsLeft) {
  Cluster cluster(2);
  SessionOptions options = cluster.Impatient();
  options.retry_pause = std::chrono::hours(1);
  auto session = cluster.Open(options);
  Written w(cluster, *session, 4);
  const std::vector<size_t> owners = cluster.Owners(w.chain, 0);
  FakeStore& primary = cluster.node(owners[0]);
  primary.Silence(true);
  EXPECT_EQ(FetchAll(*session, w.chain, w.read).blocks, 4u);
  primary.Silence(false);
  cluster.node(owners[1]).Kill();
  EXPECT_EQ(FetchAll(*session, w.chain, w.read).blocks, 4u) << "hours before retry_pause ends";
  EXPECT_EQ(w.read.Difference(0, 4), "");
}

TEST(FailureTest, NobodyThere) {
  Cluster cluster(2);
  auto session = cluster.Open();
  Written w(cluster, *session, 4);
  for (size_t i = 0; i < 2; ++i) cluster.node(i).Kill();
  const FetchResult result = FetchAll(*session, w.chain, w.read);
  EXPECT_TRUE(absl::IsUnavailable(result.status)) << result.status;
  EXPECT_EQ(result.blocks, 0u);
  EXPECT_TRUE(w.read.Untouched(0, 4));
  EXPECT_GE(CounterOf(*session, "miss_unavailable"), 1u);
  EXPECT_TRUE(absl::IsUnavailable(MatchAndWait(*session, w.chain).status));
  EXPECT_TRUE(absl::IsUnavailable(PushBlock(*session, w.chain, 0, w.written).status));
  SessionOptions options = cluster.Options();
  options.nodes = {"control-0", "control-1"};
  const absl::Status refused = Session::Open(options).status();
  EXPECT_TRUE(absl::IsUnavailable(refused));
  for (const std::string& address : options.nodes) {
    EXPECT_NE(std::string(refused.message()).find(address), std::string::npos) << refused;
  }
}

TEST(FailureTest, TheFieldInWhichNamespacesDifferIsNamed) {
  FakeStore::Options base;
  base.only = SmallNamespace();
  Cluster cluster(1, base);
  SessionOptions options = cluster.Options();
  options.ns.rope_theta = 5e5;
  const absl::Status refused = Session::Open(options).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_NE(std::string(refused.message()).find("rope_theta"), std::string::npos) << refused;
}

TEST(FailureTest, TwoReplicasAsLongAsTwoNodesLive) {
  Cluster cluster(3);
  SessionOptions options = cluster.Options();
  options.nodes = {"control-0", "control-1", "control-2"};
  options.replicas = 2;
  auto session = cluster.Open(options);
  const PrefixChain chain = session->Chain(Tokens(4));
  Pages written(options.ns, {});
  written.FillWithTruth();
  const std::vector<size_t> owners = cluster.Owners(chain, 0);
  cluster.node(owners[1]).Kill();
  const PushResult moved = PushBlock(*session, chain, 0, written);
  EXPECT_TRUE(moved.status.ok()) << moved.status;
  EXPECT_EQ(moved.replicas, 2u);
  EXPECT_EQ(cluster.node(owners[2]).seen().parts, 8u);
  cluster.node(owners[2]).Kill();
  const PushResult short_of = PushBlock(*session, chain, 1, written);
  EXPECT_FALSE(short_of.status.ok());
  EXPECT_EQ(short_of.replicas, 1u);
}

TEST(FailureTest, AFullNodeSendsThePushToTheNext) {
  Cluster cluster(3);
  auto session = cluster.Open();
  const PrefixChain chain = session->Chain(Tokens(2));
  Pages written(SmallNamespace(), {});
  written.FillWithTruth();
  const std::vector<size_t> owners = cluster.Owners(chain, 0);
  cluster.node(owners[0]).RefuseOffers(absl::ResourceExhaustedError("full"));
  EXPECT_TRUE(PushBlock(*session, chain, 0, written).status.ok());
  EXPECT_EQ(cluster.node(owners[1]).seen().parts, 8u);
  // One retry at most, and none where another node would say the same.
  cluster.node(owners[1]).RefuseOffers(absl::ResourceExhaustedError("full"));
  EXPECT_TRUE(absl::IsResourceExhausted(PushBlock(*session, chain, 1, written).status));
  cluster.node(owners[0]).RefuseOffers(absl::FailedPreconditionError("draining"));
  EXPECT_TRUE(absl::IsFailedPrecondition(PushBlock(*session, chain, 1, written).status));
  EXPECT_EQ(cluster.node(owners[2]).seen().parts_offered, 0u);
}

TEST(FailureTest, MembershipFollowsTheEpoch) {
  Cluster cluster(2);
  auto session = cluster.Open();
  EXPECT_EQ(session->membership(), cluster.membership());
  Membership one = cluster.membership();
  one.epoch = 5;
  one.members.erase(one.members.begin());
  cluster.node(0).Announce(one);
  const PrefixChain chain = session->Chain(Tokens(4));
  MatchAndWait(*session, chain);  // behind the event on the Loop
  EXPECT_EQ(session->membership(), one);
  cluster.node(0).Announce(cluster.membership());
  Pages written(SmallNamespace(), {});
  written.FillWithTruth();
  PushAll(*session, chain, written);
  EXPECT_EQ(session->membership().epoch, 5u) << "an older epoch changes nothing";
  EXPECT_EQ(cluster.node(1).seen().parts, 32u);
}

}  // namespace
}  // namespace kvasir::testing
