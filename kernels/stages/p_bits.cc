// SPDX-License-Identifier: Apache-2.0
// P:bits as a stage: it has no arguments, the quantiser before it knows the bits.
#include "kernels/stages/p_bits.h"

namespace kvasir {

Result<BitsStage::Args> BitsStage::Read(const StageArguments& in) {
  if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
  return Args{};
}

}  // namespace kvasir
