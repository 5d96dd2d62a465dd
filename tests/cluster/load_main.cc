// SPDX-License-Identifier: Apache-2.0
// cluster_load: clients of a cluster as one process. Commands come by stdin, answers go to stdout, one JSON line each
// (commands.h); the end of stdin is the end of the process, so that it never outlives whoever started it.
#include <iostream>
#include <string>

#include "tests/cluster/commands.h"

int main() {
  kvasir::cluster::Commands commands;
  std::string line;
  while (std::getline(std::cin, line)) {
    const nlohmann::json command = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    std::cout << commands.Run(command).dump() << std::endl;
  }
  return 0;
}
