// SPDX-License-Identifier: Apache-2.0
// The fault decorator does what its plan says, and keeps the laws while doing it.
#include "transport/faults.h"

#include <algorithm>
#include <cstring>

#include "tests/transport/pair.h"

namespace kvasir {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::StepUntil;

/// A faulty dialler of an honest listener, over loopback.
struct FaultyPair {
  explicit FaultyPair(const FaultPlan& plan) {
    client_transport = MakeFaultyTransport(inner.loop, MakeLoopbackTransport(inner.loop, {}), plan);
    ConnectOptions options;
    options.credentials = testing::Pair::kCredentials;
    client_transport->Connect(inner.address, options, [&](absl::StatusOr<std::unique_ptr<Connection>> connection) {
      client = *std::move(connection);
    });
    EXPECT_TRUE(inner.Step([&] { return client != nullptr; }));
    std::memset(inner.arena.data(), 7, kBytes);
    remote = inner.region->Grant(testing::Pair::kScope, 0, kBytes);
  }
  testing::Outcome& Start(std::vector<std::byte>& local, Instant deadline = Instant::max()) {
    return inner.Start(*client, {{std::span(local), remote}}, deadline);
  }

  static constexpr uint64_t kBytes = 1000;
  testing::Pair inner{{"loopback", "loopback", true}};
  std::unique_ptr<Transport> client_transport;
  std::unique_ptr<Connection> client;
  RemoteSpan remote;
  std::vector<std::byte> local = std::vector<std::byte>(kBytes);
};

TEST(FaultsTest, NoPlanNoFaults) {
  FaultyPair pair({});
  const auto& outcome = pair.Start(pair.local);
  EXPECT_TRUE(pair.inner.Step([&] { return outcome.done(); }));
  EXPECT_TRUE(outcome.result.status.ok());
  EXPECT_EQ(pair.local, std::vector<std::byte>(FaultyPair::kBytes, std::byte{7}));
}

TEST(FaultsTest, EveryNthFailsAndFlips) {
  FaultyPair pair({.fail_every = 2, .flip_every = 3});
  for (int n = 1; n <= 6; ++n) {
    std::fill(pair.local.begin(), pair.local.end(), std::byte{0});
    const auto& outcome = pair.Start(pair.local);
    EXPECT_TRUE(pair.inner.Step([&] { return outcome.done(); }));
    EXPECT_EQ(outcome.code(), n % 2 == 0 ? StatusCode::kUnavailable : StatusCode::kOk) << n;
    const auto right = std::count(pair.local.begin(), pair.local.end(), std::byte{7});
    const auto wrong = static_cast<int64_t>(pair.local.size()) - right;
    if (n % 2 != 0) {
      EXPECT_EQ(wrong, n % 3 == 0 ? 1 : 0) << n;
    }
  }
}

TEST(FaultsTest, DelaysReorder) {
  FaultyPair pair({.delay_max = milliseconds(100)});
  std::vector<std::vector<std::byte>> locals(20, pair.local);
  std::vector<int> order;
  for (int i = 0; i < 20; ++i) {
    const Piece piece{std::span(locals[i]), pair.remote};
    pair.client->Pull(std::span(&piece, 1), Instant::max(), [&order, i](PullResult) { order.push_back(i); });
  }
  testing::StepSome(pair.inner.loop);
  pair.inner.skipped += milliseconds(200);
  EXPECT_TRUE(pair.inner.Step([&] { return order.size() == 20; }));
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
}

TEST(FaultsTest, EndlessEndsAtItsDeadlineAndIsReleasedLater) {
  FaultyPair pair({.endless_every = 1, .quarantine = seconds(5)});
  std::vector<std::string> events;
  const Piece piece{std::span(pair.local), pair.remote};
  pair.client->Pull(
      std::span(&piece, 1), pair.inner.loop.Now() + seconds(10),
      [&](PullResult result) {
        EXPECT_EQ(result.status.code(), StatusCode::kDeadlineExceeded);
        EXPECT_TRUE(result.quarantined);
        events.push_back("done");
      },
      [&] { events.push_back("released"); });
  testing::StepSome(pair.inner.loop);
  EXPECT_TRUE(events.empty());
  pair.inner.skipped += seconds(10);
  EXPECT_TRUE(pair.inner.Step([&] { return !events.empty(); }));
  EXPECT_EQ(events, std::vector<std::string>{"done"});
  pair.inner.skipped += seconds(5);
  EXPECT_TRUE(pair.inner.Step([&] { return events.size() == 2; }));
  EXPECT_EQ(events.back(), "released");
}

TEST(FaultsTest, ADelayBeyondTheDeadlineIsDeadlineExceeded) {
  FaultyPair pair({.delay_min = seconds(10), .delay_max = seconds(10)});
  const auto& outcome = pair.Start(pair.local, pair.inner.loop.Now() + seconds(5));
  testing::StepSome(pair.inner.loop);
  EXPECT_FALSE(outcome.done());
  pair.inner.skipped += seconds(5);
  EXPECT_TRUE(pair.inner.Step([&] { return outcome.done(); }));
  EXPECT_EQ(outcome.code(), StatusCode::kDeadlineExceeded);
}

TEST(FaultsTest, CloseEndsEndlessAndDelayedPullsOnce) {
  FaultyPair pair({.delay_min = seconds(10), .delay_max = seconds(10), .endless_every = 2});
  const auto& delayed = pair.Start(pair.local);
  const auto& endless = pair.Start(pair.local);
  testing::StepSome(pair.inner.loop);
  pair.client->Close();
  EXPECT_TRUE(pair.inner.Step([&] { return delayed.done() && endless.done(); }));
  EXPECT_EQ(delayed.code(), StatusCode::kAborted);
  EXPECT_EQ(endless.code(), StatusCode::kAborted);
  const auto& after = pair.Start(pair.local);
  EXPECT_TRUE(pair.inner.Step([&] { return after.done(); }));
  EXPECT_EQ(after.code(), StatusCode::kAborted);
}

}  // namespace
}  // namespace kvasir
