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

std::string SecondsText(Duration duration) {
  return Cat(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count(), "ms");
}

}  // namespace

absl::Status CheckDirectories(const DaemonOptions& options) {
  if (options.node.ssd.has_value() && !options.dev_temporary) {
    if (auto status = CheckDirectory("--ssd", options.node.ssd->directory); !status.ok()) return status;
  }
  if (!options.state_directory.empty()) {
    if (auto status = CheckDirectory("--state-dir", options.state_directory); !status.ok()) return status;
  }
  if (!options.port_file.empty()) {
    const std::filesystem::path file = std::filesystem::absolute(options.port_file);
    if (auto status = CheckDirectory("--port-file", file.parent_path()); !status.ok()) return status;
  }
  return absl::OkStatus();
}

std::string EffectiveConfiguration(const DaemonOptions& options) {
  const NodeOptions& node = options.node;
  std::string out;
  const auto line = [&out](std::string_view name, const auto& value) { out += Cat(name, " = ", value, "\n"); };
  line("id", node.id);
  line("listen", options.listen.Text());
  line("advertise", options.advertise.Text());
  line("members-source", options.etcd.endpoints.empty() ? "static" : Cat("etcd:", Join(options.etcd.endpoints, ",")));
  if (!options.etcd.endpoints.empty()) {
    line("cluster", options.etcd.cluster);
    line("member-ttl", SecondsText(options.etcd.ttl));
  }
  std::vector<std::string> members;
  for (const Member& member : node.membership.members) members.push_back(Cat(member.id, "@", member.control));
  line("members", Join(members, ","));
  line("shards", node.shards);
  line("run-blocks", node.run_blocks);
  line("dram", node.dram_bytes);
  line("huge-pages", node.huge_pages ? "yes" : "no");
  line("slab", node.slab_bytes);
  line("ssd", !node.ssd.has_value() ? "off" : options.dev_temporary ? "temporary" : node.ssd->directory);
  if (node.ssd.has_value()) line("ssd-size", node.ssd->bytes_max);
  line("codec-threads", node.codec_threads);
  line("transports", Join(node.transports, ","));
  line("data-host", node.data_host);
  line("data-port", node.data_port);
  line("session-ttl", SecondsText(node.session_ttl));
  line("lease", SecondsText(node.lease));
  line("unfinished-ttl", SecondsText(node.unfinished_ttl));
  line("drain-wait", SecondsText(options.drain_wait));
  line("json-logs", options.log.json ? "yes" : "no");
  return out;
}

}  // namespace kvasir
