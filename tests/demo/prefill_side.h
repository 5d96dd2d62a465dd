// SPDX-License-Identifier: Apache-2.0
// PrefillSide: what an engine that computes prompts does with a store: push each layer of each block as soon as it is
// written, while the next layers compute.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/session.h"
#include "tests/demo/text_engine.h"

namespace kvasir::demo {

/// Where the store is, and for whom. Both sides of the demo say the same.
struct StoreAddress {
  std::vector<std::string> nodes;
  std::vector<std::string> transports;
};
/// Options that all Sessions of the demo share.
SessionOptions DemoSession(const StoreAddress& store, TextEngine& engine);

struct PushOptions {
  std::string view = "splitexp";
  uint32_t replicas = 1;
  bool durable = false;
};
/// What became of the pushes of one sequence.
struct PushSummary {
  absl::Status status;               ///< the first failure
  uint32_t blocks = 0;
  uint32_t replicas = 0;             ///< that hold all of it
  uint64_t parts_existed = 0;
  uint64_t raw_bytes = 0, stored_bytes = 0;
  Instant computed, acknowledged;    ///< the last layer was computed; the last part was acknowledged
};

/// One TP1 engine. One thread; the Sessions' callbacks are its own business.
class PrefillSide {
 public:
  PrefillSide(TextEngine& engine, StoreAddress store) : engine_(engine), store_(std::move(store)) {}

  /// Opens the Session that pushes of these options take.
  absl::StatusOr<Session*> SessionFor(const PushOptions& options);
  /// Computes the tokens and pushes their whole blocks.
  absl::StatusOr<PushSummary> Prefill(std::span<const uint32_t> tokens, const PushOptions& options);
  /// Pushes the blocks that are in the pages once more, in another view.
  absl::StatusOr<PushSummary> PushAgain(std::span<const uint32_t> tokens, const PushOptions& options);

 private:
  TextEngine& engine_;
  StoreAddress store_;
  std::map<std::pair<uint32_t, bool>, std::unique_ptr<Session>> sessions_;  ///< by (replicas, durable)
};

}  // namespace kvasir::demo
