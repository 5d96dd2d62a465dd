// SPDX-License-Identifier: Apache-2.0
// The arguments of R:out, and the frames it takes.
#include "kernels/stages/r_out.h"

namespace kvasir {

Result<OutStage::Args> OutStage::Read(const StageArguments& in) {
  if (Result<bool> counted = in.Count(2, 2); !counted.ok()) return counted.error();
  const Result<uint32_t> share = in.Share(0, 0, "share of values, both sides together");
  if (!share.ok()) return share.error();
  if (*share == 0 || *share > 500000) return in.Refuse(0, "share of values, more than 0 and at most 0.5");
  const Result<uint32_t> axis = in.Word(1, 0, {{"tok", "chan"}}, "axis");
  if (!axis.ok()) return axis.error();
  return Args{*share, *axis};
}

Result<bool> OutStage::Check(const Args& a, const FrameShape& shape) {
  const uint32_t length = Length(a, shape), side = Side(a, shape);
  if (side <= kSideMax) return true;
  return Error{ErrorCode::kInvalidArgument, "R:out(" + Print(a) + ") keeps " + std::to_string(side) +
                                                " values on each side of vectors of " + std::to_string(length) +
                                                ", at most " + std::to_string(kSideMax) +
                                                " can be kept: lower the share, or take smaller blocks"};
}

}  // namespace kvasir
