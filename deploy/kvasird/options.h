// SPDX-License-Identifier: Apache-2.0
// What a kvasird is told: its flags and member list, checked as far as that goes without touching a disk or a port.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/flags.h"
#include "deploy/log.h"
#include "deploy/memory.h"
#include "store/node.h"
#include "store/wire/etcd_client.h"

namespace kvasir {

/// Members that etcd lists.
struct EtcdOptions {
  std::vector<std::string> endpoints;  ///< HOST:PORT; empty = the members are known from the start
  std::string cluster = "default";
  Duration ttl = std::chrono::seconds(10);  ///< of this node's lease
  bool tls = false;
  std::string ca_file, certificate_file, key_file;  ///< PEM; "" = none, or the system's
};
/// Reads the files, now: they may have been renewed since the start. InvalidArgument names flag and file.
absl::StatusOr<EtcdTls> ReadEtcdTls(const EtcdOptions& options);

struct DaemonOptions {
  NodeOptions node;    ///< but its log; with etcd the membership is this node alone until etcd has told the others
  HostPort listen;     ///< port 0 = any
  HostPort advertise;  ///< what others dial; port 0 = that of `listen`
  EtcdOptions etcd;
  std::string static_cluster;   ///< name of a cluster that is not in etcd, "" = it has none
  std::string state_directory;  ///< "" = beside the SSD tier, or none
  LogOptions log;
  std::optional<HostPort> http = HostPort{"127.0.0.1", 7071};  ///< of the pages for probes and scrapers; none = --http off
  bool http_given = false;  ///< else any free port will do when that one is taken
  MemoryLimit memory;       ///< as it was found
  int ready_fd = -1;      ///< one line is written here when it serves; -1 = nowhere
  std::string port_file;  ///< "" = none
  Duration drain_wait = std::chrono::seconds(10);
  bool check = false;  ///< say what would be done, do nothing
  bool dev = false;
  bool dev_temporary = false;  ///< --dev without --ssd: the directory is made, and removed at the end
};

struct ParsedDaemon {
  std::optional<DaemonOptions> options;
  std::string print;  ///< without options: --help, --version or --check asked for this
};

/// InvalidArgument (or what ReadFile says of the member list) in words that end with the next step.
absl::StatusOr<ParsedDaemon> ParseDaemonOptions(int argc, const char* const* argv, const MemoryLimit& memory);

}  // namespace kvasir
