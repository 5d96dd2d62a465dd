// SPDX-License-Identifier: Apache-2.0
// Goal: while members come and go no warm block is lost, copies are made up again, and nobody is asked twice for the same.
// Method: real nodes in this process, a membership told to all of them; where blocks lie is read from the nodes themselves,
// what a reader gets from a Session.
#include "tests/client/moving_cluster.h"

#include <cstring>
#include <fstream>

#include "store/api/part.h"
#include "store/extents.h"
#include "tests/store/ssd_testing.h"

namespace kvasir::testing {
namespace {

constexpr uint32_t kBlocks = 48;  // 12 runs

/// A few chains on a cluster, and pages to read them into.
struct Warm {
  Warm(MovingCluster& cluster, uint32_t replicas, uint32_t chain_count = 4) : Warm(cluster.Open(replicas), chain_count) {}
  explicit Warm(std::unique_ptr<Session> writer, uint32_t chain_count = 4) : session(std::move(writer)) {
    for (uint32_t i = 0; i < chain_count; ++i) {
      chains.push_back(session->Chain(Tokens(kBlocks, i)));
      written.FillWithTruth();
      PushAll(*session, chains.back(), written);
    }
  }
  /// Every block of every chain, by this session.
  void ExpectAllHeldBy(Session& reader, const std::string& when) {
    for (const PrefixChain& chain : chains) {
      read.Poison();
      const FetchResult result = FetchAll(reader, chain, read);
      EXPECT_EQ(result.blocks, kBlocks) << when << ": " << result.status;
      EXPECT_EQ(read.Difference(0, result.blocks), "") << when;
    }
  }
  std::unique_ptr<Session> session;
  std::vector<PrefixChain> chains;
  Pages written{SmallNamespace(), {.tokens = kBlocks * 32}}, read{SmallNamespace(), {.tokens = kBlocks * 32}};
};

/// Each block lies on the nodes that own it now, and those hold it in the shard where readers look.
void ExpectCopiesAsPlaced(MovingCluster& cluster, const Warm& warm, uint32_t replicas) {
  const Membership now = cluster.membership();
  for (const PrefixChain& chain : warm.chains) {
    for (uint32_t block = 0; block < kBlocks; ++block) {
      const std::vector<std::string> holders = cluster.HoldersOf(chain[block]);
      for (const Placed& placed : Place(chain.RunKey(block, 4), now, replicas)) {
        const std::string& id = now.members[placed.member].id;
        EXPECT_TRUE(std::find(holders.begin(), holders.end(), id) != holders.end()) << "block " << block << " at " << id;
      }
    }
  }
}

TEST(Moving, AJoiningNodeTakesOverItsShareAndNoWarmHitIsLost) {
  MovingCluster cluster({.nodes = 3});
  Warm warm(cluster, 1);
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  cluster.Join(3);
  warm.ExpectAllHeldBy(*warm.session, "an old session, while it joins");
  auto fresh = cluster.Open(1);
  warm.ExpectAllHeldBy(*fresh, "a new session, while it joins");
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  EXPECT_EQ(cluster.membership().Find("node-3")->state, MemberState::kServing);
  ExpectCopiesAsPlaced(cluster, warm, 1);
  EXPECT_GT(cluster.CounterAt(3, "gathered_bytes"), 0u);
  EXPECT_GT(cluster.CounterAt(3, "gathered_blocks"), 0u);
  EXPECT_EQ(cluster.CounterAt(3, "gather_failed_blocks"), 0u);
  warm.ExpectAllHeldBy(*warm.session, "settled");
}

TEST(Moving, ALostCopyIsMadeUpAgainAndAgain) {
  for (const bool zones : {false, true}) {
    MovingCluster cluster({.nodes = 5, .zones = zones ? std::vector<std::string>{"a", "b", "c"} : std::vector<std::string>{}});
    Warm warm(cluster, 2);
    for (uint32_t victim = 0; victim < 5; ++victim) {
      cluster.Kill(victim);
      warm.ExpectAllHeldBy(*warm.session, "one is dead");
      cluster.Forget(victim);
      ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
      ExpectCopiesAsPlaced(cluster, warm, 2);
      cluster.Restart(victim);  // with nothing in its memory
      ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
      ExpectCopiesAsPlaced(cluster, warm, 2);
    }
    warm.ExpectAllHeldBy(*warm.session, "all have died once");
  }
}

/// Copies then lie on nodes that do not own them, and the owner has never heard of them.
TEST(Moving, WhatAWriterCouldNotGiveToItsOwnerComesToItAtTheNextChange) {
  MovingCluster cluster({.nodes = 4});
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  SessionOptions options = cluster.ClientOptions(2);
  options.nodes = {"control-1"};
  options.dial = [dial = options.dial](const std::string& control) { return control == "control-0" ? nullptr : dial(control); };
  Warm warm(*Session::Open(options));
  EXPECT_EQ(cluster.StatusOf("node-0")->blocks, 0u);
  cluster.Kill(3);
  cluster.Forget(3);
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  EXPECT_GT(cluster.StatusOf("node-0")->blocks, 0u);
  ExpectCopiesAsPlaced(cluster, warm, 2);
}

TEST(Moving, ADrainedNodeLeavesNothingBehind) {
  MovingCluster cluster({.nodes = 4});
  Warm warm(cluster, 1);
  std::promise<absl::StatusOr<NodeStatus>> drained;
  cluster.Node("node-1")->Drain(std::chrono::minutes(1), [&](absl::StatusOr<NodeStatus> status) { drained.set_value(std::move(status)); });
  warm.ExpectAllHeldBy(*warm.session, "while it drains");
  const auto status = drained.get_future().get();
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->state, "drained");
  EXPECT_TRUE(status->handing_over.settled);
  EXPECT_GT(status->handing_over.bytes_total, 0u);
  EXPECT_EQ(status->handing_over.bytes_done, status->handing_over.bytes_total);
  ExpectCopiesAsPlaced(cluster, warm, 1);
  cluster.Kill(1);
  warm.ExpectAllHeldBy(*warm.session, "it went, the membership does not know");
  cluster.Forget(1);
  warm.ExpectAllHeldBy(*warm.session, "it went");
  EXPECT_TRUE(PushBlock(*warm.session, warm.session->Chain(Tokens(1, 99)), 0, warm.written).status.ok());
}

TEST(Moving, ACordonedNodeServesAndTakesNothing) {
  MovingCluster cluster({.nodes = 2});
  Warm warm(cluster, 1);
  const auto cordon = [&](bool on) {
    const auto node = cluster.Node("node-0");
    return Ask<NodeStatus>([&](Answer<NodeStatus> answer) { node->Cordon(on, std::move(answer)); });
  };
  EXPECT_EQ(cordon(true)->state, "cordoned");
  warm.ExpectAllHeldBy(*warm.session, "cordoned");
  const uint64_t before = cluster.StatusOf("node-0")->parts;
  const PrefixChain more = warm.session->Chain(Tokens(8, 50));
  PushAll(*warm.session, more, warm.written);
  EXPECT_EQ(cluster.StatusOf("node-0")->parts, before);
  EXPECT_EQ(cordon(false)->state, "serving");
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  ExpectCopiesAsPlaced(cluster, warm, 1);
}

/// The disk's copies come over as disk copies.
TEST(Moving, DurableBlocksStayDurable) {
  TempDirectory directory(FastDirectory());
  MovingCluster cluster({.nodes = 3, .ssd = directory.path()});
  SessionOptions options = cluster.ClientOptions(2);
  options.ack = Ack::kDurable;
  auto session = *Session::Open(options);
  const PrefixChain chain = session->Chain(Tokens(kBlocks));
  Pages written(SmallNamespace(), {.tokens = kBlocks * 32}), read(SmallNamespace(), {.tokens = kBlocks * 32});
  written.FillWithTruth();
  PushAll(*session, chain, written);
  cluster.Kill(0);
  cluster.Forget(0);
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  // Both others forget their memory.
  for (const uint32_t number : {1u, 2u}) {
    cluster.Kill(number);
    cluster.Restart(number);
    ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
    EXPECT_GT(cluster.CounterAt(number, "parts_recovered"), 0u);
  }
  auto reader = cluster.Open(2);
  EXPECT_EQ(FetchAll(*reader, chain, read).blocks, kBlocks);
  EXPECT_EQ(read.Difference(0, kBlocks), "");
  for (uint32_t block = 0; block < kBlocks; ++block) EXPECT_EQ(cluster.HoldersOf(chain[block]).size(), 2u);
}

/// Ten thousand readers miss one run on the node that joined: it asks once.
TEST(Moving, ManyMissesMakeOneFill) {
  MovingCluster cluster({.nodes = 1, .shards = 1});
  Warm warm(cluster, 1, 1);
  const PrefixChain& chain = warm.chains[0];
  cluster.Join(1);
  const Membership now = cluster.membership();
  uint32_t block = 0;
  while (now.members[Place(chain.RunKey(block, 4), now, 1)[0].member].id != "node-1") block += 4;
  const std::shared_ptr<Node> joined = cluster.Node("node-1");
  const auto session = Hello(*joined);
  ASSERT_TRUE(session.ok()) << session.status();
  AcquireRequest request;
  request.session = session->session;
  request.runs = {{block, {chain[block], chain[block + 1], chain[block + 2], chain[block + 3]}, chain.RunKey(block, 4)}};
  request.accept = {"any"};
  request.layers = 4;
  request.heads = 4;
  request.match_only = true;
  std::atomic<uint32_t> answered{0};
  for (int i = 0; i < 10000; ++i) {
    joined->Acquire(request, std::chrono::seconds(5), [&](absl::StatusOr<AcquireReply>) { ++answered; });
  }
  ASSERT_TRUE(Eventually([&] { return answered == 10000; }));
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  EXPECT_LE(cluster.CounterAt(1, "fills"), 1u) << "0 where taking over was faster than the readers";
  const uint64_t sealed = cluster.CounterAt(1, "parts_sealed");
  EXPECT_EQ(sealed, cluster.StatusOf("node-1")->parts) << "no part was pulled twice";
}

/// Where one part lies in the slabs of the nodes in this process, once for each copy.
std::vector<std::byte*> CopiesInMemory(const BlockKey& key, uint16_t layer_group, uint16_t head_group) {
  std::vector<std::byte*> copies;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find("kvasir-slab") == std::string::npos || line.find(" rw") == std::string::npos) continue;
    const auto begin = reinterpret_cast<std::byte*>(std::stoull(line.substr(0, line.find('-')), nullptr, 16));
    const auto end = reinterpret_cast<std::byte*>(std::stoull(line.substr(line.find('-') + 1, line.find(' ')), nullptr, 16));
    for (std::byte* at = begin; at + sizeof(PartHeader) <= end; at += Extents::kAlignment) {
      PartHeader header;
      std::memcpy(&header, at, sizeof header);
      const bool same = std::memcmp(header.key, key.bytes.data(), sizeof header.key) == 0;
      if (same && header.layer_group == layer_group && header.head_group == head_group) copies.push_back(at);
    }
  }
  return copies;
}

TEST(Moving, ADamagedCopyIsFoundOutAndReplaced) {
  MovingCluster cluster({.nodes = 2, .shards = 1});
  Warm warm(cluster, 2, 1);
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  const auto sum = [&](const char* counter) { return cluster.CounterAt(0, counter) + cluster.CounterAt(1, counter); };
  // The reader's own count: what it reports to a node arrives when it arrives.
  const auto met = [&] { return CounterOf(*warm.session, "miss_crc") + CounterOf(*warm.session, "miss_header"); };
  for (const uint32_t at : {40u, static_cast<uint32_t>(sizeof(PartHeader)) + 200u}) {  // a header's byte, a frame's
    const uint32_t block = at == 40 ? 0 : 5;
    const std::vector<std::byte*> copies = CopiesInMemory(warm.chains[0][block], 1, 2);
    ASSERT_EQ(copies.size(), 2u);
    const uint64_t before = sum("wrong_prevented_dram"), met_before = met();
    std::byte* damaged = copies[0];
    *(damaged + at) ^= std::byte{4};
    warm.ExpectAllHeldBy(*warm.session, "one copy is damaged");
    if (met() == met_before) {  // the reader met the other one: that is the one to hurt
      *(damaged + at) ^= std::byte{4};
      damaged = copies[1];
      *(damaged + at) ^= std::byte{4};
      warm.ExpectAllHeldBy(*warm.session, "the first copy is damaged");
    }
    ASSERT_EQ(met(), met_before + 1);
    ASSERT_TRUE(Eventually([&] { return sum("wrong_prevented_dram") == before + 1; }));
    ASSERT_TRUE(Eventually([&] { return cluster.HoldersOf(warm.chains[0][block]).size() == 2; })) << "made up again";
    warm.ExpectAllHeldBy(*warm.session, "repaired");
    EXPECT_EQ(sum("wrong_prevented_dram"), before + 1);
  }
}

/// A reader whose connection hurt the bytes: the node looks, and keeps its copy.
TEST(Moving, AReportWithoutDamageChangesNothing) {
  MovingCluster cluster({.nodes = 1, .shards = 1});
  Warm warm(cluster, 1, 1);
  const std::shared_ptr<Node> node = cluster.Node("node-0");
  const auto session = Hello(*node);
  TouchRequest touch;
  touch.session = session->session;
  touch.damaged = {{warm.chains[0][0], *View::Make("raw", 2, 1), 1, 2},
                   {warm.chains[0][0], *View::Make("raw", 2, 1), 9, 2},       // no such part
                   {BlockKey{}, *View::Make("splitexp", 2, 1), 0, 0}};        // no such block
  ASSERT_TRUE(Ask<TouchReply>([&](Answer<TouchReply> answer) { node->Touch(touch, std::chrono::seconds(5), std::move(answer)); }).ok());
  EXPECT_EQ(cluster.CounterAt(0, "damage_reports"), 3u);
  warm.ExpectAllHeldBy(*warm.session, "after the report");
  EXPECT_EQ(cluster.CounterAt(0, "wrong_prevented_dram"), 0u);
}

TEST(Moving, AHotRunSpreads) {
  MovingCluster cluster({.nodes = 4, .shards = 1, .hot_reads_per_s = 5});
  Warm warm(cluster, 1, 1);
  ASSERT_TRUE(Eventually([&] { return cluster.Settled(); }));
  const PrefixChain chain = warm.session->Chain(Tokens(4, 0));
  ASSERT_EQ(chain[0], warm.chains[0][0]);
  Pages read(SmallNamespace(), {.tokens = 4 * 32});
  ASSERT_TRUE(Eventually([&] {  // by readers that are new: one reader stays with one holder
    EXPECT_EQ(FetchAll(*cluster.Open(1), chain, read).blocks, 4u);
    return cluster.HoldersOf(chain[0]).size() >= 3;
  }));
  // Readers that are new begin at different holders.
  std::map<std::string, uint64_t> before, asked;
  for (const Member& member : cluster.membership().members) before[member.id] = cluster.CounterAt(static_cast<uint32_t>(member.id.back() - '0'), "blocks_hit");
  for (int i = 0; i < 24; ++i) {
    auto reader = cluster.Open(1);
    for (int round = 0; round < 3; ++round) EXPECT_EQ(FetchAll(*reader, chain, read).blocks, 4u);
  }
  uint32_t served = 0;
  for (const Member& member : cluster.membership().members) {
    served += cluster.CounterAt(static_cast<uint32_t>(member.id.back() - '0'), "blocks_hit") > before[member.id] ? 1 : 0;
  }
  EXPECT_GE(served, 2u);
  EXPECT_EQ(read.Difference(0, 4), "");
}

TEST(Moving, AStaleEpochIsRefusedOnceAndRetried) {
  MovingCluster cluster({.nodes = 1, .shards = 1});
  Warm warm(cluster, 1, 1);
  const std::shared_ptr<Node> node = cluster.Node("node-0");
  const auto session = Hello(*node);
  AcquireRequest request;
  request.session = session->session;
  request.epoch = 77;
  request.match_only = true;
  request.accept = {"any"};
  request.layers = request.heads = 4;
  const auto stale = Ask<AcquireReply>([&](Answer<AcquireReply> answer) { node->Acquire(request, std::chrono::seconds(5), std::move(answer)); });
  ASSERT_EQ(CurrentEpochOf(stale.status()), 1u) << stale.status();
  request.epoch = 1;
  EXPECT_TRUE(Ask<AcquireReply>([&](Answer<AcquireReply> answer) { node->Acquire(request, std::chrono::seconds(5), std::move(answer)); }).ok());
  EXPECT_EQ(cluster.CounterAt(0, "stale_epoch"), 1u);
}

}  // namespace
}  // namespace kvasir::testing
