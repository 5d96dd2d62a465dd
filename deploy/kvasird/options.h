// SPDX-License-Identifier: Apache-2.0
// What a kvasird is told: its flags and member list, checked as far as that goes without touching a disk or a port.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "deploy/flags.h"
#include "deploy/log.h"
#include "deploy/memory.h"
#include "store/node.h"

namespace kvasir {

struct DaemonOptions {
  NodeOptions node;  ///< but its log
  HostPort listen;   ///< port 0 = any; then the membership's control port is filled in once it is known
  LogOptions log;
  std::optional<HostPort> http = HostPort{"127.0.0.1", 7071};  ///< of the pages for probes and scrapers; none = --http off
  bool http_given = false;  ///< else any free port will do when that one is taken
  MemoryLimit memory;       ///< as it was found
  int ready_fd = -1;      ///< one line is written here when it serves; -1 = nowhere
  std::string port_file;  ///< "" = none
  Duration drain_wait = std::chrono::seconds(10);
  bool dev = false;
  bool dev_temporary = false;  ///< --dev without --ssd: the directory is made, and removed at the end
};

struct ParsedDaemon {
  std::optional<DaemonOptions> options;
  std::string print;  ///< without options: --help or --version asked for this
};

/// InvalidArgument (or what ReadFile says of the member list) in words that end with the next step.
absl::StatusOr<ParsedDaemon> ParseDaemonOptions(int argc, const char* const* argv, const MemoryLimit& memory);

}  // namespace kvasir
