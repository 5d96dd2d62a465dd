// SPDX-License-Identifier: Apache-2.0
// The contract of every backend, first part: what moves, who may read what, shapes and sizes of pieces, fairness.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "tests/support/seed.h"
#include "tests/transport/pair.h"

namespace kvasir {
namespace {

using absl::StatusCode;
using testing::Flavour;
using testing::Outcome;
using testing::Pair;
using testing::Pattern;

class Contract : public ::testing::TestWithParam<Flavour> {};
INSTANTIATE_TEST_SUITE_P(Backends, Contract, ::testing::ValuesIn(testing::Flavours()), testing::FlavourLabel);

Piece MakePiece(std::vector<std::byte>& local, const RemoteSpan& remote) { return {std::span(local), remote}; }

TEST_P(Contract, PullBringsTheGrantedBytes) {
  Pair pair(GetParam());
  const auto bytes = Pattern(100'000, 1);
  std::memcpy(pair.arena.data() + 5000, bytes.data(), bytes.size());
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, 5000, bytes.size());
  std::vector<std::byte> local(bytes.size());
  const Outcome& outcome = pair.PullAll({MakePiece(local, remote)});
  EXPECT_TRUE(outcome.result.status.ok()) << outcome.result.status;
  EXPECT_FALSE(outcome.result.quarantined);
  EXPECT_EQ(local, bytes);
}

TEST_P(Contract, Law4_ForeignScopeIsDeniedAndHarmsNobody) {
  Pair pair(GetParam());
  std::vector<std::byte> local(1000);
  std::vector<std::byte> own(1000);
  const RemoteSpan foreign = pair.region->Grant(Pair::kScope + 1, 0, 1000);
  const RemoteSpan granted = pair.region->Grant(Pair::kScope, 0, 1000);
  Outcome& good = pair.Start(*pair.client, {MakePiece(own, granted)});
  const Outcome& bad = pair.PullAll({MakePiece(local, foreign)});
  EXPECT_EQ(bad.code(), StatusCode::kPermissionDenied) << bad.result.status;
  EXPECT_TRUE(pair.Step([&] { return good.done(); }));
  EXPECT_TRUE(good.result.status.ok()) << good.result.status;
  // One bad piece among good ones fails the pull; the connection goes on.
  EXPECT_EQ(pair.PullAll({MakePiece(own, granted), MakePiece(local, foreign)}).code(), StatusCode::kPermissionDenied);
  EXPECT_TRUE(pair.PullAll({MakePiece(own, granted)}).result.status.ok());
}

TEST_P(Contract, Law4_RevokedGrantIsDeniedAndBecomesQuiet) {
  Pair pair(GetParam());
  std::vector<std::byte> local(1000);
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, 0, 1000);
  EXPECT_TRUE(pair.PullAll({MakePiece(local, remote)}).result.status.ok());
  int quiet = 0;
  pair.region->Revoke(remote.grant, [&] { ++quiet; });
  EXPECT_EQ(quiet, 0) << "never inside Revoke";
  EXPECT_TRUE(pair.Step([&] { return quiet == 1; }));
  testing::StepSome(pair.loop);
  EXPECT_EQ(pair.PullAll({MakePiece(local, remote)}).code(), StatusCode::kPermissionDenied);
  pair.region->Revoke(remote.grant, [&] { ++quiet; });
  EXPECT_TRUE(pair.Step([&] { return quiet == 2; })) << "an unknown grant is quiet";
}

TEST_P(Contract, Law4_OutOfRangeIsDenied) {
  Pair pair(GetParam());
  std::vector<std::byte> local(1000);
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, 100, 1000);
  for (const uint64_t offset : {uint64_t{1}, uint64_t{1000}, UINT64_MAX, UINT64_MAX - 999}) {
    RemoteSpan beyond = remote;
    beyond.offset = offset;
    EXPECT_EQ(pair.PullAll({MakePiece(local, beyond)}).code(), StatusCode::kPermissionDenied) << offset;
  }
  RemoteSpan unknown = remote;
  unknown.grant ^= 1;
  EXPECT_EQ(pair.PullAll({MakePiece(local, unknown)}).code(), StatusCode::kPermissionDenied);
  EXPECT_TRUE(pair.PullAll({MakePiece(local, remote)}).result.status.ok());
}

TEST_P(Contract, Law4_LengthsThatDisagreeAreInvalid) {
  Pair pair(GetParam());
  std::vector<std::byte> local(999);
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, 0, 1000);
  EXPECT_EQ(pair.PullAll({MakePiece(local, remote)}).code(), StatusCode::kInvalidArgument);
}

TEST_P(Contract, Law4_UnknownCredentialsAreDenied) {
  Pair pair(GetParam());
  EXPECT_EQ(pair.Connect(0, "tenant-b").code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(pair.Connect(0, std::string(kCredentialsBytesMax + 1, 'x')).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(pair.Connect(0).ok());
}

TEST_P(Contract, Law7_AnotherIncarnationIsRefused) {
  Pair pair(GetParam());
  const uint64_t other = pair.server_transport->incarnation() ^ 1;
  EXPECT_EQ(pair.Connect(other).code(), StatusCode::kPermissionDenied);
  ASSERT_TRUE(pair.Connect(pair.server_transport->incarnation()).ok());
  std::vector<std::byte> local(10);
  RemoteSpan remote = pair.region->Grant(Pair::kScope, 0, 10);
  EXPECT_EQ(remote.incarnation, pair.server_transport->incarnation());
  remote.incarnation = other;
  EXPECT_EQ(pair.PullAll({MakePiece(local, remote)}).code(), StatusCode::kPermissionDenied);
}

TEST_P(Contract, Law8_NothingZeroLengthAndUnalignedPieces) {
  Pair pair(GetParam());
  const auto bytes = Pattern(10'000, 2);
  std::memcpy(pair.arena.data(), bytes.data(), bytes.size());
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, 0, bytes.size());
  std::vector<std::byte> local(bytes.size());
  EXPECT_TRUE(pair.PullAll({}).result.status.ok());
  EXPECT_TRUE(pair.PullAll({{std::span<std::byte>(), remote.Slice(7, 0)}}).result.status.ok());
  std::vector<Piece> pieces;
  uint64_t offset = 0;
  for (uint64_t length = 0; offset + length <= bytes.size(); ++length) {  // 0 + 1 + 2 + ... : all alignments
    pieces.push_back({std::span(local).subspan(offset, length), remote.Slice(offset, length)});
    offset += length;
  }
  std::shuffle(pieces.begin(), pieces.end(), testing::Rng(3));
  EXPECT_TRUE(pair.PullAll(pieces).result.status.ok());
  EXPECT_TRUE(std::equal(local.begin(), local.begin() + offset, bytes.begin()));
}

TEST_P(Contract, Law8_APieceOver4GiBIsAddressedAndItsEndArrives) {
  // Real memory of that length would take minutes of page faults: here the arena is sparse, the whole length is checked
  // as a range (refused one byte beyond) and its end is pulled. HugePieceTest moves every byte.
  constexpr uint64_t kBytes = (4ull << 30) + 4097;
  constexpr uint64_t kTail = 3 << 20;
  Pair pair(GetParam(), kBytes + 4096);
  const uint64_t offset = 4095;
  pair.arena.data()[offset + kBytes - 1] = std::byte{9};
  pair.arena.data()[offset + (4ull << 30)] = std::byte{8};
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, offset, kBytes);
  std::vector<std::byte> local(kTail);
  const Outcome& outcome = pair.PullAll({MakePiece(local, remote.Slice(kBytes - kTail, kTail))});
  EXPECT_TRUE(outcome.result.status.ok()) << outcome.result.status;
  EXPECT_EQ(local[kTail - 1], std::byte{9});
  EXPECT_EQ(local[kTail - 4097], std::byte{8});
  RemoteSpan beyond = remote;
  beyond.offset = kBytes - kTail + 1;
  beyond.length = kTail;
  EXPECT_EQ(pair.PullAll({MakePiece(local, beyond)}).code(), StatusCode::kPermissionDenied);
}

/// A long range of addresses over little memory: the same pages again and again.
class Aliased {
 public:
  static constexpr uint64_t kPageSetBytes = 64 << 20;
  explicit Aliased(uint64_t bytes) : bytes_((bytes + kPageSetBytes - 1) / kPageSetBytes * kPageSetBytes) {
    const int fd = memfd_create("aliased", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(fd, kPageSetBytes), 0);
    void* const at = mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    data_ = static_cast<std::byte*>(at);
    for (uint64_t offset = 0; offset < bytes_; offset += kPageSetBytes) {
      constexpr int kFlags = MAP_SHARED | MAP_FIXED | MAP_POPULATE;
      EXPECT_NE(mmap(data_ + offset, kPageSetBytes, PROT_READ | PROT_WRITE, kFlags, fd, 0), MAP_FAILED);
    }
    close(fd);
  }
  ~Aliased() { munmap(data_, bytes_); }
  std::byte* data() const { return data_; }

 private:
  const uint64_t bytes_;
  std::byte* data_ = nullptr;
};

TEST(HugePieceTest, Law8_EveryByteOfAPieceOver4GiB) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "ThreadSanitizer's shadow of 8 GiB of addresses does not fit into a small machine";
#endif
  constexpr uint64_t kBytes = (4ull << 30) + 4097;
  Aliased source(kBytes);
  Aliased target(kBytes);
  Pair pair({"loopback", "loopback", true});
  auto region = *pair.server_transport->Register(MemorySpan{.data = source.data(), .bytes = kBytes});
  std::memset(source.data(), 3, Aliased::kPageSetBytes);
  const RemoteSpan remote = region->Grant(Pair::kScope, 0, kBytes);
  const Outcome& outcome = pair.PullAll({{std::span(target.data(), kBytes), remote}});
  EXPECT_TRUE(outcome.result.status.ok()) << outcome.result.status;
  EXPECT_EQ(std::memcmp(source.data(), target.data(), Aliased::kPageSetBytes), 0);
  pair.client.reset();
  pair.server.reset();
  pair.server_transport.reset();
}

TEST_P(Contract, Law6_TheQueueHasALimit) {
  TransportOptions options;
  options.queued_pulls_max = 4;
  Pair pair(GetParam(), 4 << 20, options);
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, 0, 1000);
  std::vector<std::vector<std::byte>> locals(6, std::vector<std::byte>(1000));
  std::vector<Outcome*> outcomes;
  for (auto& local : locals) outcomes.push_back(&pair.Start(*pair.client, {MakePiece(local, remote)}));
  EXPECT_TRUE(pair.Step([&] {
    return std::all_of(outcomes.begin(), outcomes.end(), [](const Outcome* outcome) { return outcome->done(); });
  }));
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(outcomes[i]->code(), i < 4 ? StatusCode::kOk : StatusCode::kResourceExhausted) << i;
  }
}

TEST_P(Contract, Law6_ASmallPullEndsBesideALargeOne) {
  Pair pair(GetParam(), 16 << 20);
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, 0, 16 << 20);
  std::vector<std::byte> large(16 << 20);
  std::vector<std::byte> small(1000);
  const Outcome& first = pair.Start(*pair.client, {MakePiece(large, remote)});
  const Outcome& second = pair.Start(*pair.client, {MakePiece(small, remote.Slice(5, 1000))});
  EXPECT_TRUE(pair.Step([&] { return second.done(); }));
  EXPECT_FALSE(first.done());
  EXPECT_TRUE(second.result.status.ok());
  EXPECT_TRUE(pair.Step([&] { return first.done(); }));
  EXPECT_TRUE(first.result.status.ok());
}

TEST_P(Contract, ManyPullsOfBothDirectionsOnOneConnection) {
  Pair pair(GetParam());
  auto random = testing::Rng(4);
  const auto bytes = Pattern(4 << 20, 5);
  std::memcpy(pair.arena.data(), bytes.data(), bytes.size());
  auto client_arena = SharedMemory::Create(4 << 20, "client");
  ASSERT_TRUE(client_arena.ok());
  std::memcpy(client_arena->data(), bytes.data(), bytes.size());
  MemorySpan span = client_arena->span();
  if (!pair.flavour.with_fd) span.fd = -1;
  auto client_region = pair.client_transport->Register(span);
  ASSERT_TRUE(client_region.ok());

  const RemoteSpan down = pair.region->Grant(Pair::kScope, 0, bytes.size());
  const RemoteSpan up = (*client_region)->Grant(Pair::kClientScope, 0, bytes.size());
  EXPECT_EQ(pair.client->scope(), Pair::kClientScope);
  EXPECT_EQ(pair.server->scope(), Pair::kScope);
  constexpr int kPulls = 400;
  struct One {
    std::vector<std::byte> local;
    uint64_t offset;
    const Outcome* outcome;
  };
  std::vector<One> pulls(kPulls);
  for (int i = 0; i < kPulls; ++i) {
    One& one = pulls[i];
    one.local.resize(random() % (i % 10 == 0 ? 700'000 : 3000));
    one.offset = random() % (bytes.size() - one.local.size());
    const RemoteSpan& from = i % 2 == 0 ? down : up;
    // Some in two pieces.
    const uint64_t cut = one.local.empty() ? 0 : random() % one.local.size();
    one.outcome = &pair.Start(
        i % 2 == 0 ? *pair.client : *pair.server,
        {{std::span(one.local).subspan(0, cut), from.Slice(one.offset, cut)},
         {std::span(one.local).subspan(cut), from.Slice(one.offset + cut, one.local.size() - cut)}});
    if (i % 7 == 0) pair.loop.RunOnce(Duration::zero());
  }
  EXPECT_TRUE(pair.Step([&] {
    return std::all_of(pulls.begin(), pulls.end(), [](const One& one) { return one.outcome->done(); });
  }));
  for (const One& one : pulls) {
    ASSERT_TRUE(one.outcome->result.status.ok()) << one.outcome->result.status;
    EXPECT_TRUE(std::equal(one.local.begin(), one.local.end(), bytes.begin() + one.offset));
  }
  pair.client.reset();
  pair.server.reset();
  pair.client_transport.reset();  // a region goes after its transport
}

TEST_P(Contract, MapGivesTheBytesInPlaceOrIsUnimplemented) {
  Pair pair(GetParam());
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, 8, 1000);
  const bool addressable = pair.client_transport->capabilities().addressable && pair.flavour.with_fd;
  if (!addressable) {
    EXPECT_FALSE(pair.client->Map(remote).ok());
    return;
  }
  EXPECT_EQ(pair.client->Map(remote).status().code(), StatusCode::kUnavailable) << "not asked for yet";
  EXPECT_TRUE(pair.PullAll({{std::span<std::byte>(), remote.Slice(0, 0)}}).result.status.ok());
  auto mapped = pair.client->Map(remote.Slice(10, 20));
  ASSERT_TRUE(mapped.ok()) << mapped.status();
  ASSERT_EQ(mapped->size(), 20u);
  pair.arena.data()[8 + 10] = std::byte{123};
  EXPECT_EQ((*mapped)[0], std::byte{123});
  RemoteSpan beyond = remote;
  beyond.length += 1;
  EXPECT_EQ(pair.client->Map(beyond).status().code(), StatusCode::kPermissionDenied);
  pair.region->Revoke(remote.grant, nullptr);
  EXPECT_TRUE(pair.Step([&] { return !pair.client->Map(remote).ok(); }));
  // In-place readers never crash: the pointer stays good until the connection is destroyed, whatever the peer does.
  pair.server.reset();
  pair.server_transport.reset();
  testing::StepSome(pair.loop);
  EXPECT_EQ((*mapped)[0], std::byte{123});
}

TEST_P(Contract, AnAddressInUseAndAnAddressOfNobody) {
  Pair pair(GetParam());
  auto again = pair.client_transport->Listen(pair.address, Acceptor{});
  EXPECT_EQ(again.status().code(), StatusCode::kUnavailable) << again.status();
  pair.client.reset();
  pair.server.reset();
  pair.server_transport.reset();
  pair.region.reset();
  EXPECT_EQ(pair.Connect(0).code(), StatusCode::kUnavailable);
}

TEST(RegistryTest, NamesOfThisBuild) {
  Loop loop;
  EXPECT_EQ(MakeTransport("smoke-signals", loop, {}).status().code(), StatusCode::kInvalidArgument);
  for (const std::string& name : TransportNames()) {
    auto transport = MakeTransport(name, loop, {});
    ASSERT_TRUE(transport.ok());
    EXPECT_EQ((*transport)->capabilities().name, name);
    EXPECT_NE((*transport)->incarnation(), 0u);
  }
}

}  // namespace
}  // namespace kvasir
