// SPDX-License-Identifier: Apache-2.0
// HttpPages: what /livez, /readyz, /metrics and /status.json say of a node. There from the process's first moment: a node that
// is still opening its disk is alive, and not ready.
#pragma once

#include <atomic>
#include <vector>

#include "deploy/kvasird/http_server.h"
#include "deploy/kvasird/metrics.h"
#include "store/node.h"

namespace kvasir {

class HttpPages {
 public:
  static constexpr Duration kStatusWait = std::chrono::seconds(2);  ///< for the Loops that /status.json asks

  explicit HttpPages(ProcessFacts process) : process_(std::move(process)) {}
  /// The node has started. It outlives whoever serves the pages.
  void Attach(Node* node) { node_ = node; }
  /// This object outlives them.
  std::vector<HttpPage> All();

 private:
  HttpAnswer Live(bool verbose) const;
  HttpAnswer Ready(bool verbose) const;
  HttpAnswer Metrics() const;
  HttpAnswer Status() const;
  HealthReport Report() const;

  const ProcessFacts process_;
  std::atomic<Node*> node_{nullptr};
};

}  // namespace kvasir
