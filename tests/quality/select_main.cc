// SPDX-License-Identifier: Apache-2.0
// quality_select: measures methods that choose tokens, at several budgets, and prints one JSON line a row.
//   quality_select MODEL_DIRECTORY SELECTING_FILE TEXTS TURNS THREADS BUDGET...
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "tests/quality/lines.h"
#include "tests/quality/methods.h"
#include "tests/quality/select_bench.h"

namespace kvasir::quality {
namespace {

int Main(int argc, char** argv) {
  const Result<std::string> table = ReadText(argv[2]);
  if (!table.ok()) return Fail(table.error());
  const auto methods = ParseSelecting(*table, {argv + 6, argv + argc});
  if (!methods.ok()) return Fail(methods.error());
  const SelectOptions options{static_cast<uint32_t>(std::atoi(argv[3])), static_cast<uint32_t>(std::atoi(argv[4])),
                              static_cast<uint32_t>(std::atoi(argv[5]))};
  const auto bench = SelectBench::Make(argv[1], options);
  if (!bench.ok()) return Fail(bench.error());
  const SelectFigures& exact = (*bench)->exact();
  const nlohmann::json begin{{"methods", methods->size()},     {"texts", options.texts},
                             {"turns", options.turns},         {"perplexity", exact.perplexity},
                             {"first_turn", exact.first_turn}, {"second_turn", exact.second_turn}};
  Say(begin);
  for (const Method& method : *methods) {
    nlohmann::json line{
        {"family", method.family}, {"name", method.name}, {"spec", method.spec}, {"budget", method.budget}};
    const auto codec = Codec::Parse(method.spec);
    const Result<SelectFigures> f = codec.ok() ? (*bench)->Measure(**codec) : Result<SelectFigures>(codec.error());
    SayMeasured(std::move(line), f, [](const SelectFigures& f) {
      return nlohmann::json{{"bits", f.bits},
                            {"kept", f.kept},
                            {"perplexity", f.perplexity},
                            {"change", f.change},
                            {"attention_error", f.attention_error},
                            {"first_turn", f.first_turn},
                            {"second_turn", f.second_turn}};
    });
  }
  return 0;
}

}  // namespace
}  // namespace kvasir::quality

int main(int argc, char** argv) {
  if (argc < 7) {
    std::fprintf(stderr, "usage: quality_select MODEL_DIRECTORY SELECTING_FILE TEXTS TURNS THREADS BUDGET...\n");
    return 2;
  }
  return kvasir::quality::Main(argc, argv);
}
