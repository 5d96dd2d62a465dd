// SPDX-License-Identifier: Apache-2.0
// The coder of P:raw.
#include "kernels/stages/p_raw.h"

#include "kernels/simd/bodies.h"

namespace kvasir {
namespace {

class RawCoder final : public FrameCoder {
 public:
  bool lossless() const override { return true; }
  DeviceCoder device_coder() const override { return {DeviceCoder::Kind::kRaw}; }
  Result<bool> Check(const FrameShape&) const override { return true; }
  uint64_t MaxFrameBytes(const FrameShape& shape) const override { return shape.bytes(); }

  uint64_t Encode(const FrameShape& shape, const uint8_t* dense, uint8_t* out, std::vector<std::byte>&,
                  Destination destination, const FrameInputs&) const override {
    simd::Copy(dense, out, shape.bytes(), destination);
    simd::Fence();
    return shape.bytes();
  }

  Result<bool> Decode(const FrameShape& shape, std::span<const uint8_t> frame, uint8_t* dense, std::vector<std::byte>&,
                      Destination destination) const override {
    if (frame.size() != shape.bytes()) {
      return Error{ErrorCode::kDataLoss, "raw frame has " + std::to_string(frame.size()) + " bytes, its shape needs " +
                                             std::to_string(shape.bytes())};
    }
    simd::Copy(frame.data(), dense, frame.size(), destination);
    simd::Fence();
    return true;
  }
};

}  // namespace

Result<RawStage::Args> RawStage::Read(const StageArguments& in) {
  if (Result<bool> none = in.Count(0, 0); !none.ok()) return none.error();
  return Args{};
}

std::shared_ptr<const FrameCoder> RawStage::Coder(const Args&) { return std::make_shared<RawCoder>(); }

}  // namespace kvasir
