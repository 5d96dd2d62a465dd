// SPDX-License-Identifier: Apache-2.0
// Pair: two transports of one backend on one stepped Loop, connected, with an arena on the granting side. No test of
// the contract sleeps: it steps the Loop until something holds, or gives up after a bounded number of turns.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "transport/transport.h"

namespace kvasir::testing {

/// A backend as the tests see it: shm comes twice, with mapped memory and without.
struct Flavour {
  const char* label;
  const char* backend;
  bool with_fd;
};
/// Every backend of this build.
std::vector<Flavour> Flavours();
std::string FlavourLabel(const ::testing::TestParamInfo<Flavour>& info);

/// What became of one pull.
struct Outcome {
  int times = 0;
  PullResult result;
  bool done() const { return times > 0; }
  absl::StatusCode code() const { return result.status.code(); }
};

/// Steps until `holds`, at most `turns` turns of up to a millisecond. Answers whether it holds.
bool StepUntil(Loop& loop, const std::function<bool()>& holds, int turns = 20000);
/// Some turns, for things that must not happen.
void StepSome(Loop& loop, int turns = 50);

/// Memory with a recognisable byte everywhere.
std::vector<std::byte> Pattern(uint64_t bytes, uint64_t salt);

class Pair {
 public:
  static constexpr uint64_t kScope = 77;         // what the acceptor gives the client
  static constexpr uint64_t kClientScope = 88;   // of the client's own grants
  static constexpr const char* kCredentials = "tenant-a";

  explicit Pair(const Flavour& flavour, uint64_t arena_bytes = 4 << 20, const TransportOptions& options = {});
  ~Pair();

  /// Dials the server; empties `client`, `server` first. Null and a status when it fails.
  absl::Status Connect(uint64_t incarnation, const std::string& credentials = kCredentials);

  /// Starts a pull of `pieces` on `connection`; the outcome lives as long as the pair.
  Outcome& Start(Connection& connection, std::vector<Piece> pieces, Instant deadline = Instant::max());
  /// Starts it on the client's connection and steps until it ends.
  Outcome& PullAll(std::vector<Piece> pieces);
  bool Step(const std::function<bool()>& holds) { return StepUntil(loop, holds); }

  /// Time that only goes on, plus what the test adds.
  Duration skipped{};
  Loop loop{[this] { return std::chrono::steady_clock::now() + skipped; }};
  Flavour flavour;
  SharedMemory arena;
  std::unique_ptr<Transport> server_transport;
  std::unique_ptr<Transport> client_transport;
  std::unique_ptr<MemoryRegion> region;  // over the arena, on the server
  std::string address;
  std::unique_ptr<Connection> client;
  std::unique_ptr<Connection> server;

 private:
  std::vector<std::unique_ptr<Outcome>> outcomes_;
};

}  // namespace kvasir::testing
