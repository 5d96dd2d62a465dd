// SPDX-License-Identifier: Apache-2.0
// kvasir: the command line for operators. main() reads the arguments, runs the command and says how it ended.
#include <cstdio>
#include <cstdlib>

#include "deploy/kvasir/command.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

struct Runner {
  const GlobalFlags& global;
  absl::Status operator()(const std::monostate&) const { return absl::OkStatus(); }
  absl::Status operator()(const StatusFlags& flags) const { return RunStatus(global, flags); }
  absl::Status operator()(const NodeListFlags& flags) const { return RunNodeList(global, flags); }
  absl::Status operator()(const NodeDescribeFlags& flags) const { return RunNodeDescribe(global, flags); }
  absl::Status operator()(const NodeCordonFlags& flags) const { return RunNodeCordon(global, flags); }
  absl::Status operator()(const NodeDrainFlags& flags) const { return RunNodeDrain(global, flags); }
  absl::Status operator()(const LocateFlags& flags) const { return RunLocate(global, flags); }
  absl::Status operator()(const SimFlags& flags) const { return RunSimCluster(global, flags); }
  absl::Status operator()(const ListFlags& flags) const { return RunList(global, flags); }
  absl::Status operator()(const StatFlags& flags) const { return RunStat(global, flags); }
  absl::Status operator()(const HashFlags& flags) const { return RunHash(global, flags); }
  absl::Status operator()(const BenchFlags& flags) const { return RunBench(global, flags); }
  absl::Status operator()(const VerifyFlags& flags) const { return RunVerify(global, flags); }
  absl::Status operator()(const InspectFlags& flags) const { return RunInspect(global, flags); }
  absl::Status operator()(const CodecsFlags& flags) const { return RunCodecs(global, flags); }
  absl::Status operator()(const VersionFlags& flags) const { return RunVersion(global, flags); }
};

int Main(int argc, char** argv) {
  const char* node = std::getenv("KVASIR_NODE");
  const auto invocation = ParseCommandLine(argc, argv, node == nullptr ? "" : node);
  absl::Status status = invocation.status();
  if (status.ok()) {
    std::fputs(invocation->print.c_str(), stdout);
    status = std::visit(Runner{invocation->global}, invocation->command);
  }
  if (std::fflush(stdout) != 0 && status.ok()) {
    status = absl::UnavailableError("standard output was closed before everything was written");
  }
  if (!status.ok()) std::fprintf(stderr, "kvasir: %s\n", std::string(TextOf(status.message())).c_str());
  return ExitStatusOf(status);
}

}  // namespace
}  // namespace kvasir

int main(int argc, char** argv) { return kvasir::Main(argc, argv); }
