// SPDX-License-Identifier: Apache-2.0
#include "store/counters.h"

#include <algorithm>

namespace kvasir {

namespace {
constexpr const char* kNames[] = {
#define KVASIR_COUNTER_NAME(id, name) name,
    KVASIR_COUNTERS(KVASIR_COUNTER_NAME)
#undef KVASIR_COUNTER_NAME
};
}  // namespace

std::vector<std::pair<std::string, uint64_t>> Counters::Snapshot() const {
  std::vector<std::pair<std::string, uint64_t>> out;
  for (size_t i = 0; i < values_.size(); ++i) out.emplace_back(kNames[i], values_[i].load(std::memory_order_relaxed));
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace kvasir
