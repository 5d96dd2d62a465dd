// SPDX-License-Identifier: Apache-2.0
// Goal: a real node over every transport keeps the promises of the contract: what was sealed comes back byte for byte, a
// foreign session reads nothing, damage is a refusal or a counted miss, durable parts survive. Method: RawClient.
#include <filesystem>
#include <fstream>
#include <future>
#include <latch>
#include <thread>

#include "tests/store/raw_client.h"
#include "tests/support/seed.h"

namespace kvasir::testing {
namespace {

uint64_t CounterOf(const Node& node, const std::string& name) {
  for (const auto& [known, value] : node.Counters()) {
    if (known == name) return value;
  }
  ADD_FAILURE() << "no counter " << name;
  return 0;
}

void ExpectSealed(const absl::StatusOr<OfferReply>& reply) {
  ASSERT_TRUE(reply.ok()) << reply.status();
  for (const absl::Status& part : reply->parts) EXPECT_TRUE(part.ok()) << part;
}

void ExpectBlock(RawClient& client, const PrefixChain& chain, const AcquiredBlock& block) {
  for (const PartGrant& part : block.parts) {
    const auto bytes = client.Pull(part);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    std::vector<std::byte> expected = client.MakePart(chain, block.block_index, part.layer_group, part.head_group);
    StampGeneration(expected, part.generation);
    EXPECT_EQ(*bytes, expected);
  }
}

class NodeOver : public ::testing::TestWithParam<const char*> {};

TEST_P(NodeOver, SealedBytesComeBack) {
  auto node = Node::Start(TestNode(GetParam()));
  ASSERT_TRUE(node.ok()) << node.status();
  RawClient writer(**node, GetParam()), reader(**node, GetParam());
  ASSERT_TRUE(writer.connected.ok()) << writer.connected;
  ASSERT_TRUE(reader.connected.ok()) << reader.connected;
  const PrefixChain chain = writer.Chain(1, 5);
  for (uint32_t b = 0; b < 4; ++b) {
    ExpectSealed(writer.Offer(chain, b));
  }
  const auto matched = reader.Acquire(chain, /*match_only=*/true);
  ASSERT_TRUE(matched.ok()) << matched.status();
  EXPECT_EQ(matched->held, std::vector<uint32_t>{4});
  EXPECT_EQ(matched->lease, 0u);
  const auto got = reader.Acquire(chain);
  ASSERT_TRUE(got.ok()) << got.status();
  ASSERT_EQ(got->blocks.size(), 4u);
  for (const AcquiredBlock& block : got->blocks) ExpectBlock(reader, chain, block);
  // Another session may not use the grant; after Release nobody may.
  const PartGrant& part = got->blocks[0].parts[0];
  EXPECT_TRUE(absl::IsPermissionDenied(writer.Pull(part).status())) << writer.Pull(part).status();
  ASSERT_TRUE(reader.Release(got->lease).ok());
  const auto again = reader.Release(got->lease);
  EXPECT_TRUE(again.ok()) << "a second release is harmless";
}

TEST_P(NodeOver, EveryByteOfAPartIsGuarded) {
  auto node = Node::Start(TestNode(GetParam()));
  ASSERT_TRUE(node.ok()) << node.status();
  RawClient client(**node, GetParam());
  const PrefixChain chain = client.Chain(2, 1);
  const size_t size = client.MakePart(chain, 0, 1, 1).size();
  auto rng = Rng(2);
  uint32_t refused = 0, tried = 0;
  // Header, spec and directory byte by byte; frames sampled by seed.
  for (size_t at = 0; at < size; at += at < 320 ? 1 : 1 + rng() % 199) {
    const auto offered = client.Offer(chain, 0, Ack::kVolatile, [&](std::vector<std::byte>& part) { part[at] ^= std::byte{0x10}; });
    ASSERT_TRUE(offered.ok()) << offered.status();
    ++tried;
    refused += absl::IsDataLoss(offered->parts[3]);
    EXPECT_TRUE(absl::IsDataLoss(offered->parts[3])) << "byte " << at << ": " << offered->parts[3];
    const auto seen = client.Acquire(chain, true);
    ASSERT_TRUE(seen.ok());
    EXPECT_EQ(seen->held[0], 0u) << "byte " << at;
  }
  EXPECT_EQ(CounterOf(**node, "wrong_prevented_seal"), refused);
  EXPECT_EQ(refused, tried);
}

TEST_P(NodeOver, AClientThatHangsUpInMidPushLeavesNothing) {
  auto node = Node::Start(TestNode(GetParam()));
  ASSERT_TRUE(node.ok()) << node.status();
  RawClient client(**node, GetParam()), other(**node, GetParam());
  client.HangUp();
  const PrefixChain chain = client.Chain(3, 1);
  const auto offered = client.Offer(chain, 0);
  ASSERT_TRUE(offered.ok()) << offered.status();
  for (const absl::Status& part : offered->parts) EXPECT_FALSE(part.ok());
  const auto seen = other.Acquire(chain, true);
  ASSERT_TRUE(seen.ok());
  EXPECT_EQ(seen->held[0], 0u);
  const auto status = RawClient::Call<NodeStatus>([&](Answer<NodeStatus> done) { (*node)->Status(std::move(done)); });
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->tiers[0].used, 0u);
  ExpectSealed(other.Offer(chain, 0));
}

/// Who tells a node of changes may be two at once: the shards, too, end with the last.
TEST(NodeMembership, ToldByTwoThreadsTheLastChangeStands) {
  auto node = Node::Start(TestNode("tcp"));
  ASSERT_TRUE(node.ok()) << node.status();
  std::vector<std::unique_ptr<RawClient>> listening;  // who has to be told: time for the other thread
  for (int i = 0; i < 50; ++i) listening.push_back(std::make_unique<RawClient>(**node, "tcp"));
  Membership membership = (*node)->membership();
  for (int round = 0; round < 300; ++round) {
    Membership first = membership, second = membership;
    first.epoch += 1;
    second.epoch += 2;
    std::latch both(2);
    std::thread other([&] {
      both.arrive_and_wait();
      (*node)->Adopt(first);
    });
    both.arrive_and_wait();
    (*node)->Adopt(second);
    other.join();
    std::promise<absl::StatusOr<NodeStatus>> told;
    (*node)->Status([&](absl::StatusOr<NodeStatus> status) { told.set_value(std::move(status)); });
    const auto status = told.get_future().get();
    ASSERT_TRUE(status.ok()) << status.status();
    ASSERT_EQ(status->epoch, second.epoch);
    ASSERT_TRUE(status->taking_over.settled) << "a shard stayed at an earlier change in round " << round;
    membership = second;
  }
}

INSTANTIATE_TEST_SUITE_P(Transports, NodeOver, ::testing::Values("loopback", "tcp", "shm"),
                         [](const auto& info) { return std::string(info.param); });

TEST(NodeHello, NamesTheDifferingField) {
  auto node = Node::Start(TestNode("loopback"));
  ASSERT_TRUE(node.ok()) << node.status();
  RawClient first(**node, "loopback");
  Namespace other = TestNamespace();
  other.layout.kv_heads = 4;
  RawClient second(**node, "loopback", other);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.hello.status()));
  EXPECT_NE(second.hello.status().message().find("kv_heads: 2 here, 4 there"), std::string::npos) << second.hello.status();
  other.name = "another";
  RawClient third(**node, "loopback", other);
  ASSERT_TRUE(third.hello.ok()) << third.hello.status();
  EXPECT_NE(third.hello->warning.find("kv_heads"), std::string::npos) << third.hello->warning;
}

TEST(NodeSsd, DurablePartsSurviveARestartAndDamageIsAMiss) {
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / "kvasir_node_ssd";
  std::filesystem::remove_all(directory);
  PrefixChain chain;
  {
    auto node = Node::Start(TestNode("tcp", directory));
    ASSERT_TRUE(node.ok()) << node.status();
    RawClient client(**node, "tcp");
    chain = client.Chain(4, 3);
    for (uint32_t b = 0; b < 3; ++b) ExpectSealed(client.Offer(chain, b, Ack::kDurable));
  }
  {
    auto node = Node::Start(TestNode("tcp", directory));
    ASSERT_TRUE(node.ok()) << node.status();
    EXPECT_EQ(CounterOf(**node, "parts_recovery_dropped"), 0u);
    RawClient client(**node, "tcp");
    const auto got = client.Acquire(chain);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(got->held[0], 3u);
    EXPECT_TRUE(got->blocks[0].parts[0].pending) << "recovered parts are cold";
  }
  // One byte of block 0's payload, wherever the tier put it.
  bool flipped = false;
  for (const auto& file : std::filesystem::recursive_directory_iterator(directory)) {
    if (file.path().extension() != ".seg" || flipped) continue;
    std::fstream segment(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    std::string all((std::istreambuf_iterator<char>(segment)), std::istreambuf_iterator<char>());
    const size_t at = all.find(std::string(chain[0].view()));
    if (at == std::string::npos) continue;
    segment.clear();
    segment.seekp(static_cast<std::streamoff>(at) + 700);
    segment.put(static_cast<char>(all[at + 700] ^ 1));
    flipped = true;
  }
  ASSERT_TRUE(flipped);
  auto node = Node::Start(TestNode("tcp", directory));
  ASSERT_TRUE(node.ok()) << node.status();
  RawClient client(**node, "tcp");
  std::promise<absl::Status> damaged;
  bool told = false;
  auto watcher = (*node)->Watch(client.hello->session, [&](WatchEvent e) {
        const auto* ready = std::get_if<PartsReady>(&e);
        if (ready == nullptr) return;
        for (const auto& part : ready->parts) {
          if (!part.status.ok() && !told) told = true, damaged.set_value(part.status);
        }
      }, [](absl::Status) {});
  const auto got = client.Acquire(chain);
  ASSERT_TRUE(got.ok()) << got.status();
  const absl::Status status = damaged.get_future().get();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_EQ(CounterOf(**node, "wrong_prevented_ssd"), 1u);
  watcher.reset();
  EXPECT_EQ(client.Acquire(chain, true)->held[0], 0u) << "block 0 is gone, not wrong";
}

/// Puts and gets of one client.
struct ObjectCalls {
  explicit ObjectCalls(Node& of) : node(of), client(of, "loopback") {}
  absl::StatusOr<ObjectReply> Get(const std::string& name) { return Do({client.hello->session, name, false, 0, ""}); }
  absl::StatusOr<ObjectReply> Put(const std::string& name, uint64_t version, const std::string& value) {
    return Do({client.hello->session, name, true, version, value});
  }
  absl::StatusOr<ObjectReply> Do(ObjectRequest request) {
    return RawClient::Call<ObjectReply>(
        [&](Answer<ObjectReply> done) { node.Object(std::move(request), std::chrono::seconds(5), std::move(done)); });
  }
  Node& node;
  RawClient client;
};

TEST(NodeObjects, VersionsGuardWrites) {
  auto node = Node::Start(TestNode("loopback"));
  ASSERT_TRUE(node.ok()) << node.status();
  ObjectCalls calls(**node);
  EXPECT_TRUE(absl::IsNotFound(calls.Get("heads").status()));
  EXPECT_EQ(calls.Put("heads", 0, "a")->version, 1u);
  EXPECT_TRUE(absl::IsAborted(calls.Put("heads", 0, "b").status()));
  EXPECT_EQ(calls.Put("heads", 1, "b")->version, 2u);
  EXPECT_EQ(calls.Get("heads")->value, "b");
}

TEST(NodeObjects, TogetherTheyHaveAShareOfTheMemory) {
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / "kvasir_node_object_bytes";
  std::filesystem::remove_all(directory);
  NodeOptions options = TestNode("loopback", directory.string());
  options.dram_bytes = options.slab_bytes = 16u << 20;
  const std::string half(512 << 10, 'x');
  {
    auto node = Node::Start(options);
    ASSERT_TRUE(node.ok()) << node.status();
    ObjectCalls calls(**node);
    EXPECT_EQ((*node)->Numbers().object_bytes_max, 1u << 20);
    ASSERT_EQ(calls.Put("a", 0, half)->version, 1u);
    const absl::Status full = calls.Put("b", 0, half).status();
    EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
    EXPECT_NE(full.message().find("may have 1048576, a share of its memory tier: drop kept inputs"), std::string_view::npos) << full;
    EXPECT_TRUE(absl::IsNotFound(calls.Get("b").status()));
    EXPECT_TRUE(absl::IsResourceExhausted(calls.Put("a", 1, half + half).status()));
    ASSERT_EQ(calls.Put("a", 1, half.substr(1024))->version, 2u) << "smaller than before: taken";
    ASSERT_EQ(calls.Put("b", 0, half.substr(1024))->version, 1u);
    ASSERT_EQ(calls.Put("a", 2, "")->version, 0u);
    ASSERT_EQ(calls.Put("c", 0, half)->version, 3u);
  }
  options.dram_bytes = options.slab_bytes = 8u << 20;
  auto node = Node::Start(options);
  ASSERT_TRUE(node.ok()) << node.status();
  ObjectCalls calls(**node);
  EXPECT_EQ(calls.Get("c")->value, half) << "what is there stays, though it is more than it may be now";
  EXPECT_GT((*node)->Numbers().object_bytes, (*node)->Numbers().object_bytes_max);
  EXPECT_TRUE(absl::IsResourceExhausted(calls.Put("d", 0, "more").status()));
  ASSERT_EQ(calls.Put("c", 3, "less")->version, 4u);
  ASSERT_EQ(calls.Put("b", 1, "")->version, 0u);
  EXPECT_EQ(calls.Put("d", 0, "more")->version, 3u);
}

TEST(NodeObjects, AnEmptyValueDeletesAndVersionsGoOn) {
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / "kvasir_node_objects";
  std::filesystem::remove_all(directory);
  {
    auto node = Node::Start(TestNode("loopback", directory.string()));
    ASSERT_TRUE(node.ok()) << node.status();
    ObjectCalls calls(**node);
    ASSERT_EQ(calls.Put("heads", 0, "a")->version, 1u);
    ASSERT_EQ(calls.Put("heads", 1, "b")->version, 2u);
    ASSERT_EQ(calls.Put("other", 0, "stays")->version, 1u);
    EXPECT_TRUE(absl::IsAborted(calls.Put("heads", 1, "").status())) << "another version is there";
    EXPECT_EQ(calls.Put("heads", 2, "")->version, 0u);
    EXPECT_TRUE(absl::IsNotFound(calls.Get("heads").status()));
    EXPECT_EQ(calls.Put("heads", kObjectAnyVersion, "")->version, 0u) << "nothing to delete";
    EXPECT_TRUE(absl::IsAborted(calls.Put("heads", kObjectAnyVersion, "c").status())) << "only to delete";
    EXPECT_TRUE(absl::IsAborted(calls.Put("heads", 2, "c").status())) << "who knew the deleted one replaces nothing";
  }
  {
    auto node = Node::Start(TestNode("loopback", directory.string()));
    ASSERT_TRUE(node.ok()) << node.status();
    ObjectCalls calls(**node);
    EXPECT_TRUE(absl::IsNotFound(calls.Get("heads").status())) << "deleted, also after a restart";
    EXPECT_EQ(calls.Get("other")->value, "stays");
    EXPECT_EQ(calls.Put("heads", 0, "c")->version, 3u) << "no version comes twice";
    EXPECT_EQ(calls.Put("other", kObjectAnyVersion, "")->version, 0u);
  }
  auto node = Node::Start(TestNode("loopback", directory.string()));
  ASSERT_TRUE(node.ok()) << node.status();
  ObjectCalls calls(**node);
  EXPECT_EQ(calls.Get("heads")->version, 3u);
  EXPECT_TRUE(absl::IsNotFound(calls.Get("other").status()));
}

TEST(NodeObjects, TheDiskSeesChangesInTheirOrder) {
  const std::filesystem::path directory = std::filesystem::path(::testing::TempDir()) / "kvasir_node_object_order";
  std::filesystem::remove_all(directory);
  uint64_t version = 0;
  std::string value;
  {
    auto node = Node::Start(TestNode("loopback", directory.string()));
    ASSERT_TRUE(node.ok()) << node.status();
    std::vector<std::thread> writers;
    for (int writer = 0; writer < 4; ++writer) {
      writers.emplace_back([&node, writer] {
        ObjectCalls calls(**node);
        for (int i = 0; i < 25; ++i) {
          const auto there = calls.Get("heads");
          const bool deletes = there.ok() && (writer + i) % 3 == 0;
          // Aborted where another was faster.
          (void)calls.Put("heads", there.ok() ? there->version : 0, deletes ? "" : std::to_string(100 * writer + i));
        }
      });
    }
    for (std::thread& writer : writers) writer.join();
    ObjectCalls calls(**node);
    if (const auto last = calls.Get("heads"); last.ok()) {
      version = last->version;
      value = last->value;
    }
  }
  auto node = Node::Start(TestNode("loopback", directory.string()));
  ASSERT_TRUE(node.ok()) << node.status();
  ObjectCalls calls(**node);
  const auto kept = calls.Get("heads");
  ASSERT_EQ(kept.ok(), version > 0) << kept.status();
  if (kept.ok()) {
    EXPECT_EQ(kept->version, version);
    EXPECT_EQ(kept->value, value);
  }
}

TEST(NodeStart, NamesWhatIsWrong) {
  NodeOptions options = TestNode("loopback");
  options.id = "elsewhere";
  EXPECT_NE(Node::Start(options).status().message().find("elsewhere"), std::string::npos);
  options = TestNode("pigeon");
  EXPECT_TRUE(absl::IsInvalidArgument(Node::Start(options).status())) << Node::Start(options).status();
}

}  // namespace
}  // namespace kvasir::testing
