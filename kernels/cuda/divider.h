// SPDX-License-Identifier: Apache-2.0
// Division by a number that a kernel learns only at its launch (Granlund and Montgomery, "Division by invariant
// integers using multiplication", PLDI 1994): a product and a shift in place of some thirty instructions.
#pragma once

#include <cstdint>

#include "kernels/portable.h"

namespace kvasir::cuda {

/// n / divisor and n % divisor for n < 2^31.
struct Divider {
  uint32_t divisor = 1;
  uint32_t factor = 1;  ///< floor(2^32 * (2^shift - divisor) / divisor) + 1
  uint32_t shift = 0;   ///< ceil(log2 divisor)

  /// REQUIRES: 0 < divisor <= 2^31.
  static Divider By(uint32_t divisor) {
    Divider d;
    d.divisor = divisor;
    while ((uint64_t{1} << d.shift) < divisor) ++d.shift;
    d.factor = static_cast<uint32_t>(((uint64_t{1} << 32) * ((uint64_t{1} << d.shift) - divisor)) / divisor + 1);
    return d;
  }
  KVASIR_HD uint32_t Of(uint32_t n) const { return (static_cast<uint32_t>((uint64_t{n} * factor) >> 32) + n) >> shift; }
  /// Quotient; `rest` becomes n % divisor.
  KVASIR_HD uint32_t Of(uint32_t n, uint32_t& rest) const {
    const uint32_t quotient = Of(n);
    rest = n - quotient * divisor;
    return quotient;
  }
};

}  // namespace kvasir::cuda
