// SPDX-License-Identifier: Apache-2.0
// rANS with probabilities of 8 bits (Duda, Asymmetric numeral systems, arXiv 1311.2540).
//
//   state x in [2^8, 2^16); symbol s has frequency f of 256, and c, the sum of the frequencies of the symbols before it
//   encode   while x >= 256 f: emit the byte x mod 256, x = floor(x / 256)     at most once
//            x = 256 floor(x / f) + x mod f + c
//   decode   s: the symbol with c <= x mod 256 < c + f;  x = f floor(x / 256) + x mod 256 - c
//            where x < 2^8: x = 256 x + the next byte                          at most once
// The decoder undoes the encoder step by step: it meets the symbols in the reverse of the encoder's order. Everything
// fits 16 bits, and the slot that names the symbol is the low byte of the state: made for vectors of bytes. With the
// state's least value no greater than the sum of frequencies the loss is below 0.1 % of the entropy on KV exponents.
#pragma once

#include <cstdint>

#include "kernels/portable.h"

namespace kvasir {

inline constexpr uint32_t kRansTotal = 256;  ///< sum of the frequencies of a model
inline constexpr uint32_t kRansLeast = 256;  ///< of the states between two steps

KVASIR_HD inline bool RansEmits(uint32_t x, uint32_t frequency) { return x >= frequency * 256; }
KVASIR_HD inline uint32_t RansPush(uint32_t x, uint32_t frequency, uint32_t first) {
  return x / frequency * 256 + x % frequency + first;
}
KVASIR_HD inline uint32_t RansPop(uint32_t x, uint32_t frequency, uint32_t first) {
  return frequency * (x >> 8) + (x & 255) - first;
}

/// log2(v) in 4096ths, rounded down. REQUIRES: v > 0. Integer work only: the same on every device.
KVASIR_HD inline uint32_t Log2In4096ths(uint32_t v) {
  uint32_t whole = 31;
  while ((v >> whole) == 0) --whole;
  uint64_t m = uint64_t{v} << (31 - whole);  // in [1, 2) with 31 bits behind the point
  uint32_t log = whole;
  for (uint32_t bit = 0; bit < 12; ++bit) {
    m = (m * m) >> 31;
    log <<= 1;
    if ((m >> 32) != 0) {
      m >>= 1;
      log |= 1;
    }
  }
  return log;
}

/// Makes `count` frequencies that sum to kRansTotal and fit these counts best, each at least 1. `weights` sum to
/// `total`. REQUIRES: 2 <= count <= 256, total > 0. Rounded shares first; then one up or down where it costs least:
/// the cost of a symbol falls by about weight / (f + 1/2) for one more, grows by weight / (f - 1/2) for one less.
KVASIR_HD inline void RansFrequencies(const uint32_t* weights, uint32_t count, uint32_t total, uint8_t* frequencies) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t share = (uint64_t{weights[i]} * kRansTotal + total / 2) / total;
    const uint32_t f = share < 1 ? 1 : share > 255 ? 255 : static_cast<uint32_t>(share);
    frequencies[i] = static_cast<uint8_t>(f);
    sum += f;
  }
  while (sum != kRansTotal) {
    uint32_t best = count;
    for (uint32_t i = 0; i < count; ++i) {
      const uint32_t f = frequencies[i];
      if (sum > kRansTotal ? f == 1 : f == 255) continue;
      if (best == count) {
        best = i;
        continue;
      }
      const uint64_t g = frequencies[best];
      const bool better = sum > kRansTotal ? uint64_t{weights[i]} * (2 * g - 1) < uint64_t{weights[best]} * (2 * f - 1)
                                           : uint64_t{weights[i]} * (2 * g + 1) > uint64_t{weights[best]} * (2 * f + 1);
      if (better) best = i;
    }
    frequencies[best] = static_cast<uint8_t>(sum > kRansTotal ? frequencies[best] - 1 : frequencies[best] + 1);
    sum += sum > kRansTotal ? ~0u : 1u;
  }
}

}  // namespace kvasir
