// SPDX-License-Identifier: Apache-2.0
// P:ac: its table of logarithms.
#include "kernels/stages/p_ac.h"

#include <vector>

namespace kvasir {

TabledLog::TabledLog() {
  static const std::vector<uint16_t> table = [] {
    std::vector<uint16_t> logs(kMost + 1);
    for (uint32_t v = 1; v <= kMost; ++v) logs[v] = static_cast<uint16_t>(Log2In4096ths(v));
    return logs;
  }();
  table_ = table.data();
}

}  // namespace kvasir
