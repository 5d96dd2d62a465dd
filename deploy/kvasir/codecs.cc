// SPDX-License-Identifier: Apache-2.0
// kvasir codecs and kvasir version: what this build can do.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "deploy/kvasir/command.h"
#include "deploy/term.h"
#include "deploy/text.h"
#include "kernels/codec.h"
#include "store/api/store_api.h"
#include "transport/transport.h"

namespace kvasir {
namespace {

constexpr size_t kTextColumns = 110;

}  // namespace

absl::Status RunCodecs(const GlobalFlags& global, const CodecsFlags&) {
  if (global.json) {
    auto out = nlohmann::ordered_json::array();
    for (const StageInfo& stage : Stages()) {
      out.push_back(
          {{"letter", stage.letter}, {"name", stage.name}, {"usage", stage.usage}, {"meaning", stage.meaning}});
    }
    std::printf("%s\n", out.dump(1).c_str());
    return absl::OkStatus();
  }
  Table table({"STAGE", "USAGE", "MEANING"});
  for (const StageInfo& stage : Stages()) {
    table.Row({Cat(stage.letter, ":", stage.name), std::string(stage.usage), std::string(stage.meaning)});
  }
  std::printf(
      "%s\nA spec joins stages by |, with k: or v: for keys or values only: k:int(2,chan,32)|v:int(2,tok,32)|P:bits\n",
      table.Text(kTextColumns).c_str());
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
