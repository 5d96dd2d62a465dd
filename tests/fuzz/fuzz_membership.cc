// SPDX-License-Identifier: Apache-2.0
// What etcd's keys and the cached view may hold: what is believed is in range and comes back the same.
#include "store/membership/member_view.h"
#include "tests/fuzz/fuzz.h"

namespace kvasir::fuzzing {

void Run(std::span<const uint8_t> input) {
  const std::string_view bytes(reinterpret_cast<const char*>(input.data()), input.size());
  if (const auto record = ParseMemberRecord("a", bytes); record.ok()) {
    const Member& m = record->member;
    Require(m.id == "a" && m.shards >= 1 && m.shards <= 256 && m.weight >= 1 && m.weight <= 1'000'000, "in range");
    const auto again = ParseMemberRecord("a", FormatMemberRecord(*record));
    Require(again.ok() && again->member == m && again->incarnation == record->incarnation && again->identity == record->identity, "comes back");
  } else {
    Require(!record.status().message().empty(), "a refusal says why");
  }
  if (const auto cluster = ParseClusterRecord(bytes); cluster.ok()) {
    const auto again = ParseClusterRecord(FormatClusterRecord(*cluster));
    Require(again.ok() && *again == *cluster, "comes back");
  }
  if (const auto view = ParseView(bytes); view.ok()) {
    Require(view->members.size() <= Membership::kMembersMax, "not too many");
    const auto again = ParseView(FormatView(*view));
    Require(again.ok() && *again == *view, "comes back");
  }
  MemberView view("c");
  const size_t cut = bytes.find('\n');
  const std::string key(bytes.substr(0, cut)), value(cut == bytes.npos ? "" : bytes.substr(cut + 1));
  view.Reset({.revision = 1, .entries = {{"/kvasir/c/members/" + key, value, 1, 1, 0}, {"/kvasir/c/cluster", value, 1, 1, 0}}, .more = false});
  view.Apply({{false, {key, value, 2, 2, 0}}, {true, {key, "", 0, 2, 0}}});
  for (const Member& m : view.Current().members) Require(m.id == key, "a member is what its key says");
}

std::vector<std::string> Seeds() {
  MemberRecord record;
  record.member = {"a", "10.0.0.1:7070", 2, 64, "r1", MemberState::kJoining, 0};
  record.incarnation = 7;
  record.identity = "0a1b2c3d-0000-4000-8000-000000000001";
  const std::string member = FormatMemberRecord(record);
  return {member, FormatClusterRecord({"id", 16, 9}), FormatView({9, {record.member}}), "a\n" + member};
}

}  // namespace kvasir::fuzzing
