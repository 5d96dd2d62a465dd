// SPDX-License-Identifier: Apache-2.0
#include "deploy/kvasird/http_pages.h"

#include <future>
#include <memory>

#include "deploy/kvasird/prometheus_text.h"
#include "deploy/status_json.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

constexpr int kUnavailable = 503;
constexpr const char* kJson = "application/json";

/// One line a vital that is in trouble; with `verbose` one for each. As Kubernetes' own components write theirs.
std::string Lines(const HealthReport& report, bool verbose) {
  std::string text;
  for (const VitalReport& vital : report.vitals) {
    if (!vital.trouble.empty()) {
      text += Cat(vital.counts ? "[-]" : "[!]", vital.name, " ", vital.trouble, "\n");
    } else if (verbose) {
      text += Cat("[+]", vital.name, " ok\n");
    }
  }
  return text;
}

HttpAnswer Starting() { return {kUnavailable, kJson, "{\"error\":\"the node is starting\"}\n"}; }

}  // namespace

std::vector<HttpPage> HttpPages::All() {
  return {{"/livez", [this](bool verbose) { return Live(verbose); }},
          {"/readyz", [this](bool verbose) { return Ready(verbose); }},
          {"/metrics", [this](bool) { return Metrics(); }},
          {"/status.json", [this](bool) { return Status(); }}};
}

HealthReport HttpPages::Report() const {
  if (Node* const node = node_) return node->health().Report(std::chrono::steady_clock::now());
  HealthReport report;
  report.vitals.push_back({"start", "", "the node is starting: its disk is opened and what lies there is checked", {}, true, 0});
  return report;
}

HttpAnswer HttpPages::Live(bool verbose) const {
  const HealthReport report = Report();
  const std::string lines = report.live && !verbose ? "" : Lines(report, verbose);
  return {.status = report.live ? 200 : kUnavailable, .body = lines + (report.live ? "live\n" : "stuck: only a restart helps\n")};
}

HttpAnswer HttpPages::Ready(bool verbose) const {
  const HealthReport report = Report();
  return {.status = report.ready ? 200 : kUnavailable, .body = Lines(report, verbose) + (report.ready ? "ready\n" : "not ready\n")};
}

HttpAnswer HttpPages::Metrics() const {
  Node* const node = node_;
  if (node == nullptr) return {.status = kUnavailable, .body = "the node is starting\n"};
  return {200, PrometheusText::kContentType, MetricsPage(*node, process_)};
}

HttpAnswer HttpPages::Status() const {
  Node* const node = node_;
  if (node == nullptr) return Starting();
  auto promise = std::make_shared<std::promise<absl::StatusOr<NodeStatus>>>();  // shared: the answer may be late
  auto future = promise->get_future();
  node->Status([promise](absl::StatusOr<NodeStatus> status) { promise->set_value(std::move(status)); });
  if (future.wait_for(kStatusWait) != std::future_status::ready) {
    return {kUnavailable, kJson, "{\"error\":\"a Loop of the node does not answer; see /readyz\"}\n"};
  }
  const absl::StatusOr<NodeStatus> status = future.get();
  if (!status.ok()) return {kUnavailable, kJson, ErrorJson(status.status()).dump() + "\n"};
  return {200, kJson, StatusJson(*status).dump(1) + "\n"};
}

}  // namespace kvasir
