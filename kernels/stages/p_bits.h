// SPDX-License-Identifier: Apache-2.0
// P:bits. Codes of 8, 4, 3 or 2 bits packed row by row. Each row begins on a byte, the first code in the lowest bits.
//
//   8 bits  one byte a code                4 bits  code 2i in the low nibble of byte i, code 2i+1 in the high one
//   2 bits  code 4i+j at bit 2j of byte i  3 bits  the low two bits of all codes as above, then the high bits, eight a
//   byte
//
// Unused bits of a row's last byte are zero. Bodies for the CPU reference and for CUDA, one byte or code at a time.
#pragma once

#include <cstdint>

#include "kernels/portable.h"

namespace kvasir {

/// Bytes of a row of `count` codes.
KVASIR_HD constexpr uint64_t PackedRowBytes(uint32_t bits, uint64_t count) {
  switch (bits) {
    case 8:
      return count;
    case 4:
      return (count + 1) / 2;
    case 3:
      return (count + 3) / 4 + (count + 7) / 8;
    default:
      return (count + 3) / 4;
  }
}

namespace detail {

/// Byte `index` of a plane that holds `width` bits of each code, from bit `shift` of the code on.
KVASIR_HD inline uint8_t PlaneByte(const uint8_t* codes, uint32_t count, uint32_t width, uint32_t shift,
                                   uint32_t index) {
  const uint32_t per_byte = 8 / width;
  const uint32_t mask = (1u << width) - 1;
  uint32_t byte = 0;
  for (uint32_t j = 0; j < per_byte; ++j) {
    const uint32_t i = index * per_byte + j;
    if (i < count) byte |= ((codes[i] >> shift) & mask) << (width * j);
  }
  return static_cast<uint8_t>(byte);
}

KVASIR_HD inline uint32_t PlaneBits(const uint8_t* plane, uint32_t width, uint32_t i) {
  const uint32_t per_byte = 8 / width;
  return (plane[i / per_byte] >> (width * (i % per_byte))) & ((1u << width) - 1);
}

}  // namespace detail

/// Byte `index` of the packed row of `count` codes.
KVASIR_HD inline uint8_t PackedByte(uint32_t bits, const uint8_t* codes, uint32_t count, uint32_t index) {
  if (bits != 3) return detail::PlaneByte(codes, count, bits, 0, index);
  const uint32_t low_bytes = (count + 3) / 4;
  if (index < low_bytes) return detail::PlaneByte(codes, count, 2, 0, index);
  return detail::PlaneByte(codes, count, 1, 2, index - low_bytes);
}

/// Code `i` of a packed row of `count` codes.
KVASIR_HD inline uint8_t UnpackedCode(uint32_t bits, const uint8_t* row, uint32_t count, uint32_t i) {
  if (bits != 3) return static_cast<uint8_t>(detail::PlaneBits(row, bits, i));
  const uint8_t* high = row + (count + 3) / 4;
  return static_cast<uint8_t>(detail::PlaneBits(row, 2, i) | detail::PlaneBits(high, 1, i) << 2);
}

inline void PackRow(uint32_t bits, const uint8_t* codes, uint32_t count, uint8_t* row) {
  const uint64_t bytes = PackedRowBytes(bits, count);
  for (uint32_t i = 0; i < bytes; ++i) row[i] = PackedByte(bits, codes, count, i);
}

inline void UnpackRow(uint32_t bits, const uint8_t* row, uint32_t count, uint8_t* codes) {
  for (uint32_t i = 0; i < count; ++i) codes[i] = UnpackedCode(bits, row, count, i);
}

}  // namespace kvasir
