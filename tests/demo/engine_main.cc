// SPDX-License-Identifier: Apache-2.0
// demo_engine: an inference engine as a process. Commands come by stdin, answers go to stdout, one JSON line each
// (commands.h); the end of stdin is the end of the process, so that it never outlives whoever started it.
#include <iostream>
#include <string>

#include "tests/demo/commands.h"

int main() {
  kvasir::demo::Commands commands;
  std::string line;
  while (std::getline(std::cin, line)) {
    const nlohmann::json command = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    std::cout << commands.Run(command).dump() << std::endl;
  }
  return 0;
}
