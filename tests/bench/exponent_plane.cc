// SPDX-License-Identifier: Apache-2.0
// Takes exponents out of bf16, and calls zstd.
#include "tests/bench/exponent_plane.h"

#include <zstd.h>

#include <cmath>
#include <cstdlib>

namespace kvasir::bench {

struct ZstdPlane::Contexts {
  ZSTD_CCtx* encode = ZSTD_createCCtx();
  ZSTD_DCtx* decode = ZSTD_createDCtx();
};

ZstdPlane::ZstdPlane() : contexts_(new Contexts) {}
ZstdPlane::~ZstdPlane() {
  ZSTD_freeCCtx(contexts_->encode);
  ZSTD_freeDCtx(contexts_->decode);
  delete contexts_;
}

size_t ZstdPlane::Bound(size_t bytes) { return ZSTD_compressBound(bytes); }

size_t ZstdPlane::Encode(std::span<const uint8_t> plane, std::span<uint8_t> out) {
  const size_t bytes = ZSTD_compressCCtx(contexts_->encode, out.data(), out.size(), plane.data(), plane.size(), 1);
  if (ZSTD_isError(bytes) != 0) std::abort();
  return bytes;
}

void ZstdPlane::Decode(std::span<const uint8_t> frame, std::span<uint8_t> plane) {
  const size_t bytes = ZSTD_decompressDCtx(contexts_->decode, plane.data(), plane.size(), frame.data(), frame.size());
  if (bytes != plane.size()) std::abort();
}

std::vector<uint8_t> ExponentPlane(std::span<const std::byte> bf16) {
  std::vector<uint8_t> plane(bf16.size() / 2);
  for (size_t i = 0; i < plane.size(); ++i) {
    const auto low = std::to_integer<uint32_t>(bf16[2 * i]), high = std::to_integer<uint32_t>(bf16[2 * i + 1]);
    plane[i] = static_cast<uint8_t>((high << 8 | low) >> 7);
  }
  return plane;
}

double EntropyBits(std::span<const uint8_t> plane) {
  uint64_t counts[256] = {};
  for (const uint8_t e : plane) ++counts[e];
  double bits = 0;
  const auto all = static_cast<double>(plane.size());
  for (const uint64_t count : counts) {
    if (count > 0) bits -= static_cast<double>(count) / all * std::log2(static_cast<double>(count) / all);
  }
  return bits;
}

}  // namespace kvasir::bench
