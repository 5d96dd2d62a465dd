// SPDX-License-Identifier: Apache-2.0
// JSON of member, cluster and view. A field that is there must be right; who reads a view of members is told by id.
#include "store/membership/records.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvasir {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kIdBytesMax = 128;
constexpr size_t kControlBytesMax = 262;  // the longest host name, colon, port
constexpr size_t kZoneBytesMax = 128;
constexpr uint64_t kShardsMax = 256;
constexpr uint64_t kWeightMax = 1'000'000;
constexpr uint64_t kRunBlocksMax = 65536;
constexpr int kViewFormat = 1;

absl::Status Bad(const std::string& why) { return absl::InvalidArgumentError(why); }

/// Reads fields, remembers the first complaint.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(object) {
    if (!object.is_object()) status_ = Bad("it is not a JSON object");
  }
  std::string Text(const char* name, size_t bytes_max, const char* fallback = nullptr) {
    const Json* value = Find(name, fallback == nullptr);
    if (value == nullptr) return fallback == nullptr ? "" : fallback;
    if (!value->is_string()) return Refuse(name, "is not a text"), "";
    const std::string text = value->get<std::string>();
    const bool plain = std::all_of(text.begin(), text.end(),
                                   [](char c) { return static_cast<unsigned char>(c) >= 0x20 && c != 0x7f; });
    if (text.size() > bytes_max) Refuse(name, "has more than " + std::to_string(bytes_max) + " bytes");
    if (!plain) Refuse(name, "holds control characters");
    return text;
  }
  uint64_t Number(const char* name, uint64_t min, uint64_t max, const uint64_t* fallback = nullptr) {
    const Json* value = Find(name, fallback == nullptr);
    if (value == nullptr) return fallback == nullptr ? min : *fallback;
    if (!value->is_number_unsigned() || value->get<uint64_t>() < min || value->get<uint64_t>() > max) {
      return Refuse(name, "is not a whole number from " + std::to_string(min) + " to " + std::to_string(max)), min;
    }
    return value->get<uint64_t>();
  }
  const Json* Find(const char* name, bool needed) {
    if (!object_.is_object()) return nullptr;
    const auto at = object_.find(name);
    if (at != object_.end()) return &*at;
    if (needed) Refuse(name, "is missing");
    return nullptr;
  }
  void Refuse(const char* name, const std::string& why) {
    if (status_.ok()) status_ = Bad(absl::StrCat("\"", name, "\" ", why));
  }
  const absl::Status& status() const { return status_; }

 private:
  const Json& object_;
  absl::Status status_;
};

/// 64 bits as 16 hexadecimal digits: not every reader of JSON keeps whole numbers of this size.
std::string Hex(uint64_t number) {
  std::string text(16, '0');
  for (size_t i = 16; i-- > 0; number >>= 4) text[i] = "0123456789abcdef"[number & 15];
  return text;
}

bool HasPort(std::string_view control) {
  const size_t colon = control.rfind(':');
  uint16_t port = 0;
  if (colon == std::string_view::npos || colon == 0) return false;
  const std::string_view digits = control.substr(colon + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return error == std::errc() && end == digits.data() + digits.size() && port != 0;
}

Json ToJson(const Member& m) {
  return {{"id", m.id},         {"control", m.control}, {"shards", m.shards},
          {"weight", m.weight}, {"zone", m.zone},       {"state", Name(m.state)}};
}

Member ReadMember(Fields& fields) {
  Member member;
  member.id = fields.Text("id", kIdBytesMax);
  member.control = fields.Text("control", kControlBytesMax);
  member.shards = static_cast<uint32_t>(fields.Number("shards", 1, kShardsMax));
  member.weight = static_cast<uint32_t>(fields.Number("weight", 1, kWeightMax));
  member.zone = fields.Text("zone", kZoneBytesMax, "");
  const std::string state = fields.Text("state", 32);
  // A state of a later version: nothing new goes there, and what it has can still be asked for.
  member.state = ParseMemberState(state).value_or(MemberState::kCordoned);
  if (member.id.empty()) fields.Refuse("id", "is empty");
  if (!HasPort(member.control)) fields.Refuse("control", "is not HOST:PORT");
  return member;
}

absl::StatusOr<Json> Parse(std::string_view text, size_t bytes_max) {
  if (text.size() > bytes_max)
    return Bad("it has " + std::to_string(text.size()) + " bytes; at most " + std::to_string(bytes_max) + " are read");
  Json document = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return Bad("it is not JSON");
  return document;
}

/// Never throws: bytes that are no UTF-8 become U+FFFD.
std::string Dump(const Json& document, int indent = -1) {
  return document.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

std::string ClusterPrefix(std::string_view cluster) { return "/kvasir/" + std::string(cluster) + "/"; }
std::string ClusterKey(std::string_view cluster) { return ClusterPrefix(cluster) + "cluster"; }
std::string MembersPrefix(std::string_view cluster) { return ClusterPrefix(cluster) + "members/"; }

absl::Status CheckKeyName(std::string_view what, std::string_view name, size_t bytes_max) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
  };
  if (!name.empty() && name.size() <= bytes_max && std::all_of(name.begin(), name.end(), allowed))
    return absl::OkStatus();
  return Bad(std::string(what) + " '" + std::string(name) + "' must have 1 to " + std::to_string(bytes_max) +
             " letters, digits, dots, underscores or dashes: it becomes part of a key in etcd");
}

std::string FormatMemberRecord(const MemberRecord& record) {
  Json object = ToJson(record.member);
  object["incarnation"] = Hex(record.incarnation);
  object["identity"] = record.identity;
  return Dump(object);
}

absl::StatusOr<MemberRecord> ParseMemberRecord(std::string_view id, std::string_view value) {
  const auto document = Parse(value, kRecordBytesMax);
  if (!document.ok()) return document.status();
  Fields fields(*document);
  MemberRecord record;
  record.member = ReadMember(fields);
  const std::string incarnation = fields.Text("incarnation", 16);
  const auto [end, error] =
      std::from_chars(incarnation.data(), incarnation.data() + incarnation.size(), record.incarnation, 16);
  if (error != std::errc() || end != incarnation.data() + incarnation.size())
    fields.Refuse("incarnation", "is not hexadecimal");
  record.identity = fields.Text("identity", kIdentityBytesMax);
  if (record.member.id != id)
    fields.Refuse("id", "is '" + record.member.id + "', but the key says '" + std::string(id) + "'");
  if (!fields.status().ok()) return fields.status();
  return record;
}

std::string FormatClusterRecord(const ClusterRecord& record) {
  return Dump(
      {{"cluster_id", record.cluster_id}, {"run_blocks", record.run_blocks}, {"epoch_base", record.epoch_base}});
}

absl::StatusOr<ClusterRecord> ParseClusterRecord(std::string_view value) {
  const auto document = Parse(value, kRecordBytesMax);
  if (!document.ok()) return document.status();
  Fields fields(*document);
  constexpr uint64_t kNoBase = 0;
  ClusterRecord record;
  record.cluster_id = fields.Text("cluster_id", kIdentityBytesMax);
  record.run_blocks = static_cast<uint32_t>(fields.Number("run_blocks", 1, kRunBlocksMax));
  record.epoch_base = fields.Number("epoch_base", 0, UINT64_MAX / 2, &kNoBase);
  if (record.cluster_id.empty()) fields.Refuse("cluster_id", "is empty");
  if (!fields.status().ok()) return fields.status();
  return record;
}

std::string FormatView(const Membership& membership) {
  Json document = {{"format", kViewFormat}, {"epoch", membership.epoch}, {"members", Json::array()}};
  for (const Member& member : membership.members) {
    Json object = ToJson(member);
    object["epoch"] = member.epoch;
    document["members"].push_back(std::move(object));
  }
  return Dump(document, 1) + "\n";
}

absl::StatusOr<Membership> ParseView(std::string_view text) {
  const auto document = Parse(text, Membership::kMembersMax * kRecordBytesMax);
  if (!document.ok()) return document.status();
  Fields fields(*document);
  Membership view;
  fields.Number("format", kViewFormat, kViewFormat);
  view.epoch = fields.Number("epoch", 1, UINT64_MAX);
  const Json* members = fields.Find("members", true);
  if (members != nullptr && (!members->is_array() || members->size() > Membership::kMembersMax)) {
    fields.Refuse("members", "is not a list of at most " + std::to_string(Membership::kMembersMax));
  }
  if (!fields.status().ok()) return fields.status();
  for (const Json& object : *members) {
    Fields of(object);
    view.members.push_back(ReadMember(of));
    view.members.back().epoch = of.Number("epoch", 0, UINT64_MAX);
    if (!of.status().ok()) return of.status();
  }
  const auto by_id = [](const Member& a, const Member& b) { return a.id < b.id; };
  std::sort(view.members.begin(), view.members.end(), by_id);
  const auto twice = [](const Member& a, const Member& b) { return a.id == b.id; };
  if (std::adjacent_find(view.members.begin(), view.members.end(), twice) != view.members.end())
    return Bad("a member is there twice");
  return view;
}

}  // namespace kvasir
