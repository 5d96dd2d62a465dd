// SPDX-License-Identifier: Apache-2.0
// seeds: runs the table of the 63 methods and prints one JSON line a row.
//   seeds MODEL_DIRECTORY ROWS_FILE THREADS [row ...]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tests/quality/methods.h"
#include "tests/seeds/checks.h"

namespace kvasir::seeds {
namespace {

int Fail(const Error& error) {
  std::fprintf(stderr, "seeds: %s\n", error.message.c_str());
  return 2;
}

int Main(int argc, char** argv) {
  const Result<std::string> table = quality::ReadText(argv[2]);
  if (!table.ok()) return Fail(table.error());
  const auto rows = ParseRows(*table);
  if (!rows.ok()) return Fail(rows.error());
  std::vector<uint32_t> wanted;
  for (int i = 4; i < argc; ++i) wanted.push_back(static_cast<uint32_t>(std::atoi(argv[i])));
  auto fixtures = MakeFixtures({.model = argv[1], .threads = static_cast<uint32_t>(std::atoi(argv[3]))});
  if (!fixtures.ok()) return Fail(fixtures.error());
  for (const Row& row : *rows) {
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), row.number) == wanted.end()) continue;
    const Outcome outcome = RunRow(*fixtures, row, false);
    nlohmann::json line{{"row", row.number},
                        {"step", row.step},
                        {"method", row.method},
                        {"result", NameOf(outcome.fate)},
                        {"expected", NameOf(row.expected)},
                        {"ok", outcome.fate == row.expected},
                        {"said", outcome.said}};
    if (!row.spec.empty())
      line.update({{"spec", row.spec}, {"bits", outcome.bits}, {"error", outcome.error}, {"check", row.check}});
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace kvasir::seeds

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: seeds MODEL_DIRECTORY ROWS_FILE THREADS [row ...]\n");
    return 2;
  }
  return kvasir::seeds::Main(argc, argv);
}
