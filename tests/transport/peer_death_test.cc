// SPDX-License-Identifier: Apache-2.0
// A peer in another process that stops, or dies by kill -9: pulls end once, by Unavailable or by their deadline, and
// nothing lands afterwards.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "tests/transport/pair.h"

namespace kvasir {
namespace {

using absl::StatusCode;
using testing::Flavour;
using testing::Outcome;

constexpr uint64_t kBytes = 16 << 20;
constexpr uint64_t kScope = 5;

/// A granting process. Forked while the test has one thread.
class Store {
 public:
  /// What the child tells through the pipe.
  struct Offer {
    std::array<char, 128> address;
    std::array<char, RemoteSpan::kEncodedBytes> span;
  };

  explicit Store(const Flavour& flavour) {
    std::array<int, 2> fds;
    EXPECT_EQ(pipe(fds.data()), 0);
    pid_ = fork();
    if (pid_ == 0) Serve(flavour, fds[1]);
    close(fds[1]);
    Offer offer;
    EXPECT_EQ(read(fds[0], &offer, sizeof offer), static_cast<ssize_t>(sizeof offer));
    close(fds[0]);
    address = offer.address.data();
    span = *RemoteSpan::Decode(std::string_view(offer.span.data(), offer.span.size()));
  }
  ~Store() { Kill(); }

  void Stop() {
    kill(pid_, SIGSTOP);
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, WUNTRACED), pid_);
    EXPECT_TRUE(WIFSTOPPED(status));
  }
  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  std::string address;
  RemoteSpan span;

 private:
  [[noreturn]] static void Serve(const Flavour& flavour, int out) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Loop loop;
    SharedMemory arena = *SharedMemory::Create(kBytes, "store");
    std::memset(arena.data(), 1, kBytes);
    auto transport = *MakeTransport(flavour.backend, loop, {});
    MemorySpan memory = arena.span();
    if (!flavour.with_fd) memory.fd = -1;
    auto region = *transport->Register(memory);
    std::vector<std::unique_ptr<Connection>> connections;
    Acceptor acceptor;
    acceptor.judge = [](std::string_view) -> absl::StatusOr<uint64_t> { return kScope; };
    acceptor.accepted = [&](std::unique_ptr<Connection> connection) { connections.push_back(std::move(connection)); };
    const std::string address =
        *transport->Listen(std::string_view(flavour.backend) == "tcp" ? "127.0.0.1:0" : "", acceptor);
    Offer offer{};
    std::copy(address.begin(), address.end(), offer.address.begin());
    const std::string span = region->Grant(kScope, 0, kBytes).Encode();
    std::copy(span.begin(), span.end(), offer.span.begin());
    (void)!write(out, &offer, sizeof offer);
    close(out);
    loop.Run();
    _exit(0);
  }

  pid_t pid_ = 0;
};

/// The pulling side, in the test's process.
struct Puller {
  explicit Puller(const Flavour& flavour) : store(flavour), transport(*MakeTransport(flavour.backend, loop, {})) {
    ConnectOptions options;
    options.peer_incarnation = store.span.incarnation;
    transport->Connect(store.address, options, [this](absl::StatusOr<std::unique_ptr<Connection>> connected) {
      EXPECT_TRUE(connected.ok()) << connected.status();
      if (connected.ok()) connection = *std::move(connected);
    });
    EXPECT_TRUE(testing::StepUntil(loop, [this] { return connection != nullptr; }));
    connection->OnClosed([this](absl::Status why) {
      ++closed;
      EXPECT_EQ(why.code(), StatusCode::kUnavailable) << why;
    });
  }

  Outcome& Start(uint64_t bytes, Instant deadline = Instant::max()) {
    local.assign(bytes, std::byte{0});
    const Piece piece{std::span(local), store.span.Slice(0, bytes)};
    connection->Pull(std::span(&piece, 1), deadline, [this](PullResult result) {
      ++outcome.times;
      outcome.result = std::move(result);
    });
    return outcome;
  }
  bool StepUntilDone() {
    return testing::StepUntil(loop, [this] { return outcome.done(); });
  }
  void ExpectNothingLands() {
    std::fill(local.begin(), local.end(), std::byte{0xA5});
    testing::StepSome(loop, 100);
    EXPECT_TRUE(std::all_of(local.begin(), local.end(), [](std::byte byte) { return byte == std::byte{0xA5}; }));
    EXPECT_EQ(outcome.times, 1);
  }

  Duration skipped{};
  Loop loop{[this] { return std::chrono::steady_clock::now() + skipped; }};
  Store store;
  std::unique_ptr<Transport> transport;
  std::unique_ptr<Connection> connection;
  std::vector<std::byte> local;
  Outcome outcome;
  int closed = 0;
};

std::vector<Flavour> OtherProcessFlavours() {
  std::vector<Flavour> flavours = testing::Flavours();
  std::erase_if(flavours, [](const Flavour& flavour) { return std::string_view(flavour.backend) == "loopback"; });
  return flavours;
}

class PeerDeath : public ::testing::TestWithParam<Flavour> {};
INSTANTIATE_TEST_SUITE_P(Backends, PeerDeath, ::testing::ValuesIn(OtherProcessFlavours()), testing::FlavourLabel);

TEST_P(PeerDeath, BytesCrossProcesses) {
  Puller puller(GetParam());
  puller.Start(1 << 20);
  EXPECT_TRUE(puller.StepUntilDone());
  EXPECT_TRUE(puller.outcome.result.status.ok()) << puller.outcome.result.status;
  EXPECT_EQ(puller.local, std::vector<std::byte>(1 << 20, std::byte{1}));
}

TEST_P(PeerDeath, Law1_KillOfASilentPeerEndsPullsWithUnavailable) {
  Puller puller(GetParam());
  puller.store.Stop();
  puller.Start(1 << 20);
  testing::StepSome(puller.loop);
  EXPECT_FALSE(puller.outcome.done());
  puller.store.Kill();
  EXPECT_TRUE(puller.StepUntilDone());
  EXPECT_EQ(puller.outcome.code(), StatusCode::kUnavailable) << puller.outcome.result.status;
  EXPECT_TRUE(testing::StepUntil(puller.loop, [&] { return puller.closed == 1; }));
  puller.ExpectNothingLands();
}

TEST_P(PeerDeath, Law1_KillInTheMiddleOfAPull) {
  Puller puller(GetParam());
  puller.Start(kBytes);
  EXPECT_TRUE(testing::StepUntil(puller.loop, [&] { return puller.local[0] == std::byte{1}; }));
  puller.store.Kill();
  EXPECT_TRUE(puller.StepUntilDone());
  // Mapped memory outlives its process: such a pull may still end well.
  EXPECT_TRUE(puller.outcome.code() == StatusCode::kUnavailable || puller.outcome.result.status.ok());
  EXPECT_TRUE(testing::StepUntil(puller.loop, [&] { return puller.closed == 1; }));
  puller.ExpectNothingLands();
}

TEST_P(PeerDeath, Law3_AStoppedPeerCostsOneDeadline) {
  Puller puller(GetParam());
  puller.store.Stop();
  puller.Start(1 << 20, puller.loop.Now() + std::chrono::hours(1));
  testing::StepSome(puller.loop);
  EXPECT_FALSE(puller.outcome.done());
  puller.skipped += std::chrono::hours(2);
  EXPECT_TRUE(puller.StepUntilDone());
  EXPECT_EQ(puller.outcome.code(), StatusCode::kDeadlineExceeded);
  puller.ExpectNothingLands();
}

TEST_P(PeerDeath, APullWorksWhileTheOwnerSleepsWhereTheBackendSaysSo) {
  Puller puller(GetParam());
  puller.Start(1000);
  EXPECT_TRUE(puller.StepUntilDone());
  puller.store.Stop();
  puller.outcome = Outcome();
  puller.Start(1 << 20);
  const bool idle = puller.transport->capabilities().target_cpu_idle && GetParam().with_fd;
  if (idle) {
    EXPECT_TRUE(puller.StepUntilDone());
    EXPECT_TRUE(puller.outcome.result.status.ok());
  } else {
    testing::StepSome(puller.loop);
    EXPECT_FALSE(puller.outcome.done());
  }
}

}  // namespace
}  // namespace kvasir
