// SPDX-License-Identifier: Apache-2.0
// R:sink and R:win. The first and the last tokens of a chain are kept in any case, and exactly (attention sinks:
// StreamingLLM, arXiv 2309.17453; recent window: KIVI, arXiv 2402.02750). The end of a chain moves as it grows, so only
// views made after prefill have a window; a sealed block of an ordinary view has none, its window is with the engine.
#pragma once

#include "kernels/stages/stage.h"

namespace kvasir {

struct SinkTokens {
  struct Args {
    uint32_t tokens = 4;
  };
  static constexpr StageRole kRole = StageRole::kExempt;
  static constexpr StageInfo kInfo = {
      "R", "sink", "sink[(tokens)]", "The first tokens of the chain are kept exactly (StreamingLLM, arXiv 2309.17453)"};
  static constexpr uint32_t kTokensMax = 65536;
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> tokens = in.Number(0, 4, 1, kTokensMax, "tokens");
    if (!tokens.ok()) return tokens.error();
    return Args{*tokens};
  }
  static std::string Print(const Args& a) { return std::to_string(a.tokens); }
};

struct WindowTokens {
  struct Args {
    uint32_t tokens = 32;
  };
  static constexpr StageRole kRole = StageRole::kExempt;
  static constexpr StageInfo kInfo = {
      "R", "win", "win[(tokens)]",
      "The last tokens of the chain are kept exactly; without E they are the engine's tail (KIVI, arXiv 2402.02750)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(0, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> tokens = in.Number(0, 32, 1, SinkTokens::kTokensMax, "tokens");
    if (!tokens.ok()) return tokens.error();
    return Args{*tokens};
  }
  static std::string Print(const Args& a) { return std::to_string(a.tokens); }
};

}  // namespace kvasir
