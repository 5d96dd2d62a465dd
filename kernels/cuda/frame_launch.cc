// SPDX-License-Identifier: Apache-2.0
// A frame's coder to its launchers.
#include "kernels/cuda/launch.h"
#include "kernels/portable.h"

namespace kvasir::cuda {

void LaunchEncode(const DeviceCoder& coder, const FrameShape& shape, const FrameInputs& inputs,
                  const FrameScratch& scratch, JobState* state, CudaStream stream) {
  switch (coder.kind) {
    case DeviceCoder::Kind::kInt:
      return LaunchIntEncode(LayOutIntFrame(*coder.integer, shape), scratch, state, stream);
    case DeviceCoder::Kind::kChain:
      return LaunchChainEncode(*coder.chain, shape, inputs, scratch, state, stream);
    case DeviceCoder::Kind::kSplitExp:
      return LaunchSplitEncode(shape, scratch, state, stream);
    case DeviceCoder::Kind::kRaw:
      return LaunchRawLength(static_cast<uint32_t>(shape.bytes()), state, stream);
    case DeviceCoder::Kind::kNone:
      KERNELS_CHECK(false);
  }
}

bool LaunchDecode(const DeviceCoder& coder, const FrameShape& shape, uint32_t length, const FrameScratch& scratch,
                  uint32_t index, JobState* state, CudaStream stream) {
  switch (coder.kind) {
    case DeviceCoder::Kind::kInt: {
      const IntFrame f = LayOutIntFrame(*coder.integer, shape);
      if (length != f.frame_bytes) return false;
      LaunchIntDecode(f, scratch, index, state, stream);
      return true;
    }
    case DeviceCoder::Kind::kChain:
      if (length < LayOutChain(*coder.chain, shape).packed_at) return false;
      LaunchChainDecode(*coder.chain, shape, length, scratch, index, state, stream);
      return true;
    case DeviceCoder::Kind::kSplitExp:
      LaunchSplitDecode(shape, length, scratch, index, state, stream);
      return true;
    case DeviceCoder::Kind::kRaw:
      return length == shape.bytes();
    case DeviceCoder::Kind::kNone:
      KERNELS_CHECK(false);
  }
  return false;
}

}  // namespace kvasir::cuda
