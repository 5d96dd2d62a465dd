// SPDX-License-Identifier: Apache-2.0
// The exponents of bf16 values as a plane of bytes, and zstd on it: the reference of goal C6.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kvasir::bench {

/// The exponent of every value, one byte each.
std::vector<uint8_t> ExponentPlane(std::span<const std::byte> bf16);

/// Bits a value of the plane by its own order-0 entropy.
double EntropyBits(std::span<const uint8_t> plane);

/// zstd at level 1 over planes, one frame each, on one thread.
class ZstdPlane {
 public:
  ZstdPlane();
  ~ZstdPlane();
  ZstdPlane(const ZstdPlane&) = delete;
  ZstdPlane& operator=(const ZstdPlane&) = delete;
  /// Bytes written. `out` has room for Bound().
  size_t Encode(std::span<const uint8_t> plane, std::span<uint8_t> out);
  void Decode(std::span<const uint8_t> frame, std::span<uint8_t> plane);
  static size_t Bound(size_t bytes);

 private:
  struct Contexts;
  Contexts* contexts_;
};

}  // namespace kvasir::bench
