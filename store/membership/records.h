// SPDX-License-Identifier: Apache-2.0
// What the membership's keys hold, as JSON that an operator may read with etcdctl:
//
//   /kvasir/<cluster>/cluster        {"cluster_id","run_blocks","epoch_base"}        written once, by the first node
//   /kvasir/<cluster>/members/<id>   {"id","control","shards","weight","zone","state","incarnation","identity"}
//                                    written by that node only, under its lease
//
// Fields that a later version adds are skipped. Everything comes from outside: sizes and ranges are checked.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "store/api/placement.h"

namespace kvasir {

inline constexpr size_t kRecordBytesMax = 4096;     ///< of a value
inline constexpr size_t kClusterNameBytesMax = 64;  ///< of a cluster's name
inline constexpr size_t kIdentityBytesMax = 64;     ///< of a uuid, or of "static:NAME"

struct MemberRecord {
  Member member;             ///< but its epoch, which is the key's revision
  uint64_t incarnation = 0;  ///< of the process: another start is another one
  std::string identity;      ///< of the node's directory: stays over restarts
};
struct ClusterRecord {
  std::string cluster_id;  ///< uuid
  uint32_t run_blocks = 16;
  /// Added to etcd's revisions to make epochs. 0, unless etcd lost its history and began to count anew: epochs must
  /// grow.
  uint64_t epoch_base = 0;
  friend bool operator==(const ClusterRecord&, const ClusterRecord&) = default;
};

std::string ClusterPrefix(std::string_view cluster);
std::string ClusterKey(std::string_view cluster);
std::string MembersPrefix(std::string_view cluster);
/// What stands in a key and is read by people: letters, digits and . _ - only; InvalidArgument says so.
absl::Status CheckKeyName(std::string_view what, std::string_view name, size_t bytes_max);

std::string FormatMemberRecord(const MemberRecord& record);
/// `id` is what the key says. InvalidArgument says what is wrong with the value.
absl::StatusOr<MemberRecord> ParseMemberRecord(std::string_view id, std::string_view value);
std::string FormatClusterRecord(const ClusterRecord& record);
absl::StatusOr<ClusterRecord> ParseClusterRecord(std::string_view value);

/// A membership as text and back, for the view on disk; every member is checked as above.
std::string FormatView(const Membership& membership);
absl::StatusOr<Membership> ParseView(std::string_view text);

}  // namespace kvasir
