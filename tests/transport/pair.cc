// SPDX-License-Identifier: Apache-2.0
// The fixture of the contract suite.
#include "tests/transport/pair.h"

#include <algorithm>
#include <utility>

namespace kvasir::testing {

std::vector<Flavour> Flavours() {
  std::vector<Flavour> flavours;
  for (const std::string& name : TransportNames()) {
    if (name == "loopback") flavours.push_back({"loopback", "loopback", true});
    if (name == "tcp") flavours.push_back({"tcp", "tcp", true});
    if (name == "shm") {
      flavours.push_back({"shm", "shm", true});
      flavours.push_back({"shm_by_socket", "shm", false});
    }
  }
  return flavours;
}

std::string FlavourLabel(const ::testing::TestParamInfo<Flavour>& info) { return info.param.label; }

bool StepUntil(Loop& loop, const std::function<bool()>& holds, int turns) {
  for (int i = 0; i < turns && !holds(); ++i) loop.RunOnce(std::chrono::milliseconds(1));
  return holds();
}

void StepSome(Loop& loop, int turns) {
  for (int i = 0; i < turns; ++i) loop.RunOnce(std::chrono::microseconds(100));
}

std::vector<std::byte> Pattern(uint64_t bytes, uint64_t salt) {
  std::vector<std::byte> pattern(bytes);
  uint64_t state = salt * 0x9E3779B97F4A7C15ull + 1;
  for (std::byte& byte : pattern) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    byte = static_cast<std::byte>(state >> 56);
  }
  return pattern;
}

Pair::Pair(const Flavour& what, uint64_t arena_bytes, const TransportOptions& options) : flavour(what) {
  arena = *SharedMemory::Create(arena_bytes, "arena");
  server_transport = *MakeTransport(flavour.backend, loop, options);
  client_transport = *MakeTransport(flavour.backend, loop, options);
  MemorySpan span = arena.span();
  if (!flavour.with_fd) span.fd = -1;
  region = *server_transport->Register(span);
  Acceptor acceptor;
  acceptor.judge = [](std::string_view credentials) -> absl::StatusOr<uint64_t> {
    if (credentials != kCredentials) return absl::PermissionDeniedError("unknown tenant");
    return kScope;
  };
  acceptor.accepted = [this](std::unique_ptr<Connection> accepted) { server = std::move(accepted); };
  address = *server_transport->Listen(flavour.backend == std::string("tcp") ? "127.0.0.1:0" : "", acceptor);
  const absl::Status connected = Connect(server_transport->incarnation());
  EXPECT_TRUE(connected.ok()) << connected;
}

Pair::~Pair() {
  client.reset();
  server.reset();
  client_transport.reset();
  server_transport.reset();
  StepSome(loop);
  for (const auto& outcome : outcomes_) EXPECT_EQ(outcome->times, 1) << "law 1: exactly one completion";
}

absl::Status Pair::Connect(uint64_t incarnation, const std::string& credentials) {
  client.reset();
  server.reset();
  ConnectOptions options;
  options.peer_incarnation = incarnation;
  options.credentials = credentials;
  options.scope = kClientScope;
  options.deadline = loop.Now() + std::chrono::seconds(30);
  std::optional<absl::Status> answer;
  client_transport->Connect(address, options, [&](absl::StatusOr<std::unique_ptr<Connection>> connection) {
    EXPECT_FALSE(answer.has_value());
    answer = connection.status();
    if (connection.ok()) client = *std::move(connection);
  });
  if (!Step([&] { return answer.has_value(); })) return absl::InternalError("Connect never answered");
  if (answer->ok() && !Step([&] { return server != nullptr; })) return absl::InternalError("never accepted");
  return *answer;
}

Outcome& Pair::Start(Connection& connection, std::vector<Piece> pieces, Instant deadline) {
  outcomes_.push_back(std::make_unique<Outcome>());
  Outcome& outcome = *outcomes_.back();
  connection.Pull(pieces, deadline, [&outcome](PullResult result) {
    ++outcome.times;
    outcome.result = std::move(result);
  });
  EXPECT_FALSE(outcome.done()) << "a completion inside Pull";
  return outcome;
}

Outcome& Pair::PullAll(std::vector<Piece> pieces) {
  Outcome& outcome = Start(*client, std::move(pieces));
  Step([&] { return outcome.done(); });
  return outcome;
}

}  // namespace kvasir::testing
