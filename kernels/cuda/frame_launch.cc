// SPDX-License-Identifier: Apache-2.0
// A frame's coder to its launchers, and what of a frame the launchers take.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/rows_bodies.h"
#include "kernels/portable.h"
#include "kernels/stages/p_splitans.h"

namespace kvasir::cuda {

void LaunchEncode(const DeviceCoder& coder, const FrameShape& shape, const FrameInputs* inputs, const FrameBatch& batch,
                  JobState* state, CudaStream stream) {
  switch (coder.kind) {
    case DeviceCoder::Kind::kInt:
      return LaunchIntEncode(LayOutIntFrame(*coder.integer, shape), batch, state, stream);
    case DeviceCoder::Kind::kChain:
      return LaunchChainEncode(*coder.chain, shape, inputs, batch, state, stream);
    case DeviceCoder::Kind::kSplitExp:
      return LaunchSplitEncode(shape, batch, state, stream);
    case DeviceCoder::Kind::kRows:
      return LaunchRowsEncode(*coder.rows, shape, inputs, batch, state, stream);
    case DeviceCoder::Kind::kSplitAns:
      return LaunchSplitAnsEncode(shape, batch, state, stream);
    case DeviceCoder::Kind::kRaw:
      return LaunchRawLengths(batch, static_cast<uint32_t>(shape.bytes()), state, stream);
    case DeviceCoder::Kind::kRowsOfStages:  // rows_job.cc
    case DeviceCoder::Kind::kNone:
      KERNELS_CHECK(false);
  }
}

void LaunchDecode(const DeviceCoder& coder, const FrameShape& shape, const FrameBatch& batch, JobState* state,
                  CudaStream stream) {
  switch (coder.kind) {
    case DeviceCoder::Kind::kInt:
      return LaunchIntDecode(LayOutIntFrame(*coder.integer, shape), batch, state, stream);
    case DeviceCoder::Kind::kChain:
      return LaunchChainDecode(*coder.chain, shape, batch, state, stream);
    case DeviceCoder::Kind::kSplitExp:
      return LaunchSplitDecode(shape, batch, state, stream);
    case DeviceCoder::Kind::kRows:
      return LaunchRowsDecode(*coder.rows, shape, false, batch, state, stream);
    case DeviceCoder::Kind::kSplitAns:
      return LaunchSplitAnsDecode(shape, batch, state, stream);
    case DeviceCoder::Kind::kRaw:
      return;
    case DeviceCoder::Kind::kRowsOfStages:  // rows_job.cc
    case DeviceCoder::Kind::kNone:
      KERNELS_CHECK(false);
  }
}

bool ChainFits(const ChainPlan& plan, const FrameShape& shape) {
  return shape.elements() <= kChainElementsMax && LayOutChain(plan, shape).spare_floats <= kChainElementsMax;
}

bool RowsFit(const FrameShape& shape) { return 5 * RowsRoom::Bytes(shape) <= 7 * shape.bytes() + 5 * 512; }

bool MayBeLength(const DeviceCoder& coder, const FrameShape& shape, uint32_t length) {
  switch (coder.kind) {
    case DeviceCoder::Kind::kInt:
      return length == LayOutIntFrame(*coder.integer, shape).frame_bytes;
    case DeviceCoder::Kind::kChain:
      return length >= LayOutChain(*coder.chain, shape).packed_at;
    case DeviceCoder::Kind::kSplitAns:
      return length > LayOutSplitAns(shape).mode_at();
    case DeviceCoder::Kind::kRaw:
      return length == shape.bytes();
    default:
      return true;
  }
}

}  // namespace kvasir::cuda
