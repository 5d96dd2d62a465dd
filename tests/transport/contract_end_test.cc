// SPDX-License-Identifier: Apache-2.0
// The contract of every backend, second part: how pulls end. Exactly once, on the Loop, and nothing lands afterwards.
#include <algorithm>
#include <cstring>

#include "tests/transport/pair.h"

namespace kvasir {
namespace {

using absl::StatusCode;
using testing::Flavour;
using testing::Outcome;
using testing::Pair;
using testing::Pattern;
using testing::StepSome;

constexpr uint64_t kLarge = 16 << 20;
constexpr std::byte kPoison{0xA5};

class ContractEnd : public ::testing::TestWithParam<Flavour> {};
INSTANTIATE_TEST_SUITE_P(Backends, ContractEnd, ::testing::ValuesIn(testing::Flavours()), testing::FlavourLabel);

/// A large pull that has begun to land but is far from its end.
struct Underway {
  explicit Underway(const Flavour& flavour) : pair(flavour, kLarge), local(kLarge) {
    std::memset(pair.arena.data(), 1, kLarge);
    remote = pair.region->Grant(Pair::kScope, 0, kLarge);
  }
  void Start(Instant deadline = Instant::max()) {
    outcome = &pair.Start(*pair.client, {{std::span(local), remote}}, deadline);
    EXPECT_TRUE(pair.Step([&] { return std::find(local.begin(), local.end(), std::byte{1}) != local.end(); }));
    EXPECT_FALSE(outcome->done());
  }
  /// Law 2: once the pull ended, its memory is ours again.
  void ExpectNothingLands() {
    std::fill(local.begin(), local.end(), kPoison);
    StepSome(pair.loop, 300);
    EXPECT_TRUE(std::all_of(local.begin(), local.end(), [](std::byte byte) { return byte == kPoison; }));
    EXPECT_EQ(outcome->times, 1);
  }

  Pair pair;
  std::vector<std::byte> local;
  RemoteSpan remote;
  Outcome* outcome = nullptr;
};

TEST_P(ContractEnd, Law1_CloseEndsEveryPullWithAborted) {
  Underway it(GetParam());
  it.Start();
  std::vector<std::byte> queued(100);
  const Outcome& second = it.pair.Start(*it.pair.client, {{std::span(queued), it.remote.Slice(0, 100)}});
  int closed = 0;
  it.pair.client->OnClosed([&](absl::Status) { ++closed; });
  it.pair.client->Close();
  it.pair.client->Close();
  EXPECT_FALSE(it.outcome->done()) << "never inside Close";
  EXPECT_TRUE(it.pair.Step([&] { return it.outcome->done() && second.done() && closed == 1; }));
  EXPECT_EQ(it.outcome->code(), StatusCode::kAborted);
  EXPECT_EQ(second.code(), StatusCode::kAborted);
  it.ExpectNothingLands();
  EXPECT_EQ(it.pair.PullAll({{std::span(queued), it.remote.Slice(0, 100)}}).code(), StatusCode::kAborted);
  EXPECT_EQ(closed, 1);
}

TEST_P(ContractEnd, Law1_DestroyingTheConnectionEndsItsPulls) {
  Underway it(GetParam());
  it.Start();
  it.pair.client.reset();
  EXPECT_TRUE(it.pair.Step([&] { return it.outcome->done(); }));
  EXPECT_EQ(it.outcome->code(), StatusCode::kAborted);
  it.ExpectNothingLands();
}

TEST_P(ContractEnd, Law1_DestroyingTheTransportEndsItsPulls) {
  Underway it(GetParam());
  it.Start();
  it.pair.client_transport.reset();
  EXPECT_TRUE(it.pair.Step([&] { return it.outcome->done(); }));
  EXPECT_EQ(it.outcome->code(), StatusCode::kAborted);
  it.ExpectNothingLands();
}

TEST_P(ContractEnd, Law1_ThePeersCloseEndsPullsWithUnavailable) {
  Underway it(GetParam());
  it.Start();
  int closed = 0;
  it.pair.client->OnClosed([&](absl::Status status) {
    ++closed;
    EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status;
  });
  it.pair.server->Close();
  EXPECT_TRUE(it.pair.Step([&] { return it.outcome->done() && closed == 1; }));
  EXPECT_EQ(it.outcome->code(), StatusCode::kUnavailable);
  it.ExpectNothingLands();
}

TEST_P(ContractEnd, Law1_ThePeersTransportGoesWhileItIsRead) {
  Underway it(GetParam());
  it.Start();
  it.pair.server.reset();
  it.pair.server_transport.reset();
  it.pair.region.reset();  // CHECKs that nobody reads it any more
  EXPECT_TRUE(it.pair.Step([&] { return it.outcome->done(); }));
  EXPECT_EQ(it.outcome->code(), StatusCode::kUnavailable);
  it.ExpectNothingLands();
}

TEST_P(ContractEnd, Law3_AtTheDeadlineThePullEndsAndNothingLands) {
  Underway it(GetParam());
  it.Start(it.pair.loop.Now() + std::chrono::hours(1));
  it.pair.skipped += std::chrono::hours(2);
  it.pair.loop.RunOnce(Duration::zero());
  EXPECT_TRUE(it.outcome->done());
  EXPECT_EQ(it.outcome->code(), StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(it.outcome->result.quarantined);
  it.ExpectNothingLands();
}

TEST_P(ContractEnd, Law3_ADeadlineInThePastEndsAtOnce) {
  Pair pair(GetParam());
  std::vector<std::byte> local(100);
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, 0, 100);
  const Outcome& outcome = pair.Start(*pair.client, {{std::span(local), remote}}, Instant());
  EXPECT_TRUE(pair.Step([&] { return outcome.done(); }));
  EXPECT_EQ(outcome.code(), StatusCode::kDeadlineExceeded);
}

TEST_P(ContractEnd, Law3_ADeadlineThatIsMetCostsNothing) {
  Pair pair(GetParam());
  std::vector<std::byte> local(100);
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, 0, 100);
  const Instant deadline = pair.loop.Now() + std::chrono::hours(1);
  const Outcome& outcome = pair.Start(*pair.client, {{std::span(local), remote}}, deadline);
  EXPECT_TRUE(pair.Step([&] { return outcome.done(); }));
  EXPECT_TRUE(outcome.result.status.ok());
  pair.skipped += std::chrono::hours(2);
  StepSome(pair.loop);
  EXPECT_EQ(outcome.times, 1);
  EXPECT_TRUE(pair.PullAll({{std::span(local), remote}}).result.status.ok());
}

TEST_P(ContractEnd, Law5_RevokedHalfwayFailsOrEndsWholeAndQuietIsExact) {
  Underway it(GetParam());
  it.Start();
  bool quiet = false;
  it.pair.region->Revoke(it.remote.grant, [&] {
    quiet = true;
    std::memset(it.pair.arena.data(), 2, kLarge);  // reused: nothing of this may reach a reader that sees_reads
  });
  EXPECT_TRUE(it.pair.Step([&] { return it.outcome->done() && quiet; }));
  EXPECT_TRUE(it.outcome->result.status.ok() || it.outcome->code() == StatusCode::kPermissionDenied)
      << it.outcome->result.status;
  if (it.pair.server_transport->capabilities().sees_reads) {
    EXPECT_EQ(std::find(it.local.begin(), it.local.end(), std::byte{2}), it.local.end());
  }
  it.ExpectNothingLands();
}

TEST_P(ContractEnd, ACallbackMayPullCloseAndDestroy) {
  Pair pair(GetParam());
  std::vector<std::byte> local(100);
  const RemoteSpan remote = pair.region->Grant(Pair::kScope, 0, 100);
  const Piece piece{std::span(local), remote};
  std::vector<StatusCode> codes;
  pair.client->Pull(std::span(&piece, 1), Instant::max(), [&](PullResult first) {
    codes.push_back(first.status.code());
    pair.client->Pull(std::span(&piece, 1), Instant::max(), [&](PullResult second) {
      codes.push_back(second.status.code());
      pair.client->Pull(std::span(&piece, 1), Instant::max(),
                        [&](PullResult third) { codes.push_back(third.status.code()); });
      pair.client.reset();
      pair.client_transport.reset();
    });
  });
  EXPECT_TRUE(pair.Step([&] { return codes.size() == 3; }));
  EXPECT_EQ(codes, (std::vector<StatusCode>{StatusCode::kOk, StatusCode::kOk, StatusCode::kAborted}));
}

TEST_P(ContractEnd, ConnectEndsOnceWhenTheTransportGoes) {
  Pair pair(GetParam());
  std::vector<StatusCode> codes;
  ConnectOptions options;
  options.credentials = Pair::kCredentials;
  pair.client_transport->Connect(pair.address, options, [&](absl::StatusOr<std::unique_ptr<Connection>> connection) {
    codes.push_back(connection.status().code());
  });
  pair.client.reset();
  pair.client_transport.reset();
  EXPECT_TRUE(pair.Step([&] { return !codes.empty(); }));
  StepSome(pair.loop);
  EXPECT_EQ(codes, std::vector<StatusCode>{StatusCode::kAborted});
}

}  // namespace
}  // namespace kvasir
