// SPDX-License-Identifier: Apache-2.0
// The page /metrics: every number a node has, under the names that deploy/README.md lists.
#pragma once

#include <chrono>
#include <span>
#include <string>
#include <string_view>

#include "deploy/memory.h"
#include "store/node.h"

namespace kvasir {

/// Where a counter of store/counters.h goes. Rows of one metric stand together.
struct CounterMetric {
  std::string_view counter;      ///< its name
  std::string_view metric;
  std::string_view label, value; ///< "" = no label
  std::string_view second_label = "", second_value = "";
  std::string_view help = "";    ///< in the first row of a metric
};
/// The one table. A counter that is not in it is shown as kvasir_<name>_total, and a test fails.
std::span<const CounterMetric> CounterMetrics();

/// Facts of the process that do not change.
struct ProcessFacts {
  MemoryLimit memory;
  std::chrono::system_clock::time_point started;
};

/// Waits for no Loop and no disk: it is to be read when they stall.
std::string MetricsPage(Node& node, const ProcessFacts& process);

}  // namespace kvasir
