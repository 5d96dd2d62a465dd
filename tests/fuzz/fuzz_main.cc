// SPDX-License-Identifier: Apache-2.0
// libFuzzer's entry points. `--seeds=DIR` writes the target's seeds there before the corpus is read (libFuzzer itself
// ignores flags that begin with two dashes).
#include <cstring>
#include <fstream>

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  constexpr const char* kFlag = "--seeds=";
  for (int i = 1; i < *argc; ++i) {
    if (std::strncmp((*argv)[i], kFlag, std::strlen(kFlag)) != 0) continue;
    int number = 0;
    for (const std::string& seed : kvasir::fuzzing::Seeds()) {
      std::ofstream(std::string((*argv)[i] + std::strlen(kFlag)) + "/seed" + std::to_string(number++)) << seed;
    }
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kvasir::fuzzing::Run({data, size});
  return 0;
}
