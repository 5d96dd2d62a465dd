// SPDX-License-Identifier: Apache-2.0
// The commands of `kvasir`: what each is told, and the function that does it. A command prints its result to stdout
// (a table, or JSON with -o json) and its progress to stderr; it returns why it failed, in words that end with what to
// do next. The exit status follows from the code (ExitStatusOf).
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/flags.h"
#include "deploy/kvasir/sim_cluster.h"

namespace kvasir {

/// Flags of every command.
struct GlobalFlags {
  std::vector<std::string> nodes;  ///< control addresses; never empty after parsing
  bool json = false;
  Duration timeout = std::chrono::seconds(5);  ///< of one call to one node
};

struct StatusFlags {
  bool only_named = false;  ///< not the other members of the cluster
  bool cluster = false;     ///< one table, totals, and whether the whole is healthy
  uint32_t replicas = 0;    ///< copies that must find distinct zones; 0 = 2, or 1 on a single node
};
struct NodeListFlags {};
struct NodeDescribeFlags {
  std::string id;
};
struct NodeCordonFlags {
  std::string id;
  bool cordon = true;  ///< else uncordon
};
struct NodeDrainFlags {
  std::string id;
  Duration wait = std::chrono::minutes(10);
  bool no_wait = false;
  bool yes = false;  ///< do not ask
};
struct LocateFlags {
  std::string key;        ///< or a beginning of it
  uint32_t replicas = 2;  ///< copies that there should be
};
struct SimFlags {
  SimOptions options;
  std::string weights = "100";
  std::string svg;  ///< directory for plots, "" = none
};
struct ListFlags {
  std::string prefix;    ///< hexadecimal beginning of a key, "" = all
  uint32_t limit = 100;  ///< rows
};
struct StatFlags {
  std::string key;  ///< or a beginning of it
};
struct HashFlags {
  std::string file;  ///< "-" = standard input
  std::string namespace_file;
  std::string passphrase, passphrase_file;
  bool tokens = false;  ///< the file holds token numbers; else each byte is a token
};
struct BenchFlags {
  uint32_t blocks = 64;
  uint32_t block_tokens = 256;
  uint32_t layers = 8, heads = 8, dim = 128;
  uint32_t in_flight = 8;  ///< blocks pushed or fetched at once
  uint32_t replicas = 1;
  bool durable = false;
  std::string codec = "raw";
  uint32_t planes = 0;
  std::string transports = "shm,tcp";
};
struct VerifyFlags {
  std::string directory;
};
struct InspectFlags {
  std::string file;
  bool frames = false;  ///< one row for each frame, not only damaged ones
};
struct CodecsFlags {
  std::string explain;  ///< a spec or the name of a method; "" = list what there is
};
struct VersionFlags {};

absl::Status RunStatus(const GlobalFlags& global, const StatusFlags& flags);
absl::Status RunNodeList(const GlobalFlags& global, const NodeListFlags& flags);
absl::Status RunNodeDescribe(const GlobalFlags& global, const NodeDescribeFlags& flags);
absl::Status RunNodeCordon(const GlobalFlags& global, const NodeCordonFlags& flags);
absl::Status RunNodeDrain(const GlobalFlags& global, const NodeDrainFlags& flags);
absl::Status RunLocate(const GlobalFlags& global, const LocateFlags& flags);
absl::Status RunSimCluster(const GlobalFlags& global, const SimFlags& flags);
absl::Status RunList(const GlobalFlags& global, const ListFlags& flags);
absl::Status RunStat(const GlobalFlags& global, const StatFlags& flags);
absl::Status RunHash(const GlobalFlags& global, const HashFlags& flags);
absl::Status RunBench(const GlobalFlags& global, const BenchFlags& flags);
absl::Status RunVerify(const GlobalFlags& global, const VerifyFlags& flags);
absl::Status RunInspect(const GlobalFlags& global, const InspectFlags& flags);
absl::Status RunCodecs(const GlobalFlags& global, const CodecsFlags& flags);
absl::Status RunVersion(const GlobalFlags& global, const VersionFlags& flags);

/// A command line, read.
struct Invocation {
  GlobalFlags global;
  std::variant<std::monostate, StatusFlags, NodeListFlags, NodeDescribeFlags, NodeCordonFlags, NodeDrainFlags,
               LocateFlags, ListFlags, StatFlags, HashFlags, BenchFlags, SimFlags, VerifyFlags, InspectFlags,
               CodecsFlags, VersionFlags>
      command;
  std::string print;  ///< without a command: help or version asked for this
};
/// `node_from_environment` is KVASIR_NODE ("" = not set): addresses for --node, separated by commas.
absl::StatusOr<Invocation> ParseCommandLine(int argc, const char* const* argv,
                                            const std::string& node_from_environment);

}  // namespace kvasir
