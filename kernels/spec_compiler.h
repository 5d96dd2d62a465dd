// SPDX-License-Identifier: Apache-2.0
// The compiler of codec specs: from stages as written to the coders of the two tensors and the selection.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "kernels/frame_coder.h"
#include "kernels/result.h"
#include "kernels/selection.h"

namespace kvasir {

struct CompiledSpec {
  std::string canonical;
  std::shared_ptr<const FrameCoder> key, value;  ///< one coder may serve both
  SelectionSpec selection;
  std::vector<StageUse> stages;
};

/// kInvalidArgument names the position, what was met and what may stand there.
Result<CompiledSpec> CompileSpec(std::string_view spec);

}  // namespace kvasir
