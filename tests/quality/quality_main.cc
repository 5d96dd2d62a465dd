// SPDX-License-Identifier: Apache-2.0
// quality: measures the methods of a table on the reference model and prints one JSON line a method.
//   quality MODEL_DIRECTORY METHODS_FILE TEXTS PASSKEYS THREADS
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tests/quality/bench.h"

namespace kvasir::quality {
namespace {

int Fail(const Error& error) {
  std::fprintf(stderr, "quality: %s\n", error.message.c_str());
  return 2;
}

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
  std::printf("%s\n", begin.dump().c_str());
  std::fflush(stdout);
  for (const Method& method : *methods) {
    nlohmann::json line{{"family", method.family}, {"name", method.name}, {"spec", method.spec}};
    if (method.planes > 0) line["planes"] = method.planes;
    const Result<Figures> f = (*bench)->Measure(method);
    line["ok"] = f.ok();
    if (f.ok()) {
      line.update({{"bits", f->bits},
                   {"perplexity", f->perplexity},
                   {"change", f->change},
                   {"attention_error", f->attention_error},
                   {"passkey", f->passkey},
                   {"encode_gbs", f->encode_gbs},
                   {"decode_gbs", f->decode_gbs}});
    } else {
      line["why"] = f.error().message;
    }
    std::printf("%s\n", line.dump().c_str());
    std::fflush(stdout);
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
