// SPDX-License-Identifier: Apache-2.0
#include "deploy/kvasird/banner.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

#include "deploy/kvasird/check.h"
#include "deploy/term.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

constexpr uint64_t kMemlockPlenty = 64ull << 20;  ///< a registered slab, at the least

std::string MemlockFeature() {
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  if (limit.rlim_cur == RLIM_INFINITY) return "on";
  const std::string text = HumanBytes(limit.rlim_cur);
  return limit.rlim_cur >= kMemlockPlenty ? Cat("on: ", text)
                                          : Cat("off: ", text, " may be locked (ulimit -l); tcp and shm need none");
}

}  // namespace

std::vector<std::pair<std::string, std::string>> ProcessFeatures(const DaemonOptions& options) {
  const NodeOptions& node = options.node;
  std::vector<std::pair<std::string, std::string>> features;
  for (const char* transport : {"tcp", "shm"}) {
    const bool on = std::find(node.transports.begin(), node.transports.end(), transport) != node.transports.end();
    features.emplace_back(transport, on ? "on" : "off: not in --transports");
  }
  features.emplace_back("rdma", "off: not in this build");
  features.emplace_back("gpu", "off: kvasird keeps nothing on a GPU; engines do, in their own process");
  features.emplace_back("hugepages", node.huge_pages ? "on" : "off: no --huge-pages");
  features.emplace_back("memlock", MemlockFeature());
  features.emplace_back("tls", "off: calls and data are neither encrypted nor authenticated");
  features.emplace_back("http", options.http.has_value() ? "on: " + options.http->Text() : "off: --http off");
  features.emplace_back("ssd", node.ssd.has_value() ? "on" : "off: no --ssd");
  return features;
}

void LogBanner(const DaemonOptions& options, const std::vector<std::pair<std::string, std::string>>& features) {
  const auto log = [&options](const char* what, const std::vector<std::pair<std::string, std::string>>& facts) {
    std::vector<LogField> fields;
    for (const auto& [name, value] : facts) fields.emplace_back(name, value);
    options.node.log(Severity::kInfo, what, fields);
  };
  auto settings = EffectiveConfiguration(options);
  settings.insert(settings.begin(), {{"version", KVASIR_VERSION}, {"pid", Cat(getpid())}});
  log("configuration", settings);
  log("features", features);
}

}  // namespace kvasir
