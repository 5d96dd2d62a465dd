// SPDX-License-Identifier: Apache-2.0
// P:raw. The frame is the elements, little endian, as they lie in [heads][tokens][dim].
#pragma once

#include "kernels/frame_coder.h"
#include "kernels/stages/stage.h"

namespace kvasir {

struct RawStage {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kCoder;
  static constexpr StageInfo kInfo = {"P", "raw", "raw", "The elements as they are"};
  static Result<Args> Read(const StageArguments& in);
  static std::string Print(const Args&) { return ""; }
  static std::shared_ptr<const FrameCoder> Coder(const Args&);
};

}  // namespace kvasir
