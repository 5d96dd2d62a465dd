// SPDX-License-Identifier: Apache-2.0
// kvasird: one node of a store, as a process.
#include <cstdio>

#include "deploy/kvasird/options.h"
#include "deploy/kvasird/serve.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

int Main(int argc, char** argv) {
  auto parsed = ParseDaemonOptions(argc, argv, ReadMemoryLimit());
  absl::Status status = parsed.status();
  if (status.ok() && !parsed->options.has_value()) std::fputs(parsed->print.c_str(), stdout);
  if (status.ok() && parsed->options.has_value()) status = Serve(*std::move(parsed->options));
  if (!status.ok()) std::fprintf(stderr, "kvasird: %s\n", std::string(TextOf(status.message())).c_str());
  return ExitStatusOf(status);
}

}  // namespace
}  // namespace kvasir

int main(int argc, char** argv) { return kvasir::Main(argc, argv); }
