// SPDX-License-Identifier: Apache-2.0
// The goals of transport, each against the plainest thing that moves the same bytes, alternating in one run:
//
//   T1  get of 1 MiB blocks over shm, copying   against  memcpy of the same blocks from a mapped arena
//   T3  get of 1 MiB blocks over tcp            against  two threads, send and recv, the same window
//
//   transport_bench [--quick] [T1] [T3]         one JSON line a goal on stdout, progress on stderr
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/bench/bench_pairs.h"
#include "transport/check.h"
#include "transport/transport.h"

namespace kvasir {
namespace {

constexpr uint64_t kBlockBytes = 1 << 20;
constexpr uint64_t kArenaBlocks = 512;
constexpr uint32_t kSeed = 20261121;

struct Settings {
  int rounds = 41;   // pairs of ours and reference
  int blocks = 200;  // a measurement
};

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The same random blocks for both sides.
std::vector<uint32_t> BlockOrder(int count) {
  std::mt19937 random(kSeed);
  std::vector<uint32_t> order(count);
  for (uint32_t& block : order) block = random() % kArenaBlocks;
  return order;
}

/// Ours and the reference in turn, by the wall clock: both sides have two threads, and waiting counts.
template <typename Ours, typename Reference>
bench::Ratios Compare(const char* what, const Settings& settings, Ours ours, Reference reference) {
  ours();
  reference();
  std::vector<double> ratios;
  bench::Ratios result;
  for (int round = 0; round < settings.rounds; ++round) {
    double ours_seconds = 0;
    double reference_seconds = 0;
    if (round % 2 == 0) {
      ours_seconds = ours();
      reference_seconds = reference();
    } else {
      reference_seconds = reference();
      ours_seconds = ours();
    }
    const double gigabytes = settings.blocks * double{kBlockBytes} / 1e9;
    ratios.push_back(reference_seconds / ours_seconds);
    std::fprintf(stderr, "%s: ours %.2f GB/s, reference %.2f GB/s, ratio %.3f\n", what, gigabytes / ours_seconds,
                 gigabytes / reference_seconds, ratios.back());
  }
  std::sort(ratios.begin(), ratios.end());
  result.median = ratios[ratios.size() / 2];
  result.low = ratios.front();
  result.high = ratios.back();
  return result;
}

/// A store's side on a thread of its own, and a client's Loop stepped by the measuring thread.
class Service {
 public:
  static constexpr uint64_t kScope = 1;

  explicit Service(const char* backend, const TransportOptions& options = {}) : thread_("bench-store") {
    arena_ = *SharedMemory::Create(kArenaBlocks * kBlockBytes, "bench-arena");
    std::memset(arena_.data(), 1, arena_.bytes());
    std::string address;
    thread_.Call([&] {
      transport_ = *MakeTransport(backend, thread_.loop(), options);
      region_ = *transport_->Register(arena_.span());
      span_ = region_->Grant(kScope, 0, arena_.bytes());
      Acceptor acceptor;
      acceptor.judge = [](std::string_view) -> absl::StatusOr<uint64_t> { return kScope; };
      acceptor.accepted = [this](std::unique_ptr<Connection> connection) { server_ = std::move(connection); };
      address = *transport_->Listen(std::string_view(backend) == "tcp" ? "127.0.0.1:0" : "", acceptor);
    });
    client_transport_ = *MakeTransport(backend, client_loop_, options);
    client_transport_->Connect(address, {}, [this](absl::StatusOr<std::unique_ptr<Connection>> connection) {
      client_ = *std::move(connection);
    });
    while (client_ == nullptr) client_loop_.RunOnce(std::chrono::milliseconds(1));
  }
  ~Service() {
    client_.reset();
    client_transport_.reset();
    thread_.Call([this] {
      server_.reset();
      transport_.reset();
      region_.reset();
    });
  }

  /// Gets the blocks into a ring of `window` buffers, `window` at a time without a barrier. Answers seconds.
  double Get(const std::vector<uint32_t>& order, int window, std::byte* ring) {
    const auto start = std::chrono::steady_clock::now();
    size_t next = 0;
    size_t ended = 0;
    std::function<void(int)> get = [&](int slot) {
      if (next == order.size()) return;
      const Piece piece{std::span(ring + slot * kBlockBytes, kBlockBytes),
                        span_.Slice(order[next++] * kBlockBytes, kBlockBytes)};
      client_->Pull(std::span(&piece, 1), Instant::max(), [&, slot](PullResult result) {
        KVASIR_CHECK(result.status.ok(), "a pull of the bench");
        ++ended;
        get(slot);
      });
    };
    for (int slot = 0; slot < window; ++slot) get(slot);
    while (ended < order.size()) client_loop_.RunOnce(std::chrono::seconds(1));
    return SecondsSince(start);
  }
  const SharedMemory& arena() const { return arena_; }

 private:
  SharedMemory arena_;
  LoopThread thread_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<MemoryRegion> region_;
  std::unique_ptr<Connection> server_;
  RemoteSpan span_;
  Loop client_loop_;
  std::unique_ptr<Transport> client_transport_;
  std::unique_ptr<Connection> client_;
};

void GoalT1(const Settings& settings) {
  constexpr int kWindow = 8;
  Service service("shm");
  const std::vector<uint32_t> order = BlockOrder(settings.blocks);
  std::vector<std::byte> ring(kWindow * kBlockBytes, std::byte{2});
  void* const mapped = mmap(nullptr, service.arena().bytes(), PROT_READ, MAP_SHARED, service.arena().fd(), 0);
  KVASIR_CHECK(mapped != MAP_FAILED, "mmap of the bench's arena");
  const auto* const arena = static_cast<const std::byte*>(mapped);
  const auto reference = [&] {
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < order.size(); ++i) {
      std::memcpy(ring.data() + i % kWindow * kBlockBytes, arena + order[i] * kBlockBytes, kBlockBytes);
    }
    return SecondsSince(start);
  };
  const auto ours = [&] { return service.Get(order, kWindow, ring.data()); };
  bench::Report({"T1", "get 1 MiB over shm", 0.9, 0.97}, Compare("T1", settings, ours, reference));
  munmap(mapped, service.arena().bytes());
}

/// The plain loop: a thread that answers block numbers with blocks, and a client with `window` numbers sent ahead.
class PlainTcp {
 public:
  explicit PlainTcp(const std::byte* arena) : arena_(arena) {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    KVASIR_CHECK(bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0, "bind");
    KVASIR_CHECK(listen(listener, 1) == 0, "listen");
    getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length);
    client_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    KVASIR_CHECK(connect(client_, reinterpret_cast<sockaddr*>(&address), length) == 0, "connect");
    server_ = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    close(listener);
    for (const int fd : {client_, server_}) {
      const int one = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    }
    thread_ = std::thread([this] { Serve(); });
  }
  ~PlainTcp() {
    shutdown(client_, SHUT_RDWR);
    thread_.join();
    close(client_);
    close(server_);
  }

  double Get(const std::vector<uint32_t>& order, int window, std::byte* ring) {
    const auto start = std::chrono::steady_clock::now();
    size_t asked = 0;
    for (size_t ended = 0; ended < order.size(); ++ended) {
      for (; asked < order.size() && asked < ended + window; ++asked) {
        KVASIR_CHECK(send(client_, &order[asked], sizeof order[asked], MSG_NOSIGNAL) == sizeof order[asked], "send");
      }
      KVASIR_CHECK(ReceiveAll(client_, ring + ended % window * kBlockBytes, kBlockBytes), "recv");
    }
    return SecondsSince(start);
  }

 private:
  static bool ReceiveAll(int fd, void* to, size_t bytes) {
    for (size_t got = 0; got < bytes;) {
      const ssize_t received = recv(fd, static_cast<char*>(to) + got, bytes - got, 0);
      if (received <= 0) return false;
      got += received;
    }
    return true;
  }
  void Serve() {
    uint32_t block;
    while (ReceiveAll(server_, &block, sizeof block)) {
      for (size_t sent = 0; sent < kBlockBytes;) {
        const ssize_t n = send(server_, arena_ + block * kBlockBytes + sent, kBlockBytes - sent, MSG_NOSIGNAL);
        if (n <= 0) return;
        sent += n;
      }
    }
  }

  const std::byte* const arena_;
  int client_ = -1;
  int server_ = -1;
  std::thread thread_;
};

/// Windows 1 to 16; the goal's line is the worst of them.
void GoalT3(const Settings& settings) {
  constexpr int kWindowMax = 16;
  Service service("tcp");
  PlainTcp plain(service.arena().data());
  const std::vector<uint32_t> order = BlockOrder(settings.blocks);
  std::vector<std::byte> ring(kWindowMax * kBlockBytes, std::byte{2});
  bench::Ratios worst;
  bench::Goal goal{"T3", "", 0.9, 1.0};
  for (int window = 1; window <= kWindowMax; window *= 2) {
    const std::string label = "T3 window " + std::to_string(window);
    const bench::Ratios ratios = Compare(
        label.c_str(), settings, [&] { return service.Get(order, window, ring.data()); },
        [&] { return plain.Get(order, window, ring.data()); });
    std::fprintf(stderr, "%s: median ratio %.3f [%.3f, %.3f]\n", label.c_str(), ratios.median, ratios.low, ratios.high);
    if (window > 1 && ratios.median >= worst.median) continue;
    worst = ratios;
    goal.what = "get 1 MiB over tcp, worst of windows 1-16: " + std::to_string(window);
  }
  bench::Report(goal, worst);
}

int Main(int argc, char** argv) {
  Settings settings;
  std::vector<std::string> goals;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--quick") {
      settings = {.rounds = 15, .blocks = 100};
    } else {
      goals.push_back(argument);
    }
  }
  if (goals.empty()) goals = {"T1", "T3"};
  for (const std::string& goal : goals) {
    if (goal == "T1") {
      GoalT1(settings);
    } else if (goal == "T3") {
      GoalT3(settings);
    } else {
      std::fprintf(stderr, "no goal \"%s\": T1, T3\n", goal.c_str());
      return 2;
    }
  }
  return 0;
}

}  // namespace
}  // namespace kvasir

int main(int argc, char** argv) { return kvasir::Main(argc, argv); }
