// SPDX-License-Identifier: Apache-2.0
// kvasir codecs and kvasir version: what this build can do.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "deploy/kvasir/codec_report.h"
#include "deploy/kvasir/command.h"
#include "deploy/term.h"
#include "deploy/text.h"
#include "kernels/codec.h"
#include "kernels/methods.h"
#include "store/api/store_api.h"
#include "transport/transport.h"

namespace kvasir {
namespace {

constexpr size_t kTextColumns = 110;

}  // namespace

absl::Status RunCodecs(const GlobalFlags& global, const CodecsFlags& flags) {
  if (!flags.explain.empty()) {
    const auto report = ReportOn(flags.explain);
    if (!report.ok()) return report.status();
    const std::string text = global.json ? ReportJson(*report).dump(1) + "\n" : ReportText(*report);
    std::fputs(text.c_str(), stdout);
    return absl::OkStatus();
  }
  if (global.json) {
    nlohmann::ordered_json out = {{"stages", nlohmann::ordered_json::array()},
                                  {"methods", nlohmann::ordered_json::array()}};
    for (const StageInfo& stage : Stages()) {
      out["stages"].push_back({{"letter", stage.letter},
                               {"name", stage.name},
                               {"usage", stage.usage},
                               {"meaning", stage.meaning},
                               {"needs", stage.needs}});
    }
    for (const Method& method : Methods()) {
      out["methods"].push_back({{"name", method.name},
                                {"row", method.row},
                                {"spec", method.spec},
                                {"title", method.title},
                                {"arxiv", method.arxiv}});
    }
    std::printf("%s\n", out.dump(1).c_str());
    return absl::OkStatus();
  }
  Table stages({"STAGE", "USAGE", "MEANING"});
  for (const StageInfo& stage : Stages()) {
    stages.Row({Cat(stage.letter, ":", stage.name), std::string(stage.usage), std::string(stage.meaning)});
  }
  Table methods({"METHOD", "ARXIV", "SPEC"});
  for (const Method& method : Methods()) {
    methods.Row(
        {std::string(method.name), method.arxiv.empty() ? "-" : std::string(method.arxiv), std::string(method.spec)});
  }
  std::printf(
      "%s\nA spec joins stages by |, with k: or v: for keys or values only: k:int(2,chan,32)|v:int(2,tok,32)|P:bits\n\n"
      "%s\nkvasir codecs explain METHOD, or SPEC, tells what the stages do and what they cost\n",
      stages.Text(kTextColumns).c_str(), methods.Text(kTextColumns).c_str());
  return absl::OkStatus();
}

absl::Status RunVersion(const GlobalFlags& global, const VersionFlags&) {
  const std::vector<std::string> transports = TransportNames();
  if (global.json) {
    const nlohmann::ordered_json out = {
        {"version", KVASIR_VERSION}, {"wire", kWireVersion}, {"transports", transports}};
    std::printf("%s\n", out.dump(1).c_str());
    return absl::OkStatus();
  }
  std::printf("kvasir %s, wire version %u, transports %s\n", KVASIR_VERSION, kWireVersion,
              Join(transports, ", ").c_str());
  return absl::OkStatus();
}

}  // namespace kvasir
