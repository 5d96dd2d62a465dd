// SPDX-License-Identifier: Apache-2.0
// Goal: a node becomes a member, stays one, and never stops serving, whatever etcd does. Method: cores on a fake etcd
// and a fake clock; each test breaks one thing.
#include "store/membership/membership_core.h"

#include <gtest/gtest.h>

#include "tests/store/membership_sim.h"

namespace kvasir::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const std::string kOwnKey = "/kvasir/default/members/a";

MemberState StateOf(const Sim::Node& in, const std::string& id) {
  const Member* member = in.membership.Find(id);
  return member == nullptr ? MemberState::kDraining : member->state;
}
/// Started and registered.
Sim::Node& Join(Sim& sim, const std::string& id, const std::function<void(MembershipOptions&)>& with = nullptr) {
  Sim::Node& node = sim.Add(id, with);
  EXPECT_TRUE(sim.RunUntil([&] { return node.ready.has_value(); })) << id;
  sim.Register(node);
  EXPECT_TRUE(sim.RunUntil([&] { return node.registered; })) << id;
  return node;
}

TEST(MembershipCore, FirstNodeMakesTheClusterAndRegisters) {
  Sim sim;
  Sim::Node& a = sim.Add("a");
  ASSERT_TRUE(sim.RunUntil([&] { return a.ready.has_value(); }));
  EXPECT_EQ(a.remembered, "cluster-by-a");
  EXPECT_EQ(a.ready->membership.members.size(), 1u) << "itself";
  EXPECT_EQ(sim.etcd.Find(kOwnKey), nullptr) << "it cannot be dialled yet";
  sim.Register(a);
  ASSERT_TRUE(sim.RunUntil([&] { return a.registered; }));
  const KeyValue::Entry* own = sim.etcd.Find(kOwnKey);
  ASSERT_NE(own, nullptr);
  EXPECT_NE(own->lease, 0);
  EXPECT_EQ(StateOf(a, "a"), MemberState::kJoining);
  EXPECT_EQ(a.membership.Find("a")->epoch, own->modified);
  EXPECT_EQ(a.membership.epoch, own->modified);
  const auto cluster = ParseClusterRecord(sim.etcd.Find("/kvasir/default/cluster")->value);
  ASSERT_TRUE(cluster.ok());
  EXPECT_EQ(*cluster, (ClusterRecord{"cluster-by-a", 16, 0}));
}

TEST(MembershipCore, AllSeeTheSameMembersAndEpochs) {
  Sim sim;
  Sim::Node &a = Join(sim, "a"), &b = Join(sim, "b"), &c = Join(sim, "c");
  EXPECT_EQ(b.remembered, "cluster-by-a");
  sim.Run(seconds(1));
  EXPECT_EQ(a.membership.members.size(), 3u);
  EXPECT_EQ(a.membership, b.membership);
  EXPECT_EQ(a.membership, c.membership);
  EXPECT_EQ(a.membership.epoch, sim.etcd.revision());
  sim.Run(seconds(60));
  EXPECT_EQ(a.membership.members.size(), 3u) << "leases are renewed";
  EXPECT_EQ(a.membership.epoch, sim.etcd.revision()) << "renewals change nothing";
  sim.Kill(b);
  EXPECT_TRUE(sim.RunUntil([&] { return a.membership.members.size() == 2; }, seconds(11))) << "its lease ends";
  EXPECT_EQ(a.membership, c.membership);
}

TEST(MembershipCore, AnnounceIsAnsweredWhenTheWatchHasShownIt) {
  Sim sim;
  Sim::Node &a = Join(sim, "a"), &b = Join(sim, "b");
  const uint64_t before = a.membership.Find("a")->epoch;
  const uint64_t id = sim.Announce(a, MemberState::kServing);
  ASSERT_TRUE(sim.RunUntil([&] { return a.announced.contains(id); }));
  EXPECT_TRUE(a.announced[id].ok());
  EXPECT_EQ(StateOf(a, "a"), MemberState::kServing);
  sim.Run(milliseconds(100));
  EXPECT_EQ(StateOf(b, "a"), MemberState::kServing);
  EXPECT_GT(a.membership.Find("a")->epoch, before);
  const uint64_t again = sim.Announce(a, MemberState::kServing);
  sim.Run(milliseconds(100));
  EXPECT_TRUE(a.announced.at(again).ok()) << "it is so already";
}

TEST(MembershipCore, LaterAnnounceReplacesAnEarlierOne) {
  Sim sim;
  Sim::Node& a = Join(sim, "a");
  sim.SetAll(Mood::kSilent);
  const uint64_t cordon = sim.Announce(a, MemberState::kCordoned);
  const uint64_t drain = sim.Announce(a, MemberState::kDraining);
  EXPECT_EQ(a.announced.at(cordon).code(), absl::StatusCode::kAborted);
  ASSERT_TRUE(sim.RunUntil([&] { return a.announced.contains(drain); }));
  EXPECT_EQ(a.announced[drain].code(), absl::StatusCode::kUnavailable);
  const uint64_t later = sim.Announce(a, MemberState::kDraining);
  EXPECT_EQ(a.announced.at(later).code(), absl::StatusCode::kUnavailable) << "it is known that nobody answers";
  sim.SetAll(Mood::kWell);
  EXPECT_TRUE(sim.RunUntil([&] { return StateOf(a, "a") == MemberState::kDraining; })) << "it stays asked for";
}

TEST(MembershipCore, AnnounceThatTheWatchDoesNotShowEndsInTime) {
  Sim sim;
  Sim::Node& a = Join(sim, "a");
  a.watch_stuck = true;
  const uint64_t id = sim.Announce(a, MemberState::kCordoned);
  ASSERT_TRUE(sim.RunUntil([&] { return a.announced.contains(id); }, MembershipCore::kAnnounceMax));
  EXPECT_EQ(a.announced[id].code(), absl::StatusCode::kDeadlineExceeded);
  a.watch_stuck = false;
  EXPECT_TRUE(sim.RunUntil([&] { return StateOf(a, "a") == MemberState::kCordoned; }, seconds(30)));
}

TEST(MembershipCore, RefusedAnnounceLeavesTheNodeAsItWas) {
  Sim sim;
  Sim::Node& a = Join(sim, "a");
  a.refuses_writes = absl::ResourceExhaustedError("etcdserver: mvcc: database space exceeded");
  const uint64_t id = sim.Announce(a, MemberState::kServing);
  ASSERT_TRUE(sim.RunUntil([&] { return a.announced.contains(id); }));
  EXPECT_EQ(a.announced[id].code(), absl::StatusCode::kResourceExhausted);
  sim.Run(seconds(60));
  EXPECT_EQ(StateOf(a, "a"), MemberState::kJoining) << "renewals still work";
  EXPECT_EQ(a.contact.trouble, "");
}

TEST(MembershipCore, LeaveTakesTheKeyOut) {
  Sim sim;
  Sim::Node &a = Join(sim, "a"), &b = Join(sim, "b");
  sim.Leave(a);
  ASSERT_TRUE(sim.RunUntil([&] { return a.left.has_value(); }, seconds(1)));
  EXPECT_TRUE(a.left->ok());
  EXPECT_EQ(sim.etcd.Find(kOwnKey), nullptr);
  sim.Run(seconds(30));
  EXPECT_EQ(sim.etcd.Find(kOwnKey), nullptr) << "it does not come back";
  EXPECT_EQ(b.membership.members.size(), 1u);
}

TEST(MembershipCore, LeaveEndsInTimeWithoutEtcd) {
  Sim sim;
  Sim::Node& a = Join(sim, "a");
  sim.SetAll(Mood::kSilent);
  const uint64_t id = sim.Announce(a, MemberState::kDraining);
  sim.Leave(a);
  EXPECT_EQ(a.announced.at(id).code(), absl::StatusCode::kUnavailable);
  ASSERT_TRUE(sim.RunUntil([&] { return a.left.has_value(); }, MembershipCore::kLeaveMax + seconds(1)));
  EXPECT_EQ(a.left->code(), absl::StatusCode::kDeadlineExceeded);
  Sim other;
  Sim::Node& never = other.Add("a");
  other.Leave(never);
  other.Run(milliseconds(100));
  EXPECT_TRUE(never.left.has_value() && never.left->ok()) << "nothing to take out";
}

// ---- one id, two nodes ----------------------------------------------------------------------------------------------
TEST(MembershipCore, EarlierLifeIsTakenOverAtOnce) {
  for (const bool same_address : {true, false}) {
    Sim sim;
    Sim::Node& a = Join(sim, "a");
    sim.Kill(a);
    const Instant begun = sim.now;
    Sim::Node& again = Join(sim, "a", [&](MembershipOptions& o) {
      if (same_address) o.self.control = "10.0.0.1:7070";  // another directory
      if (!same_address) o.identity = "identity-1";        // another address
    });
    EXPECT_LT(sim.now - begun, seconds(1));
    EXPECT_EQ(again.membership.members.size(), 1u);
    sim.Run(seconds(30));
    EXPECT_NE(sim.etcd.Find(kOwnKey), nullptr) << "the old lease has ended without it";
  }
}

TEST(MembershipCore, StrangerWithOurIdIsWaitedForAndThenRefused) {
  Sim sim;
  Join(sim, "a");
  Sim::Node& other = sim.Add("a");
  EXPECT_FALSE(sim.RunUntil([&] { return other.refused.has_value(); }, seconds(14)));
  EXPECT_TRUE(other.Said("id 'a' is held by the node at 10.0.0.1:7070"));
  EXPECT_EQ(other.said.size(), 1u) << "once";
  ASSERT_TRUE(sim.RunUntil([&] { return other.refused.has_value(); }, seconds(2)));
  EXPECT_EQ(other.refused->code(), absl::StatusCode::kAlreadyExists);
  EXPECT_NE(std::string(other.refused->message()).find("Give this node another --id"), std::string::npos);
  EXPECT_FALSE(other.ready.has_value());
}

TEST(MembershipCore, StrangerThatIsGoneIsWaitedFor) {
  Sim sim;
  Sim::Node& a = Join(sim, "a");
  sim.Kill(a);
  Sim::Node& other = sim.Add("a");
  EXPECT_FALSE(sim.RunUntil([&] { return other.ready.has_value(); }, seconds(8)));
  EXPECT_TRUE(sim.RunUntil([&] { return other.ready.has_value(); }, seconds(4)));
}

TEST(MembershipCore, TwoStartsAtOnceOneWins) {
  Sim sim;
  Sim::Node &a = sim.Add("a"), &b = sim.Add("a");
  ASSERT_TRUE(sim.RunUntil([&] { return a.ready.has_value() && b.ready.has_value(); })) << "nobody has the id yet";
  sim.Register(a);
  sim.Register(b);
  ASSERT_TRUE(
      sim.RunUntil([&] { return (a.registered && b.refused.has_value()) || (b.registered && a.refused.has_value()); }));
  EXPECT_FALSE(a.registered && b.registered);
}

TEST(MembershipCore, LaterLifeIsNotFoughtWith) {
  Sim sim;
  Sim::Node& old = Join(sim, "a");
  Sim::Node& young = Join(sim, "a", [](MembershipOptions& o) { o.identity = "identity-1"; });  // a copied directory
  sim.Run(seconds(30));
  EXPECT_TRUE(old.Said("is held by a later start of this node"));
  EXPECT_FALSE(old.refused.has_value()) << "it serves on";
  EXPECT_EQ(sim.etcd.Find(kOwnKey)->modified, young.membership.Find("a")->epoch);
  const uint64_t modified = sim.etcd.Find(kOwnKey)->modified;
  sim.Run(seconds(30));
  EXPECT_EQ(sim.etcd.Find(kOwnKey)->modified, modified) << "they do not take turns";
  sim.Leave(young);
  EXPECT_TRUE(sim.RunUntil([&] { return old.membership.Find("a") != nullptr && sim.etcd.Find(kOwnKey) != nullptr; },
                           seconds(5)))
      << "free again";
}

// ---- leases ---------------------------------------------------------------------------------------------------------
TEST(MembershipCore, PausedProcessRegistersAgainAsJoining) {
  Sim sim;
  Sim::Node &a = Join(sim, "a"), &b = Join(sim, "b");
  const uint64_t id = sim.Announce(a, MemberState::kServing);
  sim.Run(milliseconds(200));
  ASSERT_TRUE(a.announced.at(id).ok());
  a.paused = true;
  sim.Run(seconds(15));
  EXPECT_EQ(b.membership.Find("a"), nullptr);
  a.paused = false;
  ASSERT_TRUE(sim.RunUntil([&] { return b.membership.Find("a") != nullptr; }, seconds(5)));
  EXPECT_EQ(StateOf(b, "a"), MemberState::kJoining) << "others have taken over meanwhile what it should hold";
  EXPECT_TRUE(a.Said("the lease of this node has ended"));
  sim.Run(seconds(30));
  EXPECT_EQ(a.membership, b.membership);
}

TEST(MembershipCore, CordonedNodeStaysCordonedOverALostLease) {
  Sim sim;
  Sim::Node& a = Join(sim, "a");
  sim.Announce(a, MemberState::kCordoned);
  sim.Run(milliseconds(200));
  a.paused = true;
  sim.Run(seconds(15));
  a.paused = false;
  sim.Run(seconds(5));
  ASSERT_NE(sim.etcd.Find(kOwnKey), nullptr);
  EXPECT_EQ(StateOf(a, "a"), MemberState::kCordoned);
}

TEST(MembershipCore, KeyThatSomebodyDeletedOrSpoiledIsWrittenAgain) {
  Sim sim;
  Sim::Node& a = Join(sim, "a");
  sim.etcd.Drop(kOwnKey);
  EXPECT_TRUE(sim.RunUntil([&] { return sim.etcd.Find(kOwnKey) != nullptr; }, seconds(1)));
  sim.etcd.Put(kOwnKey, "not JSON at all");
  EXPECT_TRUE(sim.RunUntil([&] { return a.membership.Find("a") != nullptr && sim.etcd.Find(kOwnKey)->value[0] == '{'; },
                           seconds(1)));
  sim.Run(seconds(30));
  EXPECT_NE(sim.etcd.Find(kOwnKey), nullptr) << "under a lease that is renewed";
  EXPECT_NE(sim.etcd.Find(kOwnKey)->lease, 0);
}

TEST(MembershipCore, LostRepliesLeaveOneKey) {
  Sim sim;
  Sim::Node& a = sim.Add("a");
  ASSERT_TRUE(sim.RunUntil([&] { return a.ready.has_value(); }));
  sim.Register(a);
  for (int i = 0; i < 20; ++i) {
    sim.SetAll(i % 2 == 0 ? Mood::kLosesReplies : Mood::kWell);
    sim.Run(milliseconds(700));
  }
  sim.SetAll(Mood::kWell);
  ASSERT_TRUE(sim.RunUntil([&] { return a.registered; }));
  sim.Run(seconds(30));
  ASSERT_NE(sim.etcd.Find(kOwnKey), nullptr);
  EXPECT_EQ(a.membership.Find("a")->epoch, sim.etcd.Find(kOwnKey)->modified);
}

TEST(MembershipCore, LostReplyOfAnAnnounceIsFoundInTheView) {
  Sim sim;
  Sim::Node& a = Join(sim, "a");
  sim.Run(milliseconds(2100));  // just renewed
  sim.SetAll(Mood::kLosesReplies);
  const uint64_t id = sim.Announce(a, MemberState::kServing);
  sim.SetAll(Mood::kWell);
  ASSERT_TRUE(sim.RunUntil([&] { return a.announced.contains(id); }));
  EXPECT_TRUE(a.announced[id].ok());
  EXPECT_EQ(a.membership.Find("a")->epoch, sim.etcd.Find(kOwnKey)->modified);
}

// ---- damage ---------------------------------------------------------------------------------------------------------
TEST(MembershipCore, KeysThatAreNoMembersAreToldOnceAndLeftOut) {
  Sim sim;
  Sim::Node& a = Join(sim, "a");
  const std::string members = "/kvasir/default/members/";
  sim.etcd.Put(members + "garbage", "{{{");
  sim.etcd.Put(members + "list", "[1,2]");
  sim.etcd.Put(members + "big", std::string(100'000, 'x'));
  sim.etcd.Put(members + "other", sim.etcd.Find(kOwnKey)->value);  // says it is "a"
  sim.etcd.Put("/kvasir/default/what", "ever");
  sim.Run(seconds(1));
  EXPECT_EQ(a.membership.members.size(), 1u);
  EXPECT_TRUE(a.Said("members/garbage is no member: it is not JSON"));
  EXPECT_TRUE(a.Said("members/list is no member: it is not a JSON object"));
  EXPECT_TRUE(a.Said("members/big is no member: it has 100000 bytes"));
  EXPECT_TRUE(a.Said("\"id\" is 'a', but the key says 'other'"));
  const size_t lines = a.said.size();
  sim.Run(seconds(60));
  EXPECT_EQ(a.said.size(), lines);
  Sim::Node& b = Join(sim, "b");
  sim.Run(seconds(1));
  EXPECT_EQ(a.membership, b.membership) << "whoever reads them later says the same";
}

TEST(MembershipCore, MemberThatBecomesUnreadableIsNoMember) {
  Sim sim;
  Sim::Node &a = Join(sim, "a"), &b = Join(sim, "b");
  sim.etcd.Put(kOwnKey, "spoilt", sim.etcd.Find(kOwnKey)->lease);
  sim.Run(milliseconds(100));
  EXPECT_TRUE(
      sim.RunUntil([&] { return a.membership == b.membership && b.membership.members.size() == 2; }, seconds(2)))
      << "a has put it right";
}

TEST(MembershipCore, ForeignValueUnderOurIdIsRefusedWithTheCure) {
  Sim sim;
  sim.etcd.Put(kOwnKey, "somebody's note");
  Sim::Node& a = sim.Add("a");
  ASSERT_TRUE(sim.RunUntil([&] { return a.refused.has_value(); }));
  EXPECT_NE(std::string(a.refused->message()).find("etcdctl del " + kOwnKey), std::string::npos) << *a.refused;
}

TEST(MembershipCore, UnreadableClusterRecordIsWaitedFor) {
  Sim sim;
  sim.etcd.Put("/kvasir/default/cluster", "?");
  Sim::Node& a = sim.Add("a");
  sim.Run(seconds(20));
  EXPECT_FALSE(a.ready.has_value() || a.refused.has_value());
  EXPECT_TRUE(a.Said("/kvasir/default/cluster cannot be read; put it right, or delete it"));
  sim.etcd.Drop("/kvasir/default/cluster");
  EXPECT_TRUE(sim.RunUntil([&] { return a.ready.has_value(); }));
}

// ---- the cluster ----------------------------------------------------------------------------------------------------
TEST(MembershipCore, AnotherRunBlocksIsRefusedNamingBoth) {
  Sim sim;
  Join(sim, "a");
  Sim::Node& b = sim.Add("b", [](MembershipOptions& o) { o.run_blocks = 8; });
  ASSERT_TRUE(sim.RunUntil([&] { return b.refused.has_value(); }));
  EXPECT_EQ(b.refused->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(std::string(b.refused->message()).find("--run-blocks 8"), std::string::npos) << *b.refused;
  EXPECT_NE(std::string(b.refused->message()).find("Start it with --run-blocks 16"), std::string::npos);
}

TEST(MembershipCore, DirectoryOfAnotherClusterIsRefusedNamingBoth) {
  Sim sim;
  Join(sim, "a");
  Sim::Node& b = sim.Add("b", [](MembershipOptions& o) { o.cluster_id = "cluster-of-elsewhere"; });
  ASSERT_TRUE(sim.RunUntil([&] { return b.refused.has_value(); }));
  for (const char* part : {"cluster-of-elsewhere", "cluster-by-a", "Give it an empty directory"}) {
    EXPECT_NE(std::string(b.refused->message()).find(part), std::string::npos) << *b.refused;
  }
}

TEST(MembershipCore, TwoFirstNodesAgreeOnOneCluster) {
  Sim sim;
  Sim::Node &a = sim.Add("a"), &b = sim.Add("b");
  ASSERT_TRUE(sim.RunUntil([&] { return a.ready.has_value() && b.ready.has_value(); }));
  EXPECT_EQ(a.remembered, b.remembered);
  EXPECT_NE(a.remembered, "");
}

TEST(MembershipCore, ClocksHoursApartDoNotMatter) {
  // Each machine's monotonic clock has its own zero, and no time is ever sent: two cores whose clocks are 7 hours
  // apart.
  Sim sim;
  Sim::Node& a = Join(sim, "a");
  MembershipOptions options;
  options.endpoints = {"e1:2379"};
  options.self = {"b", "10.0.0.9:7070", 1, 8, ""};
  options.incarnation = 99;
  MembershipCore b(options);
  const Duration apart = std::chrono::hours(7);
  std::vector<MembershipEvent> events = {membership_event::Begin{}};
  Membership seen;
  const auto step = [&](MembershipEvent event) {
    for (MembershipAction& any : b.Step(std::move(event), sim.now - apart)) {
      if (auto* range = std::get_if<membership_action::Range>(&any))
        events.push_back(membership_event::Ranged{range->ticket, sim.etcd.Range(range->request)});
      if (auto* txn = std::get_if<membership_action::Txn>(&any))
        events.push_back(membership_event::Transacted{txn->ticket, sim.etcd.Txn(txn->request)});
      if (auto* grant = std::get_if<membership_action::Grant>(&any)) {
        events.push_back(membership_event::Granted{
            grant->ticket, KeyValue::GrantReply{sim.etcd.Grant(grant->ttl, sim.now), grant->ttl}});
      }
      if (auto* ready = std::get_if<membership_action::Ready>(&any))
        events.push_back(membership_event::Register{}), seen = ready->membership;
    }
  };
  while (!events.empty()) {
    MembershipEvent event = std::move(events.front());
    events.erase(events.begin());
    step(std::move(event));
  }
  sim.Run(seconds(5));
  ASSERT_NE(a.membership.Find("b"), nullptr);
  EXPECT_NE(seen.Find("a"), nullptr);
  for (const auto& change : sim.etcd.history())
    EXPECT_EQ(change.entry.value.find("time"), std::string::npos) << change.entry.value;
}

}  // namespace
}  // namespace kvasir::testing
