// SPDX-License-Identifier: Apache-2.0
// Blocks that nodes hold, asked of many nodes.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/kvasir/nodes.h"

namespace kvasir {

inline constexpr size_t kKeyDigitsShown = 16;

/// A block in one view on one node.
struct HeldBlock {
  std::string node;
  BlockInfo block;
};
struct Listing {
  std::vector<HeldBlock> rows;  ///< by key, then by node
  bool more = false;            ///< some were left out
};

/// InvalidArgument unless it is a beginning of a key in lower case hexadecimal.
absl::Status CheckKeyPrefix(std::string_view prefix);
/// Blocks whose key begins with `prefix`, at most `limit` in all, of the nodes that answered. Unavailable names the
/// node that answered a moment ago and does no more.
absl::StatusOr<Listing> ListBlocks(const AskedCluster& cluster, const std::string& prefix, uint32_t limit,
                                   Duration timeout);
/// All copies of the one block whose key begins with `prefix`. NotFound where nothing is stored under it,
/// InvalidArgument where several blocks begin so.
absl::StatusOr<std::vector<HeldBlock>> OneBlock(const AskedCluster& cluster, const std::string& prefix,
                                                Duration timeout);

nlohmann::ordered_json ToJson(const HeldBlock& row);

}  // namespace kvasir
