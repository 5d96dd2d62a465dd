// SPDX-License-Identifier: Apache-2.0
// Keys to members. A change of one key touches that key only.
#include "store/membership/member_view.h"

#include <algorithm>
#include <utility>

namespace kvasir {

MemberView::MemberView(const std::string& cluster)
    : members_prefix_(MembersPrefix(cluster)), cluster_key_(ClusterKey(cluster)) {}

void MemberView::Reset(const KeyValue::RangeReply& keys) {
  const Membership before = Current();
  keys_.clear();
  cluster_.reset();
  cluster_modified_ = 0;
  for (const KeyValue::Entry& entry : keys.entries) Set(entry);
  if (keys.more) Complain("there are more than " + std::to_string(kEntriesMax) + " keys; the rest is not looked at");
  revision_ = keys.revision;
  Membership now = Current();
  now.epoch = before.epoch;
  if (changed_ == 0 || changed_ > revision_ || now != before) changed_ = revision_;
}

void MemberView::Apply(const std::vector<KeyValue::Change>& changes) {
  const uint64_t seen = revision_;  // a transaction's changes share a revision
  for (const KeyValue::Change& change : changes) {
    if (change.entry.modified > seen) Apply(change);
  }
}

void MemberView::Apply(const KeyValue::Change& change) {
  const KeyValue::Entry& entry = change.entry;
  const bool member = entry.key.starts_with(members_prefix_);
  const uint64_t base = cluster_.has_value() ? cluster_->epoch_base : 0;
  if (!change.deleted) {
    Set(entry);
  } else if (member) {
    keys_.erase(entry.key.substr(members_prefix_.size()));
  } else if (entry.key == cluster_key_) {
    cluster_.reset();
    cluster_modified_ = 0;
  }
  revision_ = entry.modified;
  if (member || (cluster_.has_value() && cluster_->epoch_base != base)) changed_ = revision_;
}

void MemberView::Set(const KeyValue::Entry& entry) {
  if (entry.key == cluster_key_) {
    auto record = ParseClusterRecord(entry.value);
    cluster_modified_ = entry.modified;
    cluster_.reset();
    if (!record.ok()) return Complain(entry.key + " cannot be used: " + std::string(record.status().message()));
    cluster_ = *std::move(record);
    return;
  }
  if (!entry.key.starts_with(members_prefix_)) return;
  if (keys_.size() >= kEntriesMax && !keys_.contains(entry.key.substr(members_prefix_.size()))) {
    return Complain(entry.key + " is one key too many");
  }
  Key key;
  key.entry = entry;
  key.entry.value.clear();
  const std::string id = entry.key.substr(members_prefix_.size());
  auto record = ParseMemberRecord(id, entry.value);
  if (record.ok()) key.record = *std::move(record);
  if (!record.ok()) {
    key.why = std::string(record.status().message());
    Complain(entry.key + " is no member: " + key.why);
  }
  keys_[id] = std::move(key);
}

const MemberView::Key* MemberView::Find(const std::string& id) const {
  const auto at = keys_.find(id);
  return at == keys_.end() ? nullptr : &at->second;
}

Membership MemberView::Current() const {
  const uint64_t base = cluster_.has_value() ? cluster_->epoch_base : 0;
  Membership membership;
  membership.epoch = base + changed_;
  for (const auto& [id, key] : keys_) {
    if (!key.record.has_value() || membership.members.size() == Membership::kMembersMax) continue;
    membership.members.push_back(key.record->member);
    membership.members.back().epoch = base + key.entry.modified;
  }
  return membership;
}

void MemberView::Complain(std::string why) {
  if (why.size() > kComplaintBytesMax) why.resize(kComplaintBytesMax);
  if (complaints_.size() < kComplaintsMax) complaints_.push_back(std::move(why));
}

std::vector<std::string> MemberView::TakeComplaints() { return std::exchange(complaints_, {}); }

}  // namespace kvasir
