// SPDX-License-Identifier: Apache-2.0
// The SIMD bodies of a build without Highway: there are none, the references run.
#include <cstring>

#include "kernels/simd/bodies.h"

namespace kvasir::simd {

std::string TargetName() { return "scalar"; }
void Copy(const uint8_t* from, uint8_t* to, uint64_t bytes, Destination) { std::memcpy(to, from, bytes); }
void Fence() {}
bool EncodeIntFrame(const IntFrame&, const uint8_t*, uint8_t*, std::vector<std::byte>&, Destination) { return false; }
bool DecodeIntFrame(const IntFrame&, const uint8_t*, uint8_t*, std::vector<std::byte>&, Destination) { return false; }
bool EncodeRotatedFrame(const HadStage::Args&, const IntFrame&, const uint8_t*, uint8_t*, std::vector<std::byte>&,
                        Destination) {
  return false;
}
bool DecodeRotatedFrame(const HadStage::Args&, const IntFrame&, const uint8_t*, uint8_t*, std::vector<std::byte>&,
                        Destination) {
  return false;
}
bool LoadRows(ElementType, const uint8_t*, uint64_t, float*) { return false; }
bool StoreRows(ElementType, const float*, uint64_t, uint8_t*) { return false; }
bool RotateFloats(const HadStage::Args&, uint32_t, bool, uint32_t, float*) { return false; }
bool QuantiseInt(const IntFrame&, const float*, uint8_t*, uint8_t*) { return false; }
bool DequantiseInt(const IntFrame&, uint32_t, const uint8_t*, const uint8_t*, float*) { return false; }
bool PackRows(uint32_t, const uint8_t*, uint32_t, uint64_t, uint8_t*) { return false; }
bool UnpackRows(uint32_t, const uint8_t*, uint32_t, uint64_t, uint8_t*) { return false; }
bool PackPlanes(uint32_t, uint32_t, const uint8_t*, uint32_t, uint64_t, uint8_t*, uint32_t&) { return false; }
bool UnpackPlanes(uint32_t, uint32_t, const uint8_t*, uint64_t, uint32_t, uint64_t, uint8_t*) { return false; }
bool TakeMeans(const FrameShape&, float*, uint8_t*) { return false; }
bool GiveMeans(const FrameShape&, const uint8_t*, float*) { return false; }
bool Normalise(const FrameShape&, float*, uint8_t*) { return false; }
bool QuantiseLm(uint32_t, const FrameShape&, const float*, uint8_t*, uint8_t*) { return false; }
bool DequantiseLm(uint32_t, const FrameShape&, const uint8_t*, const uint8_t*, float*) { return false; }
bool QuantiseFp8(const Fp8Stage::Args&, const FrameShape&, const float*, uint8_t*, uint8_t*) { return false; }
bool DequantiseFp8(const Fp8Stage::Args&, const FrameShape&, const uint8_t*, const uint8_t*, float*) { return false; }
bool QuantiseNvfp4(const FrameShape&, const float*, uint8_t*, uint8_t*) { return false; }
bool DequantiseNvfp4(const FrameShape&, const uint8_t*, const uint8_t*, float*) { return false; }
bool EncodeSplitChunk(const uint8_t*, uint8_t*, uint8_t*, SplitChunk&, Destination) { return false; }
bool DecodeSplitChunk(const uint8_t*, const uint8_t*, const SplitChunk&, uint8_t*, Destination) { return false; }

}  // namespace kvasir::simd
