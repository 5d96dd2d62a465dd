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
  uint32_t code = 0, range = ~0u;

  KVASIR_HD uint32_t Next() { return at < bytes ? in[at++] : 0u; }
  KVASIR_HD void Begin() {
    for (uint32_t b = 0; b < 4; ++b) code = code << 8 | Next();
  }
  /// The sum of frequencies where the next symbol lies: below `total` for whatever bytes.
  KVASIR_HD uint32_t Look(uint32_t total) const {
    const uint32_t place = code / (range / total);
    return place < total ? place : total - 1;
  }
  KVASIR_HD void Take(uint32_t first, uint32_t frequency, uint32_t total) {
    const uint32_t r = range / total;
    code -= r * first;
    range = r * frequency;
    while (range < kRangeTop) {
      code = code << 8 | Next();
      range <<= 8;
    }
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
    const bool uniform = shape % kScales == 0;
    sums[0] = 0;
    float weights[256];
    float sum = 0;
    for (uint32_t c = 0; c < codes; ++c) {
      weights[c] = uniform ? 1.0f : Weight(bits, c, mean, shape);
      sum += weights[c];
    }
    const float parts = static_cast<float>(kShare - codes);
    for (uint32_t c = 0; c < codes; ++c) {
      const uint32_t more = uniform ? 0 : static_cast<uint32_t>(weights[c] / sum * parts);
      sums[c + 1] = sums[c] + 1 + more;
    }
    return !uniform || (shape == 0 && mean == 0);
  }
  /// The code where `place` lies.
  KVASIR_HD uint32_t Find(uint32_t place) const {
    uint32_t low = 0, high = codes;
    while (high - low > 1) {
      const uint32_t middle = (low + high) / 2;
      (sums[middle] <= place ? low : high) = middle;
    }
    return low;
  }

 private:
  KVASIR_HD static float Weight(uint32_t bits, uint32_t c, uint8_t mean, uint8_t shape) {
    const float distance = static_cast<float>(static_cast<int32_t>(c << (8 - bits)) - static_cast<int32_t>(mean));
    const float t = distance / Scale(shape % kScales);
    float u = 1.0f + t * t;
    for (uint32_t k = shape / kScales; k > 0; --k) u = u * u;
    return 1.0f / u;  // 0 where u overflows
  }
};

}  // namespace kvasir
