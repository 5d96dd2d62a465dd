// SPDX-License-Identifier: Apache-2.0
// The names of the counters.
#include "client/counters.h"

namespace kvasir::client {

namespace {
constexpr std::array<const char*, static_cast<size_t>(Counter::kCount)> kNames = {
    "acquires",     "existed_parts",    "failovers",     "fetched_blocks", "fetched_bytes", "fetches",
    "hellos",       "leases_lost",      "matches",       "miss_absent",    "miss_crc",      "miss_header",
    "miss_late",    "miss_unavailable", "node_failures", "offers",         "planes_missed", "push_failures",
    "pushed_bytes", "pushed_parts",     "pushes"};
static_assert(kNames.back() != nullptr, "every counter has a name");
}  // namespace

std::vector<std::pair<std::string, uint64_t>> CounterSet::Read() const {
  std::vector<std::pair<std::string, uint64_t>> out;
  out.reserve(kNames.size());
  for (size_t i = 0; i < kNames.size(); ++i) out.emplace_back(kNames[i], values_[i].load(std::memory_order_relaxed));
  return out;
}

}  // namespace kvasir::client
