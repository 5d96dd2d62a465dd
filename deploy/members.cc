// SPDX-License-Identifier: Apache-2.0
// The member list's reader: every mistake a person makes in such a file has its own sentence.
#include "deploy/members.h"

#include <algorithm>
#include <map>

#include "deploy/flags.h"
#include "deploy/json_fields.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

absl::StatusOr<Member> ParseMember(const nlohmann::json& object, const std::string& where) {
  Member member;
  JsonFields fields(object, where);
  fields.Text("id", true, &member.id);
  fields.Text("control", true, &member.control);
  fields.Number("shards", false, 1, kShardsMax, &member.shards);
  fields.Number("weight", false, 1, kWeightMax, &member.weight);
  fields.Text("zone", false, &member.zone);
  if (absl::Status status = fields.status(); !status.ok()) return status;
  if (member.id.empty() || member.id.size() > kMemberIdBytesMax) {
    return absl::InvalidArgumentError(Cat(where, ": \"id\" must have 1 to ", kMemberIdBytesMax, " bytes"));
  }
  const auto control = ParseHostPort(member.control);
  if (!control.ok()) return absl::InvalidArgumentError(Cat(where, ": \"control\": ", control.status().message()));
  if (control->port == 0) {
    return absl::InvalidArgumentError(Cat(where, ": \"control\" has port 0; others could not find it"));
  }
  return member;
}

absl::Status CheckDistinct(const std::vector<Member>& members, std::string_view where) {
  std::map<std::string, size_t> ids, controls;
  for (size_t i = 0; i < members.size(); ++i) {
    const auto [id, new_id] = ids.try_emplace(members[i].id, i + 1);
    if (!new_id) {
      return absl::InvalidArgumentError(Cat(where, ": node \"", members[i].id, "\" is there twice, as member ",
                                            id->second, " and member ", i + 1,
                                            ". Remove one or give it an id of its own"));
    }
    const auto [control, new_control] = controls.try_emplace(members[i].control, i + 1);
    if (!new_control) {
      return absl::InvalidArgumentError(Cat(where, ": members ", control->second, " (\"",
                                            members[control->second - 1].id, "\") and ", i + 1, " (\"", members[i].id,
                                            "\") have the same address ", members[i].control, ". Give each its own"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MemberList> ParseMembers(std::string_view json, std::string_view where) {
  const auto document = ParseJson(json, where);
  if (!document.ok()) return document.status();
  MemberList list;
  list.membership.epoch = 1;
  JsonFields fields(*document, std::string(where));
  fields.Text("cluster", false, &list.cluster);
  if (list.cluster.size() > kClusterBytesMax) fields.Refuse(Cat("\"cluster\" has more than ", kClusterBytesMax, " bytes"));
  fields.Number("epoch", false, 1, UINT64_MAX, &list.membership.epoch);
  if (uint32_t run = 0; fields.Find("run_blocks", false) != nullptr) {
    fields.Number("run_blocks", false, 1, kRunBlocksMax, &run);
    list.run_blocks = run;
  }
  const nlohmann::json* members = fields.Find("members", true);
  if (members != nullptr && !members->is_array()) fields.Refuse("\"members\" must be a list [...]");
  if (absl::Status status = fields.status(); !status.ok()) return status;
  if (members->empty()) {
    return absl::InvalidArgumentError(
        Cat(where, ": \"members\" is empty. Name every node of the cluster in it, this one too"));
  }
  if (members->size() > Membership::kMembersMax) {
    return absl::InvalidArgumentError(
        Cat(where, ": ", members->size(), " members; at most ", Membership::kMembersMax, " are allowed"));
  }
  for (size_t i = 0; i < members->size(); ++i) {
    auto member = ParseMember((*members)[i], Cat(where, ": member ", i + 1));
    if (!member.ok()) return member.status();
    list.membership.members.push_back(*std::move(member));
  }
  if (absl::Status status = CheckDistinct(list.membership.members, where); !status.ok()) return status;
  // A static node's epoch is the list's: whoever has another list is told so.
  for (Member& member : list.membership.members) member.epoch = list.membership.epoch;
  std::sort(list.membership.members.begin(), list.membership.members.end(),
            [](const Member& a, const Member& b) { return a.id < b.id; });
  return list;
}

absl::StatusOr<Member> FindSelf(const MemberList& list, std::string_view self, std::optional<uint32_t> shards,
                                std::string_view where) {
  std::vector<std::string> ids;
  for (const Member& member : list.membership.members) {
    ids.push_back(member.id);
    if (member.id != self) continue;
    if (shards.has_value() && *shards != member.shards) {
      return absl::InvalidArgumentError(
          Cat("--shards ", *shards, ", but ", where, " gives node \"", self, "\" ", member.shards,
              ". Clients place blocks by the list: leave --shards out, or change the list on every node"));
    }
    return member;
  }
  return absl::InvalidArgumentError(Cat("this node is \"", self, "\" (--id), but ", where, " names only ",
                                        Join(ids, ", "),
                                        ". Add it to the list on every node, or give one of these as --id"));
}

std::string FormatMembers(const MemberList& list) {
  nlohmann::ordered_json document;
  if (!list.cluster.empty()) document["cluster"] = list.cluster;
  document["epoch"] = list.membership.epoch;
  if (list.run_blocks.has_value()) document["run_blocks"] = *list.run_blocks;
  document["members"] = nlohmann::ordered_json::array();
  for (const Member& m : list.membership.members) {
    document["members"].push_back(
        {{"id", m.id}, {"control", m.control}, {"shards", m.shards}, {"weight", m.weight}, {"zone", m.zone}});
  }
  return document.dump(1) + "\n";
}

}  // namespace kvasir
