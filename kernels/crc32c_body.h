// SPDX-License-Identifier: Apache-2.0
// The arithmetic of CRC32C over GF(2): polynomials of degree below 32, reflected (the highest bit is x^0), modulo
// P = x^32 + x^28 + ... (Castagnoli). The crc of a text cut in pieces is the sum of the crcs of the pieces, each times
// x to the number of bits after it; so threads may take pieces (Kadatch and Jenkins, "Everything we know about CRC but
// afraid to forget").
#pragma once

#include <cstdint>

#include "kernels/portable.h"

namespace kvasir {

inline constexpr uint32_t kCrc32cPolynomial = 0x82F63B78u;  ///< reflected

/// value * x mod P
KVASIR_HD constexpr uint32_t Crc32cTimesX(uint32_t value) {
  return (value >> 1) ^ ((value & 1) != 0 ? kCrc32cPolynomial : 0);
}

/// Entry of the byte table.
KVASIR_HD constexpr uint32_t Crc32cOfByte(uint32_t byte) {
  for (int bit = 0; bit < 8; ++bit) byte = Crc32cTimesX(byte);
  return byte;
}

/// a * b mod P
KVASIR_HD constexpr uint32_t Crc32cMultiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = 0x80000000u; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = Crc32cTimesX(b);
  }
  return product;
}

/// x^(8 * bytes) mod P
KVASIR_HD constexpr uint32_t Crc32cPower(uint64_t bytes) {
  uint32_t result = 0x80000000u;  // 1
  uint32_t square = 0x00800000u;  // x^8
  for (; bytes != 0; bytes >>= 1) {
    if ((bytes & 1) != 0) result = Crc32cMultiply(result, square);
    square = Crc32cMultiply(square, square);
  }
  return result;
}

}  // namespace kvasir
