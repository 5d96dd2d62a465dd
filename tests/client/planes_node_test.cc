// SPDX-License-Identifier: Apache-2.0
// Goal: a cluster of real nodes keeps planes as it keeps blocks: over every transport, through a restart from the SSD,
// when copies are made up again, and when room runs short, where precision goes before tokens. Method: nodes in this
// process.
#include "tests/client/moving_cluster.h"
#include "tests/store/ssd_testing.h"

namespace kvasir::testing {
namespace {

constexpr const char* kSpec = "hier(4+4,tok)|planes";

struct Planar {
  explicit Planar(MovingCluster& cluster, uint32_t replicas, Ack ack = Ack::kVolatile, uint32_t block_count = 24)
      : blocks(block_count), session(Open(cluster, replicas, ack)) {
    written.FillWithTruth();
    PushAll(*session, chain, written);
  }
  static std::unique_ptr<Session> Open(MovingCluster& cluster, uint32_t replicas, Ack ack) {
    SessionOptions options = cluster.ClientOptions(replicas);
    options.push_view = kSpec;
    options.accept = {"any"};
    options.ack = ack;
    options.fetch_deadline = std::chrono::seconds(30);
    auto opened = Session::Open(options);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }
  /// By a new session.
  FetchResult Fetch(MovingCluster& cluster, uint32_t planes = 0) {
    read.Poison();
    FetchRequest request = RequestOf(chain, read);
    request.planes = planes;
    return FetchAndWait(*Open(cluster, 1, Ack::kVolatile), request);
  }
  void ExpectExact(MovingCluster& cluster, const std::string& when) {
    for (const uint32_t planes : {1u, 2u}) {
      const FetchResult result = Fetch(cluster, planes);
      EXPECT_EQ(result.blocks, blocks) << when << ": " << result.status;
      EXPECT_EQ(result.planes, std::vector<uint32_t>(result.blocks, planes)) << when;
      EXPECT_EQ(read.Difference(0, result.blocks, &view, 0, ~0u, planes), "") << when;
    }
  }
  const View view = *View::Make(kSpec, 2, 1);
  const uint32_t blocks;
  std::unique_ptr<Session> session;
  PrefixChain chain = session->Chain(Tokens(blocks));
  Pages written{SmallNamespace(), {.tokens = blocks * 32}}, read{SmallNamespace(), {.tokens = blocks * 32}};
};

TEST(PlanesNode, EveryTransportBringsThem) {
  for (const char* transport : {"loopback", "tcp", "shm"}) {
    MovingCluster cluster({.nodes = 2, .transport = transport});
    Planar planar(cluster, 1);
    planar.ExpectExact(cluster, transport);
    EXPECT_EQ(cluster.CounterAt(0, "wrong_prevented_seal") + cluster.CounterAt(1, "wrong_prevented_seal"), 0u);
  }
}

TEST(PlanesNode, ARestartFindsThemOnTheSsd) {
  const TempDirectory directory;
  MovingCluster cluster({.nodes = 1, .ssd = directory.path()});
  Planar planar(cluster, 1, Ack::kDurable);
  cluster.Kill(0);
  cluster.Restart(0);
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  EXPECT_EQ(cluster.CounterAt(0, "parts_recovered"), planar.blocks * 8u * 2);
  planar.ExpectExact(cluster, "after the restart");
}

TEST(PlanesNode, CopiesMadeUpAgainHaveAllPlanes) {
  MovingCluster cluster({.nodes = 3});
  Planar planar(cluster, 2);
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  cluster.Kill(1);
  cluster.Forget(1);
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  for (uint32_t block = 0; block < planar.blocks; ++block) {
    EXPECT_EQ(cluster.HoldersOf(planar.chain[block]).size(), 2u) << "block " << block;  // whole, with both planes
  }
  cluster.Kill(0);
  planar.ExpectExact(cluster, "from the copies");
}

TEST(PlanesNode, WhereRoomRunsShortPrecisionGoesBeforeTokens) {
  MovingCluster cluster({.nodes = 1, .shards = 1, .dram_bytes = 1 << 20});
  Planar planar(cluster, 1, Ack::kVolatile, 44);  // 1.2 MiB
  const FetchResult result = planar.Fetch(cluster);
  ASSERT_EQ(result.blocks, planar.blocks) << "every token is there: " << result.status;
  EXPECT_GT(cluster.CounterAt(0, "planes_evicted"), 0u);
  EXPECT_EQ(cluster.CounterAt(0, "planes_evicted"), cluster.CounterAt(0, "parts_evicted_unsaved"));
  EXPECT_EQ(std::count(result.planes.begin(), result.planes.end(), 1u) * 8,
            static_cast<int64_t>(cluster.CounterAt(0, "planes_evicted")));
  for (uint32_t block = 0; block < planar.blocks; ++block) {
    EXPECT_EQ(planar.read.Difference(block, block + 1, &planar.view, 0, ~0u, result.planes[block]), "") << block;
  }
}

}  // namespace
}  // namespace kvasir::testing
