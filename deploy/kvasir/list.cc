// SPDX-License-Identifier: Apache-2.0
// kvasir ls and kvasir stat: blocks that are stored, over all nodes of the cluster.
#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "deploy/kvasir/blocks.h"
#include "deploy/kvasir/command.h"
#include "deploy/term.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint32_t kPageRows = 1000;     ///< asked of a node at once
constexpr uint32_t kStatRowsMax = 1000;  ///< copies of one block over nodes and views

/// How many of a block's planes are whole; "-" where its codec has none.
std::string PlanesOf(const BlockInfo& b) { return b.planes_of > 1 ? Cat(b.planes, "/", b.planes_of) : "-"; }

}  // namespace

absl::Status CheckKeyPrefix(std::string_view prefix) {
  if (prefix.size() <= 64 && prefix.find_first_not_of("0123456789abcdef") == std::string_view::npos) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      Cat("'", prefix, "' is no beginning of a key: keys have 64 hexadecimal digits, as `kvasir ls` shows them"));
}

absl::StatusOr<Listing> ListBlocks(const AskedCluster& cluster, const std::string& prefix, uint32_t limit,
                                   Duration timeout) {
  Listing listing;
  for (const AskedNode& node : cluster.nodes) {
    if (!node.status.ok()) continue;
    std::string after;
    for (uint32_t rows = 0; rows < limit;) {
      const ListRequest request{.key_prefix = prefix, .after = after, .limit = std::min(kPageRows, limit - rows)};
      auto page =
          Await<ListReply>(timeout, [&](Answer<ListReply> answer) { node.admin->List(request, std::move(answer)); });
      if (!page.ok()) return Unreachable(node.address, page.status());
      for (BlockInfo& block : page->blocks) listing.rows.push_back({node.id, std::move(block)});
      rows += static_cast<uint32_t>(page->blocks.size());
      after = page->next;
      if (after.empty()) break;
    }
    listing.more = listing.more || !after.empty();
  }
  std::stable_sort(listing.rows.begin(), listing.rows.end(),
                   [](const HeldBlock& a, const HeldBlock& b) { return a.block.key < b.block.key; });
  if (listing.rows.size() > limit) {
    listing.rows.resize(limit);
    listing.more = true;
  }
  return listing;
}

absl::StatusOr<std::vector<HeldBlock>> OneBlock(const AskedCluster& cluster, const std::string& prefix,
                                                Duration timeout) {
  auto listing = ListBlocks(cluster, prefix, kStatRowsMax, timeout);
  if (!listing.ok()) return listing.status();
  std::set<BlockKey> keys;
  for (const HeldBlock& row : listing->rows) keys.insert(row.block.key);
  if (keys.empty()) {
    return absl::NotFoundError(
        Cat("no stored block has a key that begins with ", prefix, ". See what there is: kvasir ls"));
  }
  if (keys.size() > 1) {
    return absl::InvalidArgumentError(Cat(keys.size(), " blocks have a key that begins with ", prefix,
                                          ". Give more digits; see: kvasir ls ", prefix));
  }
  return std::move(listing->rows);
}

Json ToJson(const HeldBlock& row) {
  const BlockInfo& b = row.block;
  return {{"key", ToHex(b.key)},
          {"parent", ToHex(b.parent)},
          {"node", row.node},
          {"namespace", b.namespace_name},
          {"codec", b.spec},
          {"block_index", b.block_index},
          {"token_count", b.token_count},
          {"parts", b.parts},
          {"parts_of", b.parts_of},
          {"planes", b.planes},
          {"planes_of", b.planes_of},
          {"bytes", b.bytes},
          {"dram_bytes", b.dram_bytes},
          {"ssd_bytes", b.ssd_bytes},
          {"idle_s", std::chrono::duration<double>(b.idle).count()},
          {"pins", b.pins}};
}

absl::Status RunList(const GlobalFlags& global, const ListFlags& flags) {
  const std::string prefix = Lower(flags.prefix);
  if (absl::Status checked = CheckKeyPrefix(prefix); !checked.ok()) return checked;
  const auto cluster = AskCluster(global, /*only_named=*/false);
  if (!cluster.ok()) return cluster.status();
  const auto listing = ListBlocks(*cluster, prefix, flags.limit, global.timeout);
  if (!listing.ok()) return listing.status();
  const absl::Status status = WithoutSilent(*cluster, "their blocks are not in the list");
  if (global.json) {
    Json out = {{"blocks", Json::array()}, {"more", listing->more}};
    for (const HeldBlock& row : listing->rows) out["blocks"].push_back(ToJson(row));
    std::printf("%s\n", out.dump(1).c_str());
    return status;
  }
  if (listing->rows.empty()) {
    std::printf("%s\n", prefix.empty() ? "nothing is stored yet. Push some blocks with: kvasir bench"
                                       : Cat("no stored block has a key that begins with ", prefix).c_str());
    return status;
  }
  Table table({"KEY", "BLOCK", "TOKENS", "NAMESPACE", "CODEC", "NODE", "PARTS", "PLANES", "SIZE", "DRAM", "SSD", "IDLE",
               "PINS"});
  for (const HeldBlock& row : listing->rows) {
    const BlockInfo& b = row.block;
    table.Row({ToHex(b.key).substr(0, kKeyDigitsShown), Cat(b.block_index), Cat(b.token_count), b.namespace_name,
               b.spec, row.node, Cat(b.parts, "/", b.parts_of), PlanesOf(b), HumanBytes(b.bytes),
               HumanBytes(b.dram_bytes), HumanBytes(b.ssd_bytes), HumanDuration(b.idle), Cat(b.pins)});
  }
  std::printf("%s", table.Text().c_str());
  if (listing->more) std::printf("\nThere are more. Show them with: kvasir ls --limit %u\n", flags.limit * 10);
  return status;
}

absl::Status RunStat(const GlobalFlags& global, const StatFlags& flags) {
  const std::string prefix = Lower(flags.key);
  if (absl::Status checked = CheckKeyPrefix(prefix); !checked.ok()) return checked;
  const auto cluster = AskCluster(global, /*only_named=*/false);
  if (!cluster.ok()) return cluster.status();
  const auto rows = OneBlock(*cluster, prefix, global.timeout);
  if (!rows.ok()) return rows.status();
  const absl::Status status = WithoutSilent(*cluster, "their copies are not shown");
  if (global.json) {
    Json out = Json::array();
    for (const HeldBlock& row : *rows) out.push_back(ToJson(row));
    std::printf("%s\n", out.dump(1).c_str());
    return status;
  }
  const BlockInfo& first = rows->front().block;
  const auto line = [](const char* name, const std::string& value) { std::printf("%-10s  %s\n", name, value.c_str()); };
  line("key", ToHex(first.key));
  line("parent", ToHex(first.parent));
  line("namespace", first.namespace_name);
  line("block", Cat(first.block_index, " of its chain, ", first.token_count, " tokens"));
  std::printf("\n");
  Table table({"CODEC", "NODE", "PARTS", "PLANES", "SIZE", "DRAM", "SSD", "IDLE", "PINS"});
  for (const HeldBlock& row : *rows) {
    const BlockInfo& b = row.block;
    table.Row({b.spec, row.node, Cat(b.parts, "/", b.parts_of), PlanesOf(b), HumanBytes(b.bytes),
               HumanBytes(b.dram_bytes), HumanBytes(b.ssd_bytes), HumanDuration(b.idle), Cat(b.pins)});
  }
  std::printf("%s", table.Text().c_str());
  return status;
}

}  // namespace kvasir
