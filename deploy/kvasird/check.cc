// SPDX-License-Identifier: Apache-2.0
// Looks at paths with stat and access only: a check may run beside a node that serves from the same directories.
#include "deploy/kvasird/check.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "deploy/term.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

/// `path` is a directory that this user may write, or can be made: its nearest ancestor that exists is one.
absl::Status CheckDirectory(const char* flag, const std::string& path) {
  std::filesystem::path at = std::filesystem::absolute(path);
  struct stat found {};
  while (stat(at.c_str(), &found) != 0) {
    if (errno != ENOENT || !at.has_relative_path()) {
      return absl::InvalidArgumentError(
          Cat(flag, " ", path, ": ", std::strerror(errno), ". Name a directory, or one that can be made"));
    }
    at = at.parent_path();
  }
  if (!S_ISDIR(found.st_mode)) {
    return absl::InvalidArgumentError(
        Cat(flag, " ", path, ": ", at.native(), " is not a directory. Name a directory, or one that can be made"));
  }
  if (access(at.c_str(), W_OK | X_OK) != 0) {
    return absl::InvalidArgumentError(Cat(flag, " ", path, ": this user may not write in ", at.native(), ": ",
                                          std::strerror(errno), ". Give it to user ", geteuid(), " (chown)"));
  }
  return absl::OkStatus();
}

std::string MillisText(Duration duration) {
  return Cat(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count(), "ms");
}

}  // namespace

absl::Status CheckDirectories(const DaemonOptions& options) {
  if (options.node.ssd.has_value() && !options.dev_temporary) {
    if (auto status = CheckDirectory("--ssd", options.node.ssd->directory); !status.ok()) return status;
  }
  if (!options.state_directory.empty()) {
    if (auto status = CheckDirectory("--state", options.state_directory); !status.ok()) return status;
  }
  if (!options.port_file.empty()) {
    const std::filesystem::path file = std::filesystem::absolute(options.port_file);
    if (auto status = CheckDirectory("--port-file", file.parent_path()); !status.ok()) return status;
  }
  return absl::OkStatus();
}

std::vector<std::pair<std::string, std::string>> EffectiveConfiguration(const DaemonOptions& options) {
  const NodeOptions& node = options.node;
  std::vector<std::pair<std::string, std::string>> settings;
  const auto add = [&settings](const char* name, const auto& value) { settings.emplace_back(name, Cat(value)); };
  add("id", node.id);
  add("listen", options.listen.Text());
  add("advertise", options.advertise.Text());
  add("http", options.http.has_value() ? options.http->Text() : "off");
  std::vector<std::string> members;
  Member self;
  for (const Member& member : node.membership.members) {
    members.push_back(Cat(member.id, "@", member.control));
    if (member.id == node.id) self = member;
  }
  const bool etcd = !options.etcd.endpoints.empty();
  add("members", etcd ? Cat("etcd:", options.etcd.tls ? "https://" : "", Join(options.etcd.endpoints, options.etcd.tls ? ",https://" : ",")) : Cat("static:", Join(members, ",")));
  add("cluster", etcd ? options.etcd.cluster : options.static_cluster);
  if (etcd) add("etcd-ttl", MillisText(options.etcd.ttl));
  add("zone", self.zone);
  add("weight", self.weight);
  add("state", options.state_directory);
  add("shards", node.shards);
  add("run-blocks", node.run_blocks);
  add("dram", node.dram_bytes);
  add("memory-limit", options.memory.bytes == 0 ? "unknown" : Cat(options.memory.bytes));
  add("huge-pages", node.huge_pages ? "yes" : "no");
  add("slab", node.slab_bytes);
  add("ssd", !node.ssd.has_value() ? "off" : options.dev_temporary ? "temporary" : node.ssd->directory);
  if (node.ssd.has_value()) add("ssd-size", node.ssd->bytes_max);
  if (node.ssd.has_value()) add("ssd-planes", node.ssd_planes);
  add("codec-threads", node.codec_threads);
  add("transports", Join(node.transports, ","));
  add("data-host", node.data_host);
  add("data-port", node.data_port);
  add("gather-rate", node.gather_bytes_per_s);
  add("hot-reads", static_cast<uint64_t>(node.hot_reads_per_s));
  add("session-ttl", MillisText(node.session_ttl));
  add("lease", MillisText(node.lease));
  add("unfinished-ttl", MillisText(node.unfinished_ttl));
  add("drain-wait", MillisText(options.drain_wait));
  add("json-logs", options.log.json ? "yes" : "no");
  return settings;
}

}  // namespace kvasir
