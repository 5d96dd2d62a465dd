// SPDX-License-Identifier: Apache-2.0
// X:ext. Every head is an extent of its own, with a length of its own: parts of one head, which a rank or an offloading
// engine fetches alone (HeadInfer, arXiv 2502.12574). Implied where tokens are dropped.
#pragma once

#include "kernels/stages/stage.h"

namespace kvasir {

struct ExtentStage {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kExtent;
  static constexpr StageInfo kInfo = {"X", "ext", "ext(head)",
                                      "Every head is an extent of its own (HeadInfer, arXiv 2502.12574)"};
  static Result<Args> Read(const StageArguments& in) {
    if (Result<bool> counted = in.Count(1, 1); !counted.ok()) return counted.error();
    const Result<uint32_t> what = in.Word(0, 0, {{"head"}}, "extent");
    if (!what.ok()) return what.error();
    return Args{};
  }
  static std::string Print(const Args&) { return "head"; }
};

}  // namespace kvasir
