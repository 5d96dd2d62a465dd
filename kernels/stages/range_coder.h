// SPDX-License-Identifier: Apache-2.0
// A range coder of 32 bits (Martin 1979; carries as in Schindler's), and models of few bytes for it.
//
//   low, range: the numbers [low, low + range) begin with what was written; a symbol with frequency f of `total`, and c
//   the sum of the frequencies before it, takes r = floor(range / total); low += r c, range = r f; bytes that cannot
//   change any more but by a carry are written while range < 2^24
// All integer work: the same bytes on every device.
#pragma once

#include <cstdint>

#include "kernels/portable.h"

namespace kvasir {

inline constexpr uint32_t kRangeTop = 1u << 24;  ///< range is at least this between two symbols

struct RangeEncoder {
  uint8_t* out = nullptr;
  uint64_t bytes = 0;
  uint32_t low = 0, range = ~0u;

  KVASIR_HD void Carry() {
    for (uint64_t at = bytes; at-- > 0 && ++out[at] == 0;) continue;
  }
  /// REQUIRES: 0 < frequency, first + frequency <= total <= 2^16.
  KVASIR_HD void Put(uint32_t first, uint32_t frequency, uint32_t total) {
    const uint32_t r = range / total;
    const uint32_t before = low;
    low += r * first;
    if (low < before) Carry();
    range = r * frequency;
    while (range < kRangeTop) {
      out[bytes++] = static_cast<uint8_t>(low >> 24);
      low <<= 8;
      range <<= 8;
    }
  }
  /// Writes the fewest bytes that name the range; the decoder reads zeros behind them.
  KVASIR_HD void Finish() {
    for (uint32_t kept = 0; kept <= 4; ++kept) {
      const uint64_t mask = (uint64_t{1} << (32 - 8 * kept)) - 1;
      const uint64_t value = (uint64_t{low} + mask) & ~mask;
      if (value >= uint64_t{low} + range) continue;
      if ((value >> 32) != 0) Carry();
      for (uint32_t b = 0; b < kept; ++b) out[bytes++] = static_cast<uint8_t>(value >> (24 - 8 * b));
      break;
    }
    while (bytes > 0 && out[bytes - 1] == 0) --bytes;
  }
};

struct RangeDecoder {
  const uint8_t* in = nullptr;
  uint64_t bytes = 0, at = 0;  ///< behind its bytes it reads zeros
  uint32_t code = 0, range = ~0u, share = 0;  ///< share: of the range, what one of `total` has

  KVASIR_HD uint32_t Next() { return at < bytes ? in[at++] : 0u; }
  KVASIR_HD void Begin() {
    for (uint32_t b = 0; b < 4; ++b) code = code << 8 | Next();
  }
  /// The sum of frequencies where the next symbol lies: below `total` for whatever bytes.
  KVASIR_HD uint32_t Look(uint32_t total) {
    share = range / total;
    const uint32_t place = code / share;
    return place < total ? place : total - 1;
  }
  /// Of the symbol that Look saw.
  KVASIR_HD void Take(uint32_t first, uint32_t frequency) {
    code -= share * first;
    range = share * frequency;  // 2^8 at least
    const uint32_t bits = (range < kRangeTop ? 8 : 0) + (range < kRangeTop >> 8 ? 8 : 0);
    range <<= bits;
    if (bytes - at >= 4) {  // no branch waits for how many bytes are due
      const uint32_t next = uint32_t{in[at]} << 24 | in[at + 1] << 16 | in[at + 2] << 8 | in[at + 3];
      code = code << bits | static_cast<uint32_t>(uint64_t{next} >> (32 - bits));
      at += bits / 8;
      return;
    }
    for (uint32_t due = bits; due > 0; due -= 8) code = code << 8 | Next();
  }
};

/// How often codes of `bits` bits occur: w(c) = (1 + ((p(c) - mean) / s)^2)^-k with p(c) = c 2^(8 - bits), k = 1, 2, 4
/// or 8, and s in quarter octaves: Student's t, from tails like Cauchy's to nearly normal. Two bytes: mean, and log2(k)
/// 64 + index of s; the second 0 = all codes equally often.
struct RangeModel {
  static constexpr uint32_t kScales = 64;
  static constexpr uint32_t kShare = 1u << 14;  ///< of which the frequencies are parts

  uint32_t sums[257];  ///< sums[c] = frequencies of codes below c
  uint32_t codes = 0;
  KVASIR_HD uint32_t total() const { return sums[codes]; }

  KVASIR_HD static float Scale(uint32_t index) { return static_cast<float>((4 + index % 4) << (index / 4)) * 0.0625f; }
  /// REQUIRES: bits <= 8. False when no encoder writes these bytes; the model is then the uniform one.
  KVASIR_HD bool Make(uint32_t bits, uint8_t mean, uint8_t shape) {
    codes = 1u << bits;
    sums[0] = 0;
    if (shape % kScales == 0) {
      for (uint32_t c = 0; c < codes; ++c) sums[c + 1] = c + 1;
      return shape == 0 && mean == 0;
    }
    // Loops of one operation each: compilers make vectors of them.
    float weights[256];
    const float scale = Scale(shape % kScales);
    for (uint32_t c = 0; c < codes; ++c) {
      const float t = static_cast<float>(static_cast<int32_t>(c << (8 - bits)) - static_cast<int32_t>(mean)) / scale;
      weights[c] = 1.0f + t * t;
    }
    for (uint32_t k = shape / kScales; k > 0; --k) {
      for (uint32_t c = 0; c < codes; ++c) weights[c] *= weights[c];
    }
    for (uint32_t c = 0; c < codes; ++c) weights[c] = 1.0f / weights[c];  // 0 where the square overflows
    float sum = 0;
    for (uint32_t c = 0; c < codes; ++c) sum += weights[c];
    if (sum == 0.0f) sum = 1.0f;
    const float parts = static_cast<float>(kShare - codes);
    for (uint32_t c = 0; c < codes; ++c) {
      const int32_t more = static_cast<int32_t>(weights[c] / sum * parts);
      sums[c + 1] = static_cast<uint32_t>(1 + more);
    }
    for (uint32_t c = 0; c < codes; ++c) sums[c + 1] += sums[c];
    return true;
  }
  /// The code where `place` lies.
  KVASIR_HD uint32_t Find(uint32_t place) const {
    if (codes <= 16) {  // few are counted: no branch waits for what is looked for
      uint32_t code = 0;
      for (uint32_t c = 1; c < codes; ++c) code += sums[c] <= place ? 1 : 0;
      return code;
    }
    uint32_t low = 0, high = codes;
    while (high - low > 1) {
      const uint32_t middle = (low + high) / 2;
      (sums[middle] <= place ? low : high) = middle;
    }
    return low;
  }
};

}  // namespace kvasir
