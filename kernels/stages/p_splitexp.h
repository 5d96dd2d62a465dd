// SPDX-License-Identifier: Apache-2.0
// P:splitexp. Lossless bf16 and fp16: sign and mantissa as they are, the exponent as a short code in a window below a
// top chosen from the data (after SplitZip, arXiv 2605.01708). Self-contained; about 12 of 16 bits on bf16, 14 on fp16.
//
// A frame is cut into chunks of 1,024 values (the last may be shorter):
//   entries[chunks] of 4 bytes | fixed parts, chunk after chunk | tails, chunk after chunk
//   entry   u8 top, u8 mode, u16 escapes
//   mode 0  code c of exponent e: c = min(max(top - e, 0), L), read back as 0 when c = L, else max(top - c, 0), where L
//   = 15
//           (bf16) or 7 (fp16). Values read back wrong are escapes; tail: {u16 position, u8 exponent} each, ascending
//   mode 1  stored: c = low bits of e; tail: the high bits of all e, packed (4 a value for bf16, 2 for fp16)
//   fixed   bf16: bytes {sign, mantissa}, then 4-bit codes
//           fp16: bytes {low mantissa}, then nibbles {sign, mantissa 9..8, code bit 0}, then 2 bits {code bits 2..1}
// packed as in p_bits.h. The top is the greatest exponent where at most kSplitFewEscapes values then escape; else the
// top with the fewest escapes, the higher of equals; stored when the escapes would be as long as the stored tail.
#pragma once

#include <cstdint>

#include "kernels/frame_coder.h"
#include "kernels/kv_layout.h"
#include "kernels/portable.h"
#include "kernels/stages/p_bits.h"

namespace kvasir {

inline constexpr uint32_t kSplitChunk = 1024;  ///< values
inline constexpr uint32_t kSplitEntryBytes = 4;
inline constexpr uint32_t kSplitEscapeBytes = 3;
inline constexpr uint32_t kSplitFewEscapes = 16;  ///< more of them and the histogram is asked

/// One entry, unpacked.
struct SplitChunk {
  uint8_t top = 0;
  uint8_t mode = 0;      ///< 0 = window, 1 = stored
  uint16_t escapes = 0;  ///< 0 when stored
};

/// What differs between bf16 and fp16.
struct SplitFormat {
  bool half = false;  ///< fp16, else bf16
  uint32_t code_bits = 4;
  uint32_t exponent_max = 255;
  KVASIR_HD uint32_t last() const { return (1u << code_bits) - 1; }  ///< L
  KVASIR_HD uint32_t tail_bits() const { return half ? 2 : 4; }      ///< a stored exponent's high bits
  KVASIR_HD uint32_t fixed_bytes(uint32_t count) const {
    return count + (count + 1) / 2 + (half ? (count + 3) / 4 : 0);
  }
  KVASIR_HD uint32_t stored_tail_bytes(uint32_t count) const {
    return static_cast<uint32_t>(PackedRowBytes(tail_bits(), count));
  }
  KVASIR_HD uint32_t tail_bytes(const SplitChunk& chunk, uint32_t count) const {
    return chunk.mode == 1 ? stored_tail_bytes(count) : kSplitEscapeBytes * chunk.escapes;
  }
};

KVASIR_HD inline SplitFormat SplitFormatOf(ElementType type) {
  SplitFormat f;
  if (type == ElementType::kFloat16) f = {true, 3, 31};
  return f;
}

KVASIR_HD inline uint32_t SplitExponent(const SplitFormat& f, uint32_t x) {
  return f.half ? (x >> 10) & 0x1F : (x >> 7) & 0xFF;
}

KVASIR_HD inline uint32_t WindowCode(const SplitFormat& f, uint32_t top, uint32_t exponent) {
  const uint32_t below = top > exponent ? top - exponent : 0;
  return below < f.last() ? below : f.last();
}

KVASIR_HD inline uint32_t WindowExponent(const SplitFormat& f, uint32_t top, uint32_t code) {
  return code == f.last() || code > top ? 0 : top - code;
}

/// The byte and the nibble planes of one value; `pair` is fp16's third plane.
struct SplitPieces {
  uint8_t byte = 0;
  uint8_t nibble = 0;
  uint8_t pair = 0;
};

KVASIR_HD inline SplitPieces SplitValue(const SplitFormat& f, uint32_t x, uint32_t code) {
  SplitPieces p;
  if (f.half) {
    p.byte = static_cast<uint8_t>(x);
    p.nibble = static_cast<uint8_t>((x >> 15) << 3 | ((x >> 8) & 3) << 1 | (code & 1));
    p.pair = static_cast<uint8_t>(code >> 1);
  } else {
    p.byte = static_cast<uint8_t>(((x >> 8) & 0x80) | (x & 0x7F));
    p.nibble = static_cast<uint8_t>(code);
  }
  return p;
}

KVASIR_HD inline uint32_t SplitCode(const SplitFormat& f, const SplitPieces& p) {
  return f.half ? static_cast<uint32_t>(p.pair << 1 | (p.nibble & 1)) : p.nibble;
}

KVASIR_HD inline uint16_t JoinValue(const SplitFormat& f, const SplitPieces& p, uint32_t exponent) {
  if (f.half) {
    return static_cast<uint16_t>((p.nibble >> 3) << 15 | exponent << 10 | ((p.nibble >> 1) & 3) << 8 | p.byte);
  }
  return static_cast<uint16_t>((p.byte & 0x80) << 8 | exponent << 7 | (p.byte & 0x7F));
}

/// The pieces of value `i` of a chunk's fixed part.
KVASIR_HD inline SplitPieces LoadPieces(const SplitFormat& f, const uint8_t* fixed, uint32_t count, uint32_t i) {
  SplitPieces p;
  const uint8_t* nibbles = fixed + count;
  p.byte = fixed[i];
  p.nibble = UnpackedCode(4, nibbles, count, i);
  if (f.half) p.pair = UnpackedCode(2, nibbles + (count + 1) / 2, count, i);
  return p;
}

/// Value `i` of a chunk before escapes are put in. `tail` is read when the chunk is stored.
KVASIR_HD inline uint16_t SplitElement(const SplitFormat& f, const SplitChunk& chunk, const uint8_t* fixed,
                                       const uint8_t* tail, uint32_t count, uint32_t i) {
  const SplitPieces p = LoadPieces(f, fixed, count, i);
  const uint32_t code = SplitCode(f, p);
  const uint32_t exponent = chunk.mode == 0 ? WindowExponent(f, chunk.top, code)
                                            : code | static_cast<uint32_t>(UnpackedCode(f.tail_bits(), tail, count, i))
                                                         << f.code_bits;
  return JoinValue(f, p, exponent);
}

/// Replaces the exponent of a value.
KVASIR_HD inline uint16_t WithExponent(const SplitFormat& f, uint16_t x, uint32_t exponent) {
  return f.half ? static_cast<uint16_t>((x & 0x83FF) | exponent << 10)
                : static_cast<uint16_t>((x & 0x807F) | exponent << 7);
}

/// The entry for a chunk whose exponents have this histogram of f.exponent_max + 1 counts.
KVASIR_HD inline SplitChunk ChooseSplit(const SplitFormat& f, const uint32_t* histogram, uint32_t count) {
  SplitChunk best;
  uint32_t greatest = f.exponent_max;
  while (greatest > 0 && histogram[greatest] == 0) --greatest;
  uint32_t fewest = count + 1;
  for (uint32_t top = greatest;; --top) {
    uint32_t kept = 0;
    for (uint32_t d = 0; d < f.last() && d <= top; ++d) kept += histogram[top - d];
    if (top >= f.last()) kept += histogram[0];
    if (count - kept < fewest) {
      fewest = count - kept;
      best.top = static_cast<uint8_t>(top);
    }
    if ((top == greatest && fewest <= kSplitFewEscapes) || top == 0) break;
  }
  best.escapes = static_cast<uint16_t>(fewest);
  if (kSplitEscapeBytes * fewest >= f.stored_tail_bytes(count)) best = {0, 1, 0};
  return best;
}

KVASIR_HD inline uint32_t SplitChunks(uint64_t elements) {
  return static_cast<uint32_t>((elements + kSplitChunk - 1) / kSplitChunk);
}

/// Reference of one chunk: chooses, writes the fixed part and the tail (room for stored_tail_bytes), returns the entry.
SplitChunk EncodeSplitChunkReference(const SplitFormat& f, const uint8_t* in, uint32_t count, uint8_t* fixed,
                                     uint8_t* tail);
/// REQUIRES: the escapes lie in the chunk.
void DecodeSplitChunkReference(const SplitFormat& f, const SplitChunk& chunk, const uint8_t* fixed, const uint8_t* tail,
                               uint32_t count, uint8_t* out);

struct SplitExpStage {
  struct Args {
    uint32_t ans = 0;  ///< 1: the exponents by rANS, p_splitans.h
  };
  static constexpr StageRole kRole = StageRole::kCoder;
  static constexpr StageInfo kInfo = {
      "P", "splitexp", "splitexp[(ans)]",
      "Lossless for bf16 and fp16: sign and mantissa as they are, the exponent as a short code in a window chosen from "
      "the data (SplitZip, arXiv 2605.01708); ans: exponents by rANS (arXiv 1311.2540), smaller and slower"};
  static Result<Args> Read(const StageArguments& in);
  static std::string Print(const Args& a) { return a.ans != 0 ? "ans" : ""; }
  static std::shared_ptr<const FrameCoder> Coder(const Args&);
};

}  // namespace kvasir
