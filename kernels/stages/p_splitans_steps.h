// SPDX-License-Identifier: Apache-2.0
// One step of P:splitexp(ans), and one stored value: what the scalar body and the one of CUDA share. The format is in
// p_splitans.h, the arithmetic in rans.h.
#pragma once

#include "kernels/stages/p_splitans.h"

namespace kvasir {

/// What a push needs of a symbol. floor(x / frequency) = x * inverse >> 32 for every x < 2^16: the inverse is above
/// 2^32 / frequency by at most 1, so the product by at most 2^-16, less than the 1 / frequency to the next whole
/// number.
struct SplitAnsPush {
  uint64_t inverse = 0;
  uint16_t frequency = 0, first = 0;
  uint32_t escapes = 0;  ///< 1: the symbol goes into the tail too
  KVASIR_HD uint32_t Pushed(uint32_t x) const {
    const uint32_t quotient = static_cast<uint32_t>(x * inverse >> 32);
    return quotient * kRansTotal + (x - quotient * frequency) + first;
  }
};

KVASIR_HD inline SplitAnsPush PushOf(const SplitAnsModel& m, uint32_t symbol) {
  const uint32_t i = m.index[symbol];
  return {(uint64_t{1} << 32) / m.frequency[i] + 1, m.frequency[i], m.first[i], i == m.symbols ? 1u : 0u};
}

/// What a pop needs of a slot.
struct SplitAnsPop {
  uint8_t frequency = 0, rank = 0, symbol = 0, escapes = 0;
  KVASIR_HD uint32_t Popped(uint32_t x) const { return frequency * (x >> 8) + rank; }
};

KVASIR_HD inline SplitAnsPop PopOf(const SplitAnsModel& m, uint32_t slot) {
  const uint32_t i = m.owner[slot];
  return {m.frequency[i], static_cast<uint8_t>(slot - m.first[i]), m.symbol[i],
          static_cast<uint8_t>(i == m.symbols ? 1 : 0)};
}

/// Value `i` of a stored chunk.
KVASIR_HD inline uint16_t StoredSplitAnsValue(const SplitAnsFrame& f, const uint8_t* fixed, const uint8_t* tail,
                                              uint32_t count, uint32_t i) {
  const uint32_t carried = f.carried(count);
  SplitAnsPieces p;
  p.byte = i < count - carried ? fixed[i] : tail[i - (count - carried)];
  if (f.half) p.rest = UnpackedCode(3, fixed + count - carried, count, i);
  p.exponent = UnpackedCode(f.exponent_bits(), tail + carried, count, i);
  return PutTogether(f.half, p);
}

}  // namespace kvasir
