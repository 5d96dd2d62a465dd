// SPDX-License-Identifier: Apache-2.0
// The static member list of a cluster: one JSON file, the same on every node.
//
//   {"cluster": "prod", "epoch": 1, "run_blocks": 16,
//    "members": [{"id": "a", "control": "10.0.0.1:7070", "shards": 1, "weight": 100, "zone": "r1"}]}
//
// id and control are needed; shards 1, weight 100, zone "" (its own), epoch 1 and run_blocks 16 are the defaults. A node's
// directory remembers the cluster's name, if it has one, and is refused to a node of another cluster.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "store/api/placement.h"

namespace kvasir {

inline constexpr uint64_t kMembersFileBytesMax = 4ull << 20;
inline constexpr uint32_t kShardsMax = 256;
inline constexpr uint32_t kWeightMax = 1'000'000;
inline constexpr uint32_t kRunBlocksMax = 65536;
inline constexpr size_t kMemberIdBytesMax = 128;
inline constexpr size_t kClusterBytesMax = 48;

struct MemberList {
  std::string cluster;                 ///< name, "" = it has none
  Membership membership;               ///< sorted by id
  std::optional<uint32_t> run_blocks;  ///< as the file says, if it does
};

/// Reads the text of a list. `where` (a file name) begins every message. InvalidArgument names the entry and field: not
/// JSON, an unknown field, no member, a member twice, two members at one address, a number out of range.
absl::StatusOr<MemberList> ParseMembers(std::string_view json, std::string_view where);
/// What holds for the node `self` on top: it is in the list, and `shards` (if given) is what the list says.
absl::StatusOr<Member> FindSelf(const MemberList& list, std::string_view self, std::optional<uint32_t> shards,
                                std::string_view where);
/// The list as JSON text, as ParseMembers reads it.
std::string FormatMembers(const MemberList& list);

}  // namespace kvasir
