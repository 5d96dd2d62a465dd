// SPDX-License-Identifier: Apache-2.0
// Goal: etcd may be slow, silent, full, wiped or gone, at the start and later; the members stay, and all comes back by
// itself. Method: cores on a fake etcd with several endpoints that are switched between moods; then at random, by seed.
#include <gtest/gtest.h>

#include "store/membership/membership_core.h"
#include "tests/store/membership_sim.h"
#include "tests/support/seed.h"

namespace kvasir::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

Sim::Node& Join(Sim& sim, const std::string& id) {
  Sim::Node& node = sim.Add(id);
  EXPECT_TRUE(sim.RunUntil([&] { return node.ready.has_value(); })) << id;
  sim.Register(node);
  EXPECT_TRUE(sim.RunUntil([&] { return node.registered; })) << id;
  return node;
}
Membership Cached() {
  return {500,
          {{"a", "10.0.0.1:7070", 1, 8, "z", MemberState::kServing, 400},
           {"b", "10.0.0.2:7070", 1, 8, "z", MemberState::kServing, 500}}};
}

// ---- start ----------------------------------------------------------------------------------------------------------
TEST(MembershipStart, WaitsForEtcdAndSaysSo) {
  Sim sim({"e1:2379", "e2:2379"});
  sim.SetAll(Mood::kRefusing);
  Sim::Node& a = sim.Add("a");
  sim.Run(seconds(12));
  EXPECT_FALSE(a.ready.has_value());
  EXPECT_EQ(a.said.size(), 3u) << "after 1 s, then every 5 s";
  EXPECT_EQ(a.said[0],
            "etcd e1:2379,e2:2379: does not answer: Connection refused; there is no cached view to start with; this "
            "node waits and tries again");
  EXPECT_FALSE(a.contact.reachable);
  EXPECT_GE(a.connects, 4) << "both are tried, again and again";
  EXPECT_LE(a.connects, 30) << "but with pauses";
  sim.SetAll(Mood::kWell);
  EXPECT_TRUE(sim.RunUntil([&] { return a.ready.has_value(); }, seconds(6)));
  EXPECT_TRUE(a.contact.reachable);
}

TEST(MembershipStart, DeadEndpointIsPassedOverAtOnce) {
  Sim sim({"e1:2379", "e2:2379"});
  sim.SetMood("e1:2379", Mood::kRefusing);
  Sim::Node& a = sim.Add("a");
  EXPECT_TRUE(sim.RunUntil([&] { return a.ready.has_value(); }, milliseconds(100)));
  EXPECT_EQ(a.contact.endpoint, 1u);
}

TEST(MembershipStart, CachedViewServesAtOnce) {
  Sim sim;
  sim.SetAll(Mood::kRefusing);
  Sim::Node& a = sim.Add("a", [](MembershipOptions& o) { o.cached = Cached(); });
  ASSERT_TRUE(sim.RunUntil([&] { return a.ready.has_value(); }, milliseconds(100)));
  EXPECT_TRUE(a.ready->cached);
  EXPECT_EQ(a.ready->membership.members.size(), 2u);
  EXPECT_EQ(a.ready->membership.Find("a")->state, MemberState::kServing);
  EXPECT_TRUE(a.Said("this node starts with the cached view, 2 members of epoch 500"));
  sim.Register(a);
  sim.Run(minutes(10));
  EXPECT_FALSE(a.refused.has_value() || a.registered);
  sim.SetAll(Mood::kWell);
  ASSERT_TRUE(sim.RunUntil([&] { return a.registered; }, seconds(7)));
  EXPECT_GT(a.membership.epoch, 500u) << "an etcd that counts from 1 must not be older than what was seen";
  EXPECT_GT(a.membership.Find("a")->epoch, 500u);
}

TEST(MembershipStart, CachedViewIsNotKeptWaitingBySilentEndpoints) {
  Sim sim({"e1:2379", "e2:2379", "e3:2379", "e4:2379", "e5:2379"});
  sim.SetAll(Mood::kSilent);  // each try takes its time
  Sim::Node& a = sim.Add("a", [](MembershipOptions& o) { o.cached = Cached(); });
  EXPECT_TRUE(sim.RunUntil([&] { return a.ready.has_value(); }, MembershipCore::kCachedAfter));
}

TEST(MembershipStart, EtcdThatGoesAwayBeforeRegistrationIsNotWaitedFor) {
  Sim sim;
  Sim::Node& a = sim.Add("a");
  ASSERT_TRUE(sim.RunUntil([&] { return a.ready.has_value(); }));
  sim.SetAll(Mood::kRefusing);  // while the node reads its disk
  sim.Run(seconds(10));
  sim.Register(a);
  ASSERT_TRUE(sim.RunUntil([&] { return a.registered; }, seconds(10)));
  EXPECT_TRUE(a.Said("this node serves, and registers when it answers"));
  sim.SetAll(Mood::kWell);
  EXPECT_TRUE(sim.RunUntil([&] { return sim.etcd.Find("/kvasir/default/members/a") != nullptr; }, seconds(10)));
}

TEST(MembershipStart, RefusalOfACallIsNotFinal) {
  Sim sim;
  Sim::Node& a = sim.Add("a");
  a.refuses_writes = absl::FailedPreconditionError("etcdserver: not leader");
  sim.Run(seconds(3));
  EXPECT_FALSE(a.refused.has_value() || a.ready.has_value());
  a.refuses_writes = absl::OkStatus();
  EXPECT_TRUE(sim.RunUntil([&] { return a.ready.has_value(); }, seconds(6)));
}

TEST(MembershipStart, CachedViewTellsWhatThisNodeIsNow) {
  Sim sim;
  sim.SetAll(Mood::kSilent);
  Membership cached = Cached();
  cached.members[0].state = MemberState::kDraining;
  Sim::Node& a = sim.Add("a", [&](MembershipOptions& o) {
    o.cached = cached;
    o.self.control = "10.0.0.77:7070";
    o.self.shards = 4;
  });
  Sim::Node& c = sim.Add("c", [&](MembershipOptions& o) { o.cached = cached; });
  ASSERT_TRUE(sim.RunUntil([&] { return a.ready.has_value() && c.ready.has_value(); }, seconds(3)));
  EXPECT_EQ(a.ready->membership.Find("a")->state, MemberState::kJoining) << "its last words are not what it is now";
  EXPECT_EQ(a.ready->membership.Find("a")->shards, 4u);
  EXPECT_EQ(a.ready->membership.Find("a")->control, "10.0.0.77:7070");
  EXPECT_NE(c.ready->membership.Find("c"), nullptr) << "also where it was not in it";
}

TEST(MembershipStart, CachedNodeIsNotEndedByWhatItFindsLater) {
  Sim sim;
  Join(sim, "b");  // the cluster exists, and is another one
  sim.SetAll(Mood::kRefusing);
  Sim::Node& a = sim.Add("a", [](MembershipOptions& o) {
    o.cached = Cached();
    o.cluster_id = "another";
  });
  ASSERT_TRUE(sim.RunUntil([&] { return a.ready.has_value(); }));
  sim.Register(a);
  sim.SetAll(Mood::kWell);
  sim.Run(seconds(30));
  EXPECT_FALSE(a.refused.has_value());
  EXPECT_TRUE(a.Said("this node serves, but is not registered: this node's directory belongs to cluster another"));
  EXPECT_EQ(a.membership.epoch, 500u) << "the members of another cluster are not taken over";
  EXPECT_NE(a.contact.trouble, "");
  EXPECT_EQ(sim.etcd.Find("/kvasir/default/members/a"), nullptr);
}

TEST(MembershipStart, RefusalsAreToldAndTriedAgain) {
  Sim sim;
  Sim::Node& a = sim.Add("a");
  ASSERT_TRUE(sim.RunUntil([&] { return a.ready.has_value(); }));
  a.refuses_writes = absl::ResourceExhaustedError("etcdserver: mvcc: database space exceeded");
  sim.Register(a);
  sim.Run(seconds(12));
  EXPECT_FALSE(a.registered || a.refused.has_value());
  EXPECT_TRUE(a.Said("database space exceeded"));
  EXPECT_TRUE(a.contact.reachable);
  EXPECT_EQ(a.connects, 1) << "another endpoint has no more room";
  a.refuses_writes = absl::OkStatus();
  EXPECT_TRUE(sim.RunUntil([&] { return a.registered; }, seconds(6)));
}

// ---- later ----------------------------------------------------------------------------------------------------------
TEST(MembershipContact, EtcdGoneForHoursChangesNothing) {
  for (const Mood mood : {Mood::kRefusing, Mood::kSilent}) {
    Sim sim({"e1:2379", "e2:2379", "e3:2379"});
    Sim::Node &a = Join(sim, "a"), &b = Join(sim, "b");
    sim.Run(seconds(1));
    const Membership before = a.membership;
    sim.SetAll(mood);
    sim.etcd_expires = false;  // an etcd that is down lets no lease end
    sim.Run(std::chrono::hours(3));
    EXPECT_EQ(a.membership, before);
    EXPECT_FALSE(a.contact.reachable);
    EXPECT_TRUE(a.Said("unreachable"));
    EXPECT_LE(a.said.size(), 2u) << "told once, not for hours";
    sim.etcd.RefreshLeases(sim.now);
    sim.etcd_expires = true;
    sim.SetAll(Mood::kWell);
    ASSERT_TRUE(sim.RunUntil([&] { return a.contact.reachable && b.contact.reachable; }, seconds(10)));
    EXPECT_TRUE(a.Said("answers again after 108"));
    Sim::Node& c = Join(sim, "c");
    EXPECT_TRUE(sim.RunUntil([&] { return a.membership == c.membership && b.membership == c.membership; }, seconds(6)));
    EXPECT_EQ(a.membership.members.size(), 3u);
  }
}

TEST(MembershipContact, StoppedLeaderIsLeftBeforeTheLeaseEnds) {
  Sim sim({"e1:2379", "e2:2379"});
  Sim::Node &a = Join(sim, "a"), &b = Join(sim, "b");
  sim.SetMood("e1:2379", Mood::kSilent);
  sim.Run(seconds(9));
  EXPECT_EQ(a.contact.endpoint, 1u);
  sim.Run(seconds(30));
  EXPECT_FALSE(a.Said("the lease of this node has ended"));
  EXPECT_EQ(a.membership.members.size(), 2u);
  EXPECT_EQ(b.membership.members.size(), 2u);
}

TEST(MembershipContact, SilentWatchIsFoundOutAndReplaced) {
  Sim sim({"e1:2379", "e2:2379"});
  Sim::Node& a = Join(sim, "a");
  a.watch_stuck = true;
  Sim::Node& b = Join(sim, "b");
  EXPECT_EQ(a.membership.Find("b"), nullptr);
  sim.Run(MembershipCore::kWatchQuiet + MembershipCore::kWatchSign + seconds(1));
  EXPECT_GE(a.signs_asked, 1);
  EXPECT_GE(a.watches, 2);
  a.watch_stuck = false;
  EXPECT_TRUE(sim.RunUntil([&] { return a.membership == b.membership; }, seconds(10)));
  EXPECT_EQ(a.membership.members.size(), 2u);
}

TEST(MembershipContact, WatchThatNeverWorksChangesTheConnection) {
  Sim sim({"e1:2379", "e2:2379"});
  Sim::Node& a = Join(sim, "a");
  a.watch_stuck = true;
  EXPECT_TRUE(sim.RunUntil([&] { return a.connects > 1; }, minutes(2))) << "renewals work, so nothing else would";
}

TEST(MembershipContact, CompactedHistoryIsReadAnew) {
  Sim sim;
  Sim::Node &a = Join(sim, "a"), &b = Join(sim, "b");
  sim.SetAll(Mood::kRefusing);
  sim.Run(milliseconds(200));
  sim.etcd.Drop("/kvasir/default/members/b");
  sim.etcd.Put("/unrelated", "1");
  sim.etcd.Compact();
  sim.SetAll(Mood::kWell);
  ASSERT_TRUE(sim.RunUntil(
      [&] {
        return a.contact.reachable && a.membership.epoch == b.membership.epoch && a.membership.members.size() == 2;
      },
      seconds(10)));
  EXPECT_EQ(a.membership, b.membership);
  const uint64_t epoch = a.membership.epoch;
  sim.etcd.Put("/unrelated", "2");
  sim.etcd.Compact();
  sim.SetAll(Mood::kRefusing);
  sim.Run(milliseconds(200));
  sim.SetAll(Mood::kWell);
  sim.Run(seconds(10));
  EXPECT_EQ(a.membership.epoch, epoch) << "nothing has changed, so no new epoch";
}

TEST(MembershipContact, WipedEtcdIsFilledAgainAndEpochsGrow) {
  Sim sim;
  Sim::Node &a = Join(sim, "a"), &b = Join(sim, "b");
  for (int i = 0; i < 200; ++i) sim.etcd.Put("/unrelated", "x");
  Sim::Node& c = Join(sim, "c");
  sim.Run(seconds(1));
  const uint64_t before = a.membership.epoch;
  ASSERT_GT(before, 200u);
  sim.SetAll(Mood::kRefusing);
  sim.Run(seconds(3));
  sim.etcd.Wipe();
  sim.SetAll(Mood::kWell);
  ASSERT_TRUE(sim.RunUntil(
      [&] {
        return a.membership == b.membership && b.membership == c.membership && a.membership.members.size() == 3 &&
               a.membership.epoch > before;
      },
      seconds(30)));
  for (const Member& member : a.membership.members) EXPECT_GT(member.epoch, before) << member.id;
  const auto record = ParseClusterRecord(sim.etcd.Find("/kvasir/default/cluster")->value);
  ASSERT_TRUE(record.ok());
  EXPECT_EQ(record->cluster_id, "cluster-by-a") << "it is the same cluster";
  EXPECT_GE(record->epoch_base, before);
  EXPECT_TRUE(a.Said("lost its history") || b.Said("lost its history") || c.Said("lost its history"));
  Sim::Node& d = Join(sim, "d");
  EXPECT_TRUE(sim.RunUntil([&] { return a.membership == d.membership; }));
}

/// Revisions count from 1 again, and others may have counted past ours before we look: it is another history all the
/// same.
TEST(MembershipContact, AHistoryThatHasGrownPastOursIsNotOurs) {
  for (const bool same_revision : {true, false}) {
    Sim sim;
    Sim::Node &a = Join(sim, "a"), &b = Join(sim, "b");
    ASSERT_TRUE(sim.RunUntil([&] { return a.membership == b.membership && a.membership.members.size() == 2; }));
    const uint64_t before = a.membership.epoch, revision = sim.etcd.revision();
    b.paused = true;
    sim.SetAll(Mood::kRefusing);
    sim.Run(seconds(3));
    sim.etcd.Wipe();
    sim.SetAll(Mood::kWell);
    ASSERT_TRUE(sim.RunUntil([&] { return a.membership.epoch > before; }));
    ASSERT_LE(sim.etcd.revision(), revision);
    while (sim.etcd.revision() < revision + (same_revision ? 0 : 100)) sim.etcd.Put("/unrelated", "x");
    b.paused = false;
    ASSERT_TRUE(sim.RunUntil([&] { return a.membership == b.membership && a.membership.members.size() == 2; }))
        << "b saw " << b.membership.members.size() << " members of epoch " << b.membership.epoch;
    EXPECT_GT(b.membership.epoch, before);
    EXPECT_EQ(sim.Announce(b, MemberState::kServing), 1u);
    EXPECT_TRUE(sim.RunUntil([&] { return b.announced.contains(1) && b.announced[1].ok(); }));
  }
}

/// Restored from a backup and written on by others: what was written in between is lost, and no watch says so.
TEST(MembershipContact, AWriteThatFindsAnotherHistoryReadsItAnew) {
  Sim sim;
  Sim::Node &a = Join(sim, "a"), &b = Join(sim, "b");
  ASSERT_TRUE(sim.RunUntil([&] { return a.membership == b.membership && a.membership.members.size() == 2; }));
  const FakeEtcd backup = sim.etcd;
  const uint64_t lost = sim.Announce(b, MemberState::kCordoned);
  ASSERT_TRUE(sim.RunUntil([&] { return b.announced.contains(lost) && b.announced[lost].ok(); }));
  sim.SetAll(Mood::kRefusing);
  sim.Run(seconds(3));
  const uint64_t revision = sim.etcd.revision();
  sim.etcd = backup;
  sim.etcd.RefreshLeases(sim.now);
  while (sim.etcd.revision() < revision + 100) sim.etcd.Put("/unrelated", "x");
  sim.SetAll(Mood::kWell);
  sim.Run(seconds(10));
  const uint64_t told = sim.Announce(b, MemberState::kDraining);
  EXPECT_TRUE(sim.RunUntil([&] { return b.announced.contains(told) && b.announced[told].ok(); }));
  EXPECT_TRUE(sim.RunUntil([&] { return a.membership == b.membership; }));
  EXPECT_EQ(a.membership.Find("b")->state, MemberState::kDraining);
}

// ---- at random ------------------------------------------------------------------------------------------------------
/// Each node's members and last words, for a failure.
std::string Told(const std::vector<Sim::Node*>& nodes) {
  std::string text;
  for (const Sim::Node* node : nodes) {
    text += "epoch " + std::to_string(node->membership.epoch) + ":";
    for (const Member& m : node->membership.members)
      text += " " + m.id + " " + Name(m.state) + " " + std::to_string(m.epoch);
    text += ". " + (node->said.empty() ? "" : node->said.back()) + ". " + node->contact.trouble + "\n";
  }
  return text;
}

TEST(MembershipContact, WhateverHappensTheyAgreeInTheEnd) {
  for (uint64_t round = 0; round < 20; ++round) {
    std::mt19937_64 random = Rng(round);
    const auto draw = [&](uint64_t n) { return random() % n; };
    Sim sim({"e1:2379", "e2:2379", "e3:2379"});
    std::vector<Sim::Node*> nodes;
    for (const char* id : {"a", "b", "c", "d"}) nodes.push_back(&Join(sim, id));
    for (int step = 0; step < 60; ++step) {
      Sim::Node& node = *nodes[draw(nodes.size())];
      switch (draw(8)) {
        case 0:
          sim.SetMood("e" + std::to_string(1 + draw(3)) + ":2379", static_cast<Mood>(draw(4)));
          break;
        case 1:
          sim.SetAll(static_cast<Mood>(draw(4)));
          break;
        case 2:
          node.paused = !node.paused;
          break;
        case 3:
          sim.Announce(node, static_cast<MemberState>(draw(4)));
          break;
        case 4:
          sim.etcd.Drop("/kvasir/default/members/" + std::string(1, static_cast<char>('a' + draw(4))));
          break;
        case 5:
          sim.etcd.Compact();
          break;
        case 6:
          node.watch_stuck = !node.watch_stuck;
          break;
        default:
          sim.SetAll(Mood::kWell);
          break;
      }
      sim.Run(milliseconds(static_cast<int64_t>(draw(6000))));
      for (Sim::Node* n : nodes) {
        ASSERT_FALSE(n->refused.has_value())
            << "round " << round << ": nothing ends a node that is registered: " << *n->refused;
      }
    }
    sim.SetAll(Mood::kWell);
    for (Sim::Node* node : nodes) node->paused = node->watch_stuck = false;
    const auto agree = [&] {
      for (Sim::Node* node : nodes) {
        if (node->membership != nodes[0]->membership) return false;
      }
      for (const Member& member : nodes[0]->membership.members) {
        const KeyValue::Entry* key = sim.etcd.Find("/kvasir/default/members/" + member.id);
        if (key == nullptr || key->modified != member.epoch) return false;
      }
      return nodes[0]->membership.members.size() == nodes.size();
    };
    sim.Run(seconds(20));  // a view may be right before all that is under way has come
    ASSERT_TRUE(agree()) << "round " << round << ":\n" << Told(nodes);
    const Membership agreed = nodes[0]->membership;
    sim.Run(minutes(2));
    EXPECT_TRUE(agree() && nodes[0]->membership == agreed) << "it stays so; round " << round << ":\n" << Told(nodes);
  }
}

}  // namespace
}  // namespace kvasir::testing
