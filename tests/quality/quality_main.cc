// SPDX-License-Identifier: Apache-2.0
// quality: measures the methods of a table on the reference model and prints one JSON line a method.
//   quality MODEL_DIRECTORY METHODS_FILE TEXTS PASSKEYS THREADS
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "tests/quality/bench.h"
#include "tests/quality/lines.h"

namespace kvasir::quality {
namespace {

int Main(char** argv) {
  const Result<std::string> table = ReadText(argv[2]);
  if (!table.ok()) return Fail(table.error());
  const auto methods = ParseMethods(*table);
  if (!methods.ok()) return Fail(methods.error());
  BenchOptions options;
  options.texts = static_cast<uint32_t>(std::atoi(argv[3]));
  options.passkeys = static_cast<uint32_t>(std::atoi(argv[4]));
  options.threads = static_cast<uint32_t>(std::atoi(argv[5]));
  const auto bench = Bench::Make(argv[1], options);
  if (!bench.ok()) return Fail(bench.error());
  const auto begin = nlohmann::json{{"methods", methods->size()},
                                    {"texts", options.texts},
                                    {"passkeys", options.passkeys},
                                    {"perplexity", (*bench)->exact().perplexity},
                                    {"passkey", (*bench)->exact().passkey}};
  Say(begin);
  for (const Method& method : *methods) {
    nlohmann::json line{{"family", method.family}, {"name", method.name}, {"spec", method.spec}};
    if (method.planes > 0) line["planes"] = method.planes;
    const Result<Figures> f = (*bench)->Measure(method);
    SayMeasured(std::move(line), f, [](const Figures& f) {
      return nlohmann::json{{"bits", f.bits},
                            {"perplexity", f.perplexity},
                            {"change", f.change},
                            {"attention_error", f.attention_error},
                            {"passkey", f.passkey},
                            {"encode_gbs", f.encode_gbs},
                            {"decode_gbs", f.decode_gbs}};
    });
  }
  return 0;
}

}  // namespace
}  // namespace kvasir::quality

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: quality MODEL_DIRECTORY METHODS_FILE TEXTS PASSKEYS THREADS\n");
    return 2;
  }
  return kvasir::quality::Main(argv);
}
