// SPDX-License-Identifier: Apache-2.0
// Goal: records come back as they were written, and nothing that is not one is taken for one. Method: round trips;
// every field missing, of another type, out of range; every byte of a record flipped and cut.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "store/membership/member_view.h"
#include "store/membership/records.h"

namespace kvasir::testing {
namespace {

using nlohmann::json;

MemberRecord Sample() {
  MemberRecord record;
  record.member = {"node-1", "[fe80::1]:7070", 4, 640, "rack \"7\"", MemberState::kDraining, 0};
  record.incarnation = 0xfedcba9876543210u;
  record.identity = "0a1b2c3d-0000-4000-8000-000000000001";
  return record;
}

void ExpectRefused(const json& changed, const std::string& says) {
  const auto record = ParseMemberRecord("node-1", changed.dump());
  ASSERT_FALSE(record.ok()) << changed;
  EXPECT_NE(std::string(record.status().message()).find(says), std::string::npos)
      << record.status() << " for " << changed;
}

TEST(Records, MemberComesBack) {
  const MemberRecord written = Sample();
  const auto read = ParseMemberRecord("node-1", FormatMemberRecord(written));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->member, written.member);
  EXPECT_EQ(read->incarnation, written.incarnation);
  EXPECT_EQ(read->identity, written.identity);
}

TEST(Records, EveryFieldMissingOrOfAnotherType) {
  const json whole = json::parse(FormatMemberRecord(Sample()));
  for (const auto& [name, value] : whole.items()) {
    json without = whole, other = whole;
    without.erase(name);
    other[name] = value.is_string() ? json(7) : json("seven");
    if (name != "zone") ExpectRefused(without, json(name).dump() + " is missing");
    ExpectRefused(other, json(name).dump() + " is not");
  }
}

TEST(Records, EveryFieldOutOfRange) {
  const json whole = json::parse(FormatMemberRecord(Sample()));
  const std::vector<std::pair<std::string, json>> bad = {{"id", ""},
                                                         {"id", "node-2"},
                                                         {"id", std::string(129, 'x')},
                                                         {"control", "nowhere"},
                                                         {"control", ":7070"},
                                                         {"control", "host:0"},
                                                         {"control", "host:65536"},
                                                         {"control", "host:7070x"},
                                                         {"control", std::string(300, 'h') + ":1"},
                                                         {"shards", 0},
                                                         {"shards", 257},
                                                         {"shards", -1},
                                                         {"shards", 1.5},
                                                         {"weight", 0},
                                                         {"weight", 1'000'001},
                                                         {"zone", std::string(129, 'z')},
                                                         {"zone", "a\nb"},
                                                         {"state", std::string(33, 's')},
                                                         {"incarnation", "xyz"},
                                                         {"incarnation", ""},
                                                         {"identity", std::string(65, 'i')}};
  for (const auto& [name, value] : bad) {
    json changed = whole;
    changed[name] = value;
    ExpectRefused(changed, json(name).dump());
  }
}

TEST(Records, LaterVersionsAreUnderstoodAsFarAsCanBe) {
  json later = json::parse(FormatMemberRecord(Sample()));
  later["colour"] = {{"any", "thing"}};
  later["state"] = "hibernating";
  const auto record = ParseMemberRecord("node-1", later.dump());
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->member.state, MemberState::kCordoned) << "takes nothing new, may be asked for what it has";
}

TEST(Records, DamagedBytesAreRefusedOrWellFormed) {
  const std::string whole = FormatMemberRecord(Sample());
  size_t refused = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_FALSE(ParseMemberRecord("node-1", std::string_view(whole).substr(0, i)).ok()) << i;
    for (const int bit : {0, 3, 7}) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << bit));
      const auto record = ParseMemberRecord("node-1", damaged);
      if (!record.ok()) ++refused;
      EXPECT_TRUE(!record.ok() || ParseMemberRecord("node-1", FormatMemberRecord(*record)).ok()) << damaged;
    }
  }
  EXPECT_GT(refused, whole.size());
  EXPECT_FALSE(ParseMemberRecord("node-1", std::string(kRecordBytesMax + 1, ' ')).ok());
  EXPECT_FALSE(ParseMemberRecord("node-1", std::string(kRecordBytesMax, '[')).ok()) << "depth";
  EXPECT_FALSE(ParseMemberRecord("node-1", "").ok());
}

TEST(Records, Cluster) {
  const ClusterRecord written{"0a1b2c3d-0000-4000-8000-000000000001", 32, 12345};
  EXPECT_EQ(*ParseClusterRecord(FormatClusterRecord(written)), written);
  EXPECT_EQ(ParseClusterRecord(R"({"cluster_id":"c","run_blocks":16})")->epoch_base, 0u);
  for (const char* bad : {"", "{}", "7", R"({"cluster_id":"","run_blocks":16})", R"({"cluster_id":"c","run_blocks":0})",
                          R"({"cluster_id":"c","run_blocks":16,"epoch_base":-1})",
                          R"({"cluster_id":"c","run_blocks":16,"epoch_base":18446744073709551615})"}) {
    EXPECT_FALSE(ParseClusterRecord(bad).ok()) << bad;
  }
}

TEST(Records, ViewComesBackAndEveryChangeOfItIsSeen) {
  Membership view{
      77, {{"a", "h:1", 1, 5, "", MemberState::kServing, 70}, {"b", "h:2", 2, 6, "z", MemberState::kJoining, 77}}};
  EXPECT_EQ(*ParseView(FormatView(view)), view);
  view.members.push_back(view.members[1]);
  EXPECT_FALSE(ParseView(FormatView(view)).ok()) << "twice";
  EXPECT_FALSE(ParseView("").ok());
  EXPECT_FALSE(ParseView(R"({"format":2,"epoch":1,"members":[]})").ok());
  EXPECT_FALSE(ParseView(R"({"format":1,"epoch":0,"members":[]})").ok());
  EXPECT_FALSE(ParseView(R"({"format":1,"epoch":1,"members":[7]})").ok());
}

TEST(Records, NamesThatMayStandInAKey) {
  for (const char* good : {"a", "node-1", "kvasir_0.default"}) EXPECT_TRUE(CheckKeyName("id", good, 128).ok()) << good;
  for (const std::string& bad :
       {std::string(), std::string("a/b"), std::string("a b"), std::string("ä"), std::string(129, 'x')}) {
    EXPECT_FALSE(CheckKeyName("id", bad, 128).ok()) << bad;
  }
}

// ---- view -----------------------------------------------------------------------------------------------------------
KeyValue::Entry Key(const std::string& id, uint64_t modified) {
  MemberRecord record = Sample();
  record.member.id = id;
  return {"/kvasir/c/members/" + id, FormatMemberRecord(record), modified, modified, 1};
}

TEST(MemberView, ChangesAndAFreshReadingAgree) {
  MemberView watched("c"), read("c");
  watched.Reset({.revision = 5, .entries = {Key("a", 3), Key("b", 5)}, .more = false});
  watched.Apply({{false, Key("c", 6)}});
  watched.Apply({{true, {"/kvasir/c/members/a", "", 0, 9, 0}}, {false, Key("d", 9)}});  // one transaction
  EXPECT_EQ(watched.revision(), 9u);
  read.Reset({.revision = 9, .entries = {Key("b", 5), Key("c", 6), Key("d", 9)}, .more = false});
  EXPECT_EQ(watched.Current(), read.Current());
  EXPECT_EQ(watched.Current().epoch, 9u);
  EXPECT_EQ(watched.Current().Find("b")->epoch, 5u);
}

TEST(MemberView, OldAndForeignChangesChangeNothing) {
  MemberView view("c");
  view.Reset({.revision = 5, .entries = {Key("a", 3)}, .more = false});
  const Membership before = view.Current();
  view.Apply({{true, {"/kvasir/c/members/a", "", 0, 4, 0}}});
  view.Apply({{false, {"/kvasir/c/notes", "x", 6, 6, 0}}});
  EXPECT_EQ(view.Current(), before);
  view.Reset({.revision = 20, .entries = {Key("a", 3)}, .more = false});
  EXPECT_EQ(view.Current(), before) << "the same members: the same epoch";
}

TEST(MemberView, EpochBaseLiftsAllEpochs) {
  MemberView view("c");
  view.Reset({.revision = 5,
              .entries = {{"/kvasir/c/cluster", FormatClusterRecord({"id", 16, 1000}), 4, 4, 0}, Key("a", 3)},
              .more = false});
  EXPECT_EQ(view.Current().epoch, 1005u);
  EXPECT_EQ(view.Current().Find("a")->epoch, 1003u);
  view.Apply({{false, {"/kvasir/c/cluster", FormatClusterRecord({"id", 16, 2000}), 4, 6, 0}}});
  EXPECT_EQ(view.Current().epoch, 2006u);
}

TEST(MemberView, TooManyKeysAreCutAndTold) {
  MemberView view("c");
  view.Reset({.revision = 1, .entries = {}, .more = true});
  for (uint32_t i = 0; i < MemberView::kEntriesMax + 50; ++i) view.Apply({{false, Key(std::to_string(i), 2 + i)}});
  EXPECT_EQ(view.Current().members.size(), Membership::kMembersMax);
  const std::vector<std::string> told = view.TakeComplaints();
  ASSERT_FALSE(told.empty());
  EXPECT_LE(told.size(), 16u);
  EXPECT_NE(told[0].find("more than"), std::string::npos);
}

}  // namespace
}  // namespace kvasir::testing
