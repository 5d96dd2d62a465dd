// SPDX-License-Identifier: Apache-2.0
// Goal: planes travel, are kept and are lost each by itself: any prefix of them is what its codec makes of it, bit for
// bit; a missing or damaged plane above the lowest costs bits, never a block and never a wrong byte. Method: FakeStores
// whose stored planes are damaged and dropped; real nodes that run short, restart and come and go are in
// planes_node_test.
#include "tests/client/cluster.h"
#include "tests/client/extents.h"

namespace kvasir::testing {
namespace {

constexpr const char* kSpec = "k:hier(4+4,chan,16)|v:hier(4+4,tok)|planes";
constexpr uint32_t kCells = 8;  // of a block: two layer groups of four heads

class PlanesTest : public ::testing::Test {
 protected:
  PlanesTest() {
    SessionOptions options = cluster.Options();
    options.push_view = kSpec;
    options.accept = {"any"};
    session = cluster.Open(options);
    chain.emplace(session->Chain(Tokens(4)));
    written.FillWithTruth();
    PushAll(*session, *chain, written);
  }
  FetchResult Fetch(uint32_t planes = 0) {
    read.Poison();
    FetchRequest request = RequestOf(*chain, read);
    request.planes = planes;
    return FetchAndWait(*session, request);
  }
  uint64_t Missed() { return CounterOf(*session, "planes_missed"); }
  Cluster cluster{1};
  const View view = *View::Make(kSpec, 2, 1);
  std::unique_ptr<Session> session;
  std::optional<PrefixChain> chain;
  Pages written{SmallNamespace(), {}},
      read{SmallNamespace(), {.page_tokens = 8, .heads_first = true, .shuffled = true}};
};

TEST_F(PlanesTest, AnyPrefixIsWhatItsCodecMakesOfIt) {
  EXPECT_EQ(view.planes, 2u);
  EXPECT_EQ(cluster.node(0).seen().parts, 4u * kCells * 2) << "a part a plane";
  uint64_t moved[3] = {};
  for (const uint32_t planes : {1u, 2u, 0u, 7u}) {
    const FetchResult result = Fetch(planes);
    ASSERT_EQ(result.blocks, 4u) << result.status;
    EXPECT_EQ(read.Difference(0, 4, &view, 0, ~0u, planes == 1 ? 1 : 2), "") << planes;
    EXPECT_EQ(result.planes, std::vector<uint32_t>(4, planes == 1 ? 1 : 2));
    EXPECT_EQ(result.views, std::vector<std::string>(4, view.spec));
    if (planes < 3) moved[planes] = result.moved_bytes;
  }
  EXPECT_EQ(moved[0], moved[2]);
  uint64_t lowest = 0, all = 0;
  cluster.node(0).ForEachPart([&](const PartId& id, std::span<std::byte> bytes) {
    lowest += id.plane == 0 ? bytes.size() : 0;
    all += bytes.size();
  });
  EXPECT_EQ(moved[1], lowest);
  EXPECT_EQ(moved[2], all);
  EXPECT_EQ(Missed(), 0u);
}

TEST_F(PlanesTest, ARankTakesItsLayersAndHeads) {
  Pages rank(SmallNamespace(), {.first_head = 1, .heads = 2});
  for (const uint32_t planes : {0u, 1u}) {
    rank.Poison();
    FetchRequest request = RequestOf(*chain, rank);
    request.first_layer = 1;
    request.layers = 2;  // half of each layer group
    request.planes = planes;
    const FetchResult result = FetchAndWait(*session, request);
    ASSERT_EQ(result.blocks, 4u) << result.status;
    EXPECT_EQ(rank.Difference(0, 4, &view, 1, 3, planes), "") << planes;
  }
}

TEST_F(PlanesTest, IntoHeadExtentsToo) {
  const KvLayout layout = SmallNamespace().layout;
  for (const uint32_t planes : {0u, 1u}) {
    Extents rows(layout, 0, 4, 4 * 128);
    FetchRequest request;
    request.chain = &*chain;
    request.extents = &rows.get();
    request.planes = planes;
    const FetchResult result = FetchAndWait(*session, request);
    ASSERT_EQ(result.blocks, 4u) << result.status;
    ASSERT_EQ(Fetch(planes).blocks, 4u);
    for (uint32_t layer = 0; layer < layout.layers; ++layer) {
      ASSERT_EQ(rows.rows(layer), 4u * 128);
      for (uint32_t row = 0; row < 4 * 128; ++row) {  // head-major
        const uint32_t head = row / 128, token = row % 128;
        const std::byte* page = read.cache().At(layer, KvTensor::kValue, read.table()[token / 8], head, token % 8);
        ASSERT_EQ(std::memcmp(page, rows.layer(layer).values.data() + row * 32, 32), 0) << layer << " " << row;
      }
    }
  }
}

TEST_F(PlanesTest, AMissingUpperPlaneIsNoMiss) {
  cluster.node(0).DropParts(
      [&](const PartId& id) { return id.plane == 1 && id.key == (*chain)[2] && id.layer_group == 1; });
  const FetchResult result = Fetch();
  ASSERT_EQ(result.blocks, 4u) << result.status;
  EXPECT_EQ(result.planes, (std::vector<uint32_t>{2, 2, 1, 2}));
  EXPECT_EQ(read.Difference(0, 2, &view), "");
  EXPECT_EQ(read.Difference(2, 3, &view, 0, 2), "");
  EXPECT_EQ(read.Difference(2, 3, &view, 2, 4, 1), "");
  EXPECT_EQ(read.Difference(3, 4, &view), "");
  EXPECT_EQ(Missed(), 4u) << "one a cell";
  Fetch(1);
  EXPECT_EQ(Missed(), 4u) << "nobody wanted it";
  EXPECT_EQ(MatchAndWait(*session, *chain).blocks, 4u);
}

TEST_F(PlanesTest, WithoutPlaneZeroTheBlockIsMissing) {
  cluster.node(0).DropParts(
      [&](const PartId& id) { return id.plane == 0 && id.key == (*chain)[2] && id.head_group == 3; });
  const FetchResult result = Fetch();
  EXPECT_EQ(result.blocks, 2u);
  EXPECT_TRUE(absl::IsNotFound(result.status)) << result.status;
  EXPECT_EQ(read.Difference(0, 2, &view), "");
  EXPECT_EQ(MatchAndWait(*session, *chain).blocks, 2u);
}

/// Every byte of header, spec and directory, and every 31st of the frames, of either plane of one cell of block 1.
TEST_F(PlanesTest, ADamagedByteAnywhereCostsBitsAboveAndABlockBelow) {
  const uint64_t frames = FramesOffset(static_cast<uint32_t>(view.spec.size()), 4);
  for (const uint32_t plane : {0u, 1u}) {
    uint64_t bytes = 0;
    const auto flip = [&](uint64_t at) {
      cluster.node(0).ForEachPart([&](const PartId& id, std::span<std::byte> part) {
        if (id.key != (*chain)[1] || id.layer_group != 1 || id.head_group != 2 || id.plane != plane) return;
        bytes = part.size();
        part[at] ^= std::byte{static_cast<uint8_t>(1u << at % 8)};
      });
    };
    flip(0);
    flip(0);
    uint64_t missed = Missed();
    for (uint64_t at = 0; at < bytes; at += at < frames ? 1 : 31) {
      flip(at);
      const FetchResult result = Fetch();
      if (plane == 0) {
        EXPECT_EQ(result.blocks, 1u) << "byte " << at;
        EXPECT_TRUE(absl::IsDataLoss(result.status)) << "byte " << at << ": " << result.status;
        EXPECT_EQ(read.Difference(0, result.blocks, &view), "") << "byte " << at;
      } else {
        EXPECT_EQ(result.blocks, 4u) << "byte " << at << ": " << result.status;
        EXPECT_EQ(result.planes, (std::vector<uint32_t>{2, 1, 2, 2})) << "byte " << at;
        EXPECT_EQ(read.Difference(1, 2, &view, 0, 2), "") << "byte " << at;
        EXPECT_EQ(Missed(), ++missed) << "byte " << at;
      }
      flip(at);
    }
    EXPECT_EQ(Fetch().planes, std::vector<uint32_t>(4, 2));
    EXPECT_EQ(read.Difference(0, 4, &view), "");
  }
}

/// The damaged cell is what its lower plane makes of it, its neighbours what both do.
TEST_F(PlanesTest, WhatADamagedPlaneLeavesIsTheLowerOne) {
  for (const bool in_header : {true, false}) {
    const uint64_t at =
        in_header ? offsetof(PartHeader, planes_digest) : FramesOffset(static_cast<uint32_t>(view.spec.size()), 4) + 3;
    const auto flip = [&] {
      cluster.node(0).ForEachPart([&](const PartId& id, std::span<std::byte> part) {
        if (id.key == (*chain)[1] && id.layer_group == 1 && id.plane == 1) part[at] ^= std::byte{1};
      });
    };
    flip();
    EXPECT_EQ(Fetch().planes, (std::vector<uint32_t>{2, 1, 2, 2}));
    EXPECT_EQ(read.Difference(1, 2, &view, 0, 2), "");
    EXPECT_EQ(read.Difference(1, 2, &view, 2, 4, 1), "");
    EXPECT_EQ(read.Difference(2, 4, &view), "");
    flip();
  }
}

/// Another writer's planes lie above ours: made of other frames they are left out, of the same frames they are as good
/// as ours.
TEST_F(PlanesTest, PlanesOfTwoEncodingsNeverMix) {
  SessionOptions options = cluster.Options();
  options.push_view = kSpec;
  const auto drop = [&] { cluster.node(0).DropParts([](const PartId& id) { return id.plane == 1; }); };
  drop();
  Pages others(SmallNamespace(), {});
  others.FillWithTruth();
  for (uint32_t layer = 0; layer < 4; ++layer) {  // one element of each frame
    for (uint32_t head = 0; head < 4; ++head) {
      for (uint32_t block = 0; block < 4; ++block) {
        for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
          *others.cache().At(layer, tensor, others.table()[block * 2], head, 0) ^= std::byte{0x40};
        }
      }
    }
  }
  const auto other = cluster.Open(options);
  PushAll(*other, *chain, others);
  ASSERT_EQ(cluster.node(0).seen().parts, 4u * kCells * 3) << "only the upper planes were missing";
  EXPECT_EQ(Fetch().planes, std::vector<uint32_t>(4, 1));
  EXPECT_EQ(read.Difference(0, 4, &view, 0, ~0u, 1), "");
  EXPECT_EQ(Missed(), 4u * kCells);
  drop();
  PushAll(*cluster.Open(options), *chain, written);
  EXPECT_EQ(Fetch().planes, std::vector<uint32_t>(4, 2));
  EXPECT_EQ(read.Difference(0, 4, &view), "");
}

TEST_F(PlanesTest, ColdPlanesAreWaitedForAndLostOnesAreNot) {
  for (const bool lost : {false, true}) {
    cluster.node(0).HoldLayersFrom(1);
    read.Poison();
    std::promise<FetchResult> done;
    const FetchId fetch =
        session->Fetch(RequestOf(*chain, read), [&done](FetchResult r) { done.set_value(std::move(r)); });
    EXPECT_EQ(*session->WaitLayer(fetch, 1, nullptr), 4u);
    if (lost) cluster.node(0).DropParts([](const PartId& id) { return id.plane == 1 && id.layer_group == 1; });
    cluster.node(0).MakeReady(1);
    const FetchResult result = done.get_future().get();
    ASSERT_EQ(result.blocks, 4u) << result.status;
    EXPECT_EQ(result.planes, std::vector<uint32_t>(4, lost ? 1 : 2));
    EXPECT_EQ(read.Difference(0, 4, &view, 0, 2), "");
    EXPECT_EQ(read.Difference(0, 4, &view, 2, 4, lost ? 1 : 0), "");
  }
}

}  // namespace
}  // namespace kvasir::testing
