// SPDX-License-Identifier: Apache-2.0
// Commands: what an engine process is told, one JSON object a line, and what it answers, one JSON object a line.
//
//   open       role prefill|decode|solo, model DIR, threads; nodes [..], transports [..] unless solo; again = new Sessions
//   prefill    file, offset, bytes, view, replicas, durable: computes and pushes layer by layer       (prefill)
//   push       as prefill, out of the pages as they are, in another view                              (prefill)
//   generate   file, accept [..], tokens: the longest stored prefix, the rest computed, then tokens   (decode, solo)
//   fetch      file, first_block, blocks, accept [..]: brings blocks, computes nothing                (decode)
//   score      file, offset, context, bytes, accept [..]: -ln p of the bytes behind the context       (all)
//   score_short  as score, each byte given only the last `keep` bytes                                 (solo)
//
// Every answer has "ok", and "error" where that is false: the cause and the next step.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "tests/demo/decode_side.h"
#include "tests/demo/prefill_side.h"
#include "tests/demo/text_engine.h"

namespace kvasir::demo {

/// One process's engine. One thread.
class Commands {
 public:
  /// Never throws: a command that is not understood is an answer, too.
  nlohmann::json Run(const nlohmann::json& command);

 private:
  using Json = nlohmann::json;
  absl::StatusOr<Json> Dispatch(const Json& command);
  absl::StatusOr<Json> Open(const Json& command);
  absl::StatusOr<Json> Push(const Json& command, bool compute);
  absl::StatusOr<Json> Generate(const Json& command);
  absl::StatusOr<Json> Fetch(const Json& command);
  absl::StatusOr<Json> Score(const Json& command);
  absl::StatusOr<Json> ScoreShort(const Json& command);

  std::unique_ptr<TextEngine> engine_;  ///< before the sides: they borrow it
  std::unique_ptr<PrefillSide> prefill_;
  std::unique_ptr<DecodeSide> decode_;
};

}  // namespace kvasir::demo
