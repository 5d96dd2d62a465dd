// SPDX-License-Identifier: Apache-2.0
// MemberView: the keys of one cluster as etcd has them, kept up to date by changes, and the Membership that follows.
//
// The view at a revision is a function of etcd's content alone: two nodes that have seen the same changes have the same
// members and the same epoch. So a value that cannot be read is no member, whatever it was before. Not thread safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "store/membership/key_value.h"
#include "store/membership/records.h"

namespace kvasir {

class MemberView {
 public:
  /// A member's key. `record` is empty when its value says nothing that can be used, `why` says why.
  struct Key {
    KeyValue::Entry entry;
    std::optional<MemberRecord> record;
    std::string why;
  };
  static constexpr uint32_t kEntriesMax = Membership::kMembersMax + 16;  ///< that are asked of etcd at once

  explicit MemberView(const std::string& cluster);

  /// All keys of the cluster at one revision. Members that are as before keep the epoch.
  void Reset(const KeyValue::RangeReply& keys);
  /// The next changes. Those of revisions that were seen are skipped.
  void Apply(const std::vector<KeyValue::Change>& changes);

  /// The last revision all of whose changes are in here.
  uint64_t revision() const { return revision_; }
  const Key* Find(const std::string& id) const;
  /// The cluster's record as far as it can be read, and its key's last change (0 = there is no such key).
  const std::optional<ClusterRecord>& cluster() const { return cluster_; }
  uint64_t cluster_modified() const { return cluster_modified_; }
  /// Members that can be read, at most kMembersMax, with epochs; `epoch` is the revision of the last change (after a
  /// Reset that brought other members: the revision they were read at, because deletions leave no trace).
  Membership Current() const;
  /// What was found to be unreadable since the last call, a sentence each.
  std::vector<std::string> TakeComplaints();

 private:
  static constexpr size_t kComplaintsMax = 16;       ///< kept until they are taken
  static constexpr size_t kComplaintBytesMax = 256;  ///< of each: a key may be long

  void Apply(const KeyValue::Change& change);
  void Set(const KeyValue::Entry& entry);
  void Complain(std::string why);

  const std::string members_prefix_, cluster_key_;
  std::map<std::string, Key> keys_;  // by id
  std::optional<ClusterRecord> cluster_;
  uint64_t cluster_modified_ = 0;
  uint64_t revision_ = 0;
  uint64_t changed_ = 0;  // the revision of the last change to a member or to epoch_base
  std::vector<std::string> complaints_;
};

}  // namespace kvasir
