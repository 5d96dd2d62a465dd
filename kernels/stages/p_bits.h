// SPDX-License-Identifier: Apache-2.0
// P:bits. Codes of 1 to 8 bits packed row by row. Each row begins on a byte, the first code in the lowest bits.
//
//   8 bits  one byte a code                4 bits  code 2i in the low nibble of byte i, code 2i+1 in the high one
//   2 bits  code 4i+j at bit 2j of byte i  1 bit   code 8i+j at bit j of byte i
//   other widths are the sum of 4, 2 and 1 that they are: first the lowest bits of all codes in the widest of these,
//   then the next bits in the next: 3 bits = the low two bits of all codes, then the high bits, eight a byte
//
// Unused bits of a row's last byte are zero. Bodies for the CPU reference and for CUDA, one byte or code at a time.
#pragma once

#include <cstdint>

#include "kernels/portable.h"
#include "kernels/stages/stage.h"

namespace kvasir {

/// Bytes of a row of `count` codes.
KVASIR_HD constexpr uint64_t PackedRowBytes(uint32_t bits, uint64_t count) {
  if (bits == 8) return count;
  uint64_t bytes = 0;
  for (uint32_t width = 4; width > 0; width /= 2) {
    if ((bits & width) != 0) bytes += (count * width + 7) / 8;
  }
  return bytes;
}

namespace detail {

/// Byte `index` of a plane that holds `width` bits of each code, from bit `shift` of the code on.
template <class Codes>
KVASIR_HD inline uint8_t PlaneByte(const Codes& codes, uint32_t count, uint32_t width, uint32_t shift, uint32_t index) {
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

/// Byte `index` of the packed row of `count` codes, each cut down to the `bits` bits from bit `shift` on. `codes[i]` is
/// code i: memory, or what makes a code when asked.
template <class Codes>
KVASIR_HD inline uint8_t PackedByte(uint32_t bits, const Codes& codes, uint32_t count, uint32_t index,
                                    uint32_t shift = 0) {
  if (bits == 8) return codes[index];
  for (uint32_t width = 4; width > 0; width /= 2) {
    if ((bits & width) == 0) continue;
    const uint32_t bytes = static_cast<uint32_t>((uint64_t{count} * width + 7) / 8);
    if (index < bytes) return detail::PlaneByte(codes, count, width, shift, index);
    index -= bytes;
    shift += width;
  }
  return 0;
}

/// Code `i` of a packed row of `count` codes.
KVASIR_HD inline uint8_t UnpackedCode(uint32_t bits, const uint8_t* row, uint32_t count, uint32_t i) {
  if (bits == 8) return row[i];
  uint32_t code = 0, shift = 0;
  for (uint32_t width = 4; width > 0; width /= 2) {
    if ((bits & width) == 0) continue;
    code |= detail::PlaneBits(row, width, i) << shift;
    row += (uint64_t{count} * width + 7) / 8;
    shift += width;
  }
  return static_cast<uint8_t>(code);
}

inline void PackRow(uint32_t bits, const uint8_t* codes, uint32_t count, uint8_t* row) {
  const uint64_t bytes = PackedRowBytes(bits, count);
  for (uint32_t i = 0; i < bytes; ++i) row[i] = PackedByte(bits, codes, count, i);
}

inline void UnpackRow(uint32_t bits, const uint8_t* row, uint32_t count, uint8_t* codes) {
  for (uint32_t i = 0; i < count; ++i) codes[i] = UnpackedCode(bits, row, count, i);
}

/// The stage: implied after a quantiser that has no other packer.
struct BitsStage {
  struct Args {};
  static constexpr StageRole kRole = StageRole::kPacker;
  static constexpr StageInfo kInfo = {"P", "bits", "bits",
                                      "Codes packed without gaps, rows on bytes; implied after a quantiser"};
  static Result<Args> Read(const StageArguments& in);
  static std::string Print(const Args&) { return ""; }
  static Result<bool> Check(const Args&, const FrameShape&) { return true; }

  KVASIR_HD static uint64_t MaxBytes(const Args&, const CodeWidth& width, const FrameShape& shape) {
    return uint64_t{shape.heads} * shape.tokens * PackedRowBytes(width.bits, shape.dim);
  }
  static constexpr uint32_t kRowsAtOnce = 128;  ///< whose bytes one item sums
  KVASIR_HD static uint64_t SpareFloats(const Args&, const FrameShape& shape) {
    const uint64_t rows = uint64_t{shape.heads} * shape.tokens;
    return rows + 1 + (rows + kRowsAtOnce - 1) / kRowsAtOnce;
  }
  /// Where each row begins, and behind the last where it ends, into frame.spare; for rows that differ. Rows wider than
  /// width.bits are faults and count as empty.
  template <class Run>
  static const uint32_t* RowStarts(Run& run, const CodeWidth& width, const ChainFrame& frame) {
    uint32_t* starts = reinterpret_cast<uint32_t*>(frame.spare);
    const uint64_t rows = frame.rows();
    const uint32_t dim = frame.shape.dim;
    ChainOutcome* outcome = frame.outcome;
    const uint64_t sums = (rows + kRowsAtOnce - 1) / kRowsAtOnce;
    uint32_t* before = starts + rows + 1;  // of each kRowsAtOnce rows: their bytes, then the bytes before them
    const auto bytes_of = [=] KVASIR_HD(uint64_t row) {
      const uint32_t bits = width.row_bits[row];
      return bits > width.bits ? 0 : static_cast<uint32_t>(PackedRowBytes(bits, dim));
    };
    run(sums, [=] KVASIR_HD(uint64_t i) {
      uint32_t bytes = 0;
      for (uint64_t row = i * kRowsAtOnce; row < rows && row < (i + 1) * kRowsAtOnce; ++row) {
        if (width.row_bits[row] > width.bits) SetFault(outcome);
        bytes += bytes_of(row);
      }
      before[i] = bytes;
    });
    run(1, [=] KVASIR_HD(uint64_t) {
      uint32_t at = 0;
      for (uint64_t i = 0; i < sums; ++i) {
        const uint32_t bytes = before[i];
        before[i] = at;
        at += bytes;
      }
      starts[rows] = at;
    });
    run(sums, [=] KVASIR_HD(uint64_t i) {
      uint32_t at = before[i];
      for (uint64_t row = i * kRowsAtOnce; row < rows && row < (i + 1) * kRowsAtOnce; ++row) {
        starts[row] = at;
        at += bytes_of(row);
      }
    });
    return starts;
  }
  template <class Run>
  static void Pack(Run& run, const Args&, const CodeWidth& width, const ChainFrame& frame, const uint8_t* codes,
                   uint8_t* out) {
    const uint32_t dim = frame.shape.dim;
    const uint64_t rows = frame.rows();
    ChainOutcome* outcome = frame.outcome;
    if (width.row_bits == nullptr) {
      const uint32_t bits = width.bits, row_bytes = static_cast<uint32_t>(PackedRowBytes(bits, dim));
      RunCells(run, rows, row_bytes, [=] KVASIR_HD(uint64_t row, uint32_t i) {
        out[row * row_bytes + i] = PackedByte(bits, codes + row * dim, dim, i);
        if (row + i == 0) outcome->packed_bytes = static_cast<uint32_t>(rows * row_bytes);
      });
      return;
    }
    const uint32_t* starts = RowStarts(run, width, frame);
    run(rows, [=] KVASIR_HD(uint64_t row) {
      const uint32_t bits = width.row_bits[row];
      const uint32_t bytes = starts[row + 1] - starts[row];
      for (uint32_t i = 0; i < bytes; ++i) out[starts[row] + i] = PackedByte(bits, codes + row * dim, dim, i);
      if (row == 0) outcome->packed_bytes = starts[rows];
    });
  }
  template <class Run>
  static void Unpack(Run& run, const Args&, const CodeWidth& width, const ChainFrame& frame, const uint8_t* in,
                     uint32_t bytes, uint8_t* codes) {
    const uint32_t dim = frame.shape.dim;
    const uint64_t rows = frame.rows();
    ChainOutcome* outcome = frame.outcome;
    if (width.row_bits == nullptr) {
      const uint32_t bits = width.bits, row_bytes = static_cast<uint32_t>(PackedRowBytes(bits, dim));
      const bool right = rows * row_bytes == bytes;
      RunCells(run, rows, dim, [=] KVASIR_HD(uint64_t row, uint32_t i) {
        if (!right) SetFault(outcome);
        codes[row * dim + i] = right ? UnpackedCode(bits, in + row * row_bytes, dim, i) : uint8_t{0};
      });
      return;
    }
    const uint32_t* starts = RowStarts(run, width, frame);
    run(rows, [=] KVASIR_HD(uint64_t row) {
      const bool right = starts[rows] == bytes;
      if (!right) SetFault(outcome);
      const uint32_t bits = width.row_bits[row];
      const bool there = right && starts[row + 1] > starts[row];
      for (uint32_t i = 0; i < dim; ++i) {
        codes[row * dim + i] = there ? UnpackedCode(bits, in + starts[row], dim, i) : uint8_t{0};
      }
    });
  }
};

}  // namespace kvasir
