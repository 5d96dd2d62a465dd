// SPDX-License-Identifier: Apache-2.0
// kvasir verify: every part of an SSD tier read and checked, offline.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "deploy/kvasir/command.h"
#include "deploy/term.h"
#include "deploy/text.h"
#include "store/tiers/ssd_tier.h"

namespace kvasir {
namespace {

struct Findings {
  uint64_t parts = 0, bytes = 0;
  std::vector<VerifiedPart> damaged;
};

void PrintJson(const std::string& directory, const Findings& found) {
  nlohmann::ordered_json out = {
      {"directory", directory}, {"parts", found.parts}, {"bytes", found.bytes}, {"damaged", nlohmann::json::array()}};
  for (const VerifiedPart& part : found.damaged) {
    out["damaged"].push_back({{"key", ToHex(part.meta.id.key)},
                              {"layer_group", part.meta.id.layer_group},
                              {"head_group", part.meta.id.head_group},
                              {"plane", part.meta.id.plane},
                              {"segment", part.location.segment},
                              {"offset", part.location.offset},
                              {"bytes", part.meta.bytes},
                              {"cause", TextOf(part.status.message())}});
  }
  std::printf("%s\n", out.dump(1).c_str());
}

void PrintTable(const Findings& found) {
  if (!found.damaged.empty()) {
    Table table({"KEY", "LAYERS", "HEADS", "PLANE", "SEGMENT", "OFFSET", "SIZE", "CAUSE"});
    for (const VerifiedPart& part : found.damaged) {
      table.Row({ToHex(part.meta.id.key).substr(0, 16), Cat("group ", part.meta.id.layer_group),
                 Cat("group ", part.meta.id.head_group), Cat(part.meta.id.plane), Cat(part.location.segment),
                 Cat(part.location.offset), HumanBytes(part.meta.bytes), std::string(TextOf(part.status.message()))});
    }
    std::printf("%s\n", table.Text().c_str());
  }
  std::printf("%llu parts, %s, %zu damaged\n", static_cast<unsigned long long>(found.parts),
              HumanBytes(found.bytes).c_str(), found.damaged.size());
}

}  // namespace

absl::Status RunVerify(const GlobalFlags& global, const VerifyFlags& flags) {
  Findings found;
  std::unique_ptr<Progress> progress;
  const absl::Status opened =
      VerifySsdDirectory(flags.directory, [&](const VerifiedPart& part, uint64_t done, uint64_t total) {
        if (progress == nullptr) progress = std::make_unique<Progress>("verify", total, Progress::Unit::kBytes);
        progress->Set(done);
        ++found.parts;
        found.bytes += part.meta.bytes;
        if (!part.status.ok()) found.damaged.push_back(part);
      });
  progress.reset();
  if (!opened.ok()) return opened;
  if (global.json) {
    PrintJson(flags.directory, found);
  } else {
    PrintTable(found);
  }
  if (found.damaged.empty()) return absl::OkStatus();
  return absl::DataLossError(
      Cat(found.damaged.size(), " of ", found.parts,
          " parts are damaged. A node never serves them: it counts a miss and drops them. Start it "
          "as usual; if the number grows, replace the disk"));
}

}  // namespace kvasir
