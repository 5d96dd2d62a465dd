// SPDX-License-Identifier: Apache-2.0
// A frame's coder to its launchers.
#include "kernels/cuda/launch.h"
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
    case DeviceCoder::Kind::kSplitAns:
      return LaunchSplitAnsEncode(shape, batch, state, stream);
    case DeviceCoder::Kind::kRaw:
      return LaunchRawLengths(batch, static_cast<uint32_t>(shape.bytes()), state, stream);
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
    case DeviceCoder::Kind::kSplitAns:
      return LaunchSplitAnsDecode(shape, batch, state, stream);
    case DeviceCoder::Kind::kRaw:
      return;
    case DeviceCoder::Kind::kNone:
      KERNELS_CHECK(false);
  }
}

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
