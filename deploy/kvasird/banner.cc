// SPDX-License-Identifier: Apache-2.0
#include "deploy/kvasird/banner.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>

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
  features.emplace_back("hugepages", "off: slabs are made of ordinary pages");
  features.emplace_back("memlock", MemlockFeature());
  features.emplace_back("tls", "off: calls and data are neither encrypted nor authenticated");
  features.emplace_back("http", options.http.has_value() ? "on: " + options.http->Text() : "off: --http off");
  features.emplace_back("ssd", node.ssd.has_value() ? "on" : "off: no --ssd");
  return features;
}

void LogBanner(const DaemonOptions& options, const std::vector<std::pair<std::string, std::string>>& features) {
  const NodeOptions& node = options.node;
  const std::string limit = options.memory.bytes == 0 ? "unknown" : HumanBytes(options.memory.bytes);
  node.log(Severity::kInfo, "configuration",
           {{"version", KVASIR_VERSION},
            {"pid", getpid()},
            {"id", node.id},
            {"listen", options.listen.Text()},
            {"http", options.http.has_value() ? options.http->Text() : "off"},
            {"members", node.membership.members.size()},
            {"run_blocks", node.run_blocks},
            {"shards", node.shards},
            {"dram", HumanBytes(node.dram_bytes)},
            {"memory_limit", limit},
            {"slab", HumanBytes(node.slab_bytes)},
            {"ssd", node.ssd.has_value() ? node.ssd->directory : "off"},
            {"ssd_size", node.ssd.has_value() ? HumanBytes(node.ssd->bytes_max) : "0"},
            {"codec_threads", node.codec_threads},
            {"transports", Join(node.transports, ",")},
            {"data_host", node.data_host},
            {"data_port", node.data_port},
            {"session_ttl", HumanDuration(node.session_ttl)},
            {"lease", HumanDuration(node.lease)},
            {"unfinished_ttl", HumanDuration(node.unfinished_ttl)},
            {"drain_wait", HumanDuration(options.drain_wait)}});
  std::vector<LogField> fields;
  for (const auto& [name, state] : features) fields.emplace_back(name, state);
  node.log(Severity::kInfo, "features", fields);
}

}  // namespace kvasir
