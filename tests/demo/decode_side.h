// SPDX-License-Identifier: Apache-2.0
// DecodeSide: what an engine that generates does with a store. Each tensor-parallel rank has a thread, a Session and
// pages of its own and fetches only its heads; the computation of layer i waits until every rank has it.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "client/session.h"
#include "tests/demo/prefill_side.h"
#include "tests/demo/text_engine.h"

namespace kvasir::demo {

/// What a fetch brought, over all ranks.
struct FetchSummary {
  absl::Status status;                ///< of the rank that got least
  uint32_t blocks = 0;                ///< leading blocks that every rank has
  uint64_t moved_bytes = 0, raw_bytes = 0;
  std::vector<std::string> views;     ///< of the first rank, one per block
};

struct Continuation {
  std::vector<uint32_t> text;
  FetchSummary fetched;
  uint32_t matched_blocks = 0;        ///< what Match had promised
  uint32_t computed_tokens = 0;       ///< of the prompt, here
  uint32_t restarts = 0;              ///< times the computation began again because less came than was found
  Instant begin, first_token, end;
};

/// One thread drives it.
class DecodeSide {
 public:
  /// Opens a Session for each rank of the engine.
  static absl::StatusOr<std::unique_ptr<DecodeSide>> Open(TextEngine& engine, const StoreAddress& store);

  /// Fetches the longest prefix that is stored in an accepted view, computes the rest and `count` tokens more.
  absl::StatusOr<Continuation> Generate(std::span<const uint32_t> prompt, const std::vector<std::string>& accept,
                                        uint32_t count);
  /// Fetches blocks [first_block, first_block + blocks) and nothing else.
  FetchSummary Fetch(std::span<const uint32_t> tokens, uint32_t first_block, uint32_t blocks,
                     const std::vector<std::string>& accept);
  /// Summed over the ranks' Sessions, sorted by name.
  std::vector<std::pair<std::string, uint64_t>> Counters() const;
  Session& session(size_t rank) { return *sessions_[rank]; }

 private:
  explicit DecodeSide(TextEngine& engine) : engine_(engine) {}
  TextEngine& engine_;
  std::vector<std::unique_ptr<Session>> sessions_;
};

}  // namespace kvasir::demo
