// SPDX-License-Identifier: Apache-2.0
// P:bits as a stage: it has no arguments; the quantiser before it knows the bits and calls the bodies of p_bits.h.
#include "kernels/stages/p_bits.h"

#include "kernels/stages/stage.h"

namespace kvasir {

Result<StageInstance> MakeBits(std::span<const SpecArgument> arguments, uint32_t) {
  if (Result<bool> none = NoArguments("bits", arguments); !none.ok()) return none.error();
  return StageInstance{"", nullptr};
}

}  // namespace kvasir
