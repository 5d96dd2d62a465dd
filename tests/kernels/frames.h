// SPDX-License-Identifier: Apache-2.0
// What the codec tests share: frames of chosen character, and encode or decode in one call with guarded memory.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "kernels/number_formats.h"
#include "tests/support/seed.h"

namespace kvasir::testing {

inline const ElementType kAllElements[] = {ElementType::kFloat32, ElementType::kFloat16, ElementType::kBfloat16,
                                           ElementType::kFloat8E4M3, ElementType::kFloat8E5M2};

/// The kinds of data a frame may hold.
enum class Fill { kGaussian, kOutlierChannels, kAnyBits, kConstant, kZeros, kTiny, kHuge };
inline const Fill kAllFills[] = {
    Fill::kGaussian, Fill::kOutlierChannels, Fill::kAnyBits, Fill::kConstant, Fill::kZeros, Fill::kTiny, Fill::kHuge};

inline std::vector<std::byte> MakeFrame(const FrameShape& shape, Fill fill, std::mt19937_64& rng) {
  std::vector<std::byte> dense(shape.bytes());
  if (fill == Fill::kAnyBits) {
    for (std::byte& b : dense) b = static_cast<std::byte>(rng());
    return dense;
  }
  std::normal_distribution<float> normal(0.0f, 1.0f);
  const uint32_t element = ElementBytes(shape.element);
  for (uint64_t i = 0; i < shape.elements(); ++i) {
    float x = fill == Fill::kZeros ? (i % 3 == 0 ? -0.0f : 0.0f) : fill == Fill::kConstant ? 1.7f : normal(rng);
    if (fill == Fill::kOutlierChannels && i % shape.dim % 17 == 3) x *= 60.0f;
    if (fill == Fill::kTiny) x *= 1e-6f;
    if (fill == Fill::kHuge) x *= 1e5f;
    StoreElement(shape.element, x, reinterpret_cast<uint8_t*>(dense.data()) + i * element);
  }
  return dense;
}

inline std::shared_ptr<const Codec> MustParse(const std::string& spec) {
  auto codec = Codec::Parse(spec);
  EXPECT_TRUE(codec.ok()) << spec;
  return *codec;
}

/// Exactly MaxFrameBytes of room: one byte more is a fault that the sanitizer sees.
inline std::vector<std::byte> Encoded(const Codec& codec, KvTensor tensor, const FrameShape& shape,
                                      std::span<const std::byte> dense) {
  std::vector<std::byte> out(codec.MaxFrameBytes(tensor, shape)), scratch;
  const uint64_t length = codec.Encode(tensor, shape, dense, out, scratch);
  EXPECT_LE(length, out.size());
  return {out.begin(), out.begin() + static_cast<ptrdiff_t>(length)};
}

inline Result<std::vector<std::byte>> Decoded(const Codec& codec, KvTensor tensor, const FrameShape& shape,
                                              std::span<const std::byte> frame) {
  const std::vector<std::byte> exact(frame.begin(), frame.end());
  std::vector<std::byte> dense(shape.bytes()), scratch;
  const Result<bool> ok = codec.Decode(tensor, shape, exact, dense, scratch);
  if (!ok.ok()) return ok.error();
  return dense;
}

}  // namespace kvasir::testing
