// SPDX-License-Identifier: Apache-2.0
// Goal: what the fake etcd promises holds with the real one. Method: etcd-server from Debian on loopback, one member and
// three; members are killed, stopped and brought back; nothing waits but for a condition.
#include "store/membership/etcd_membership.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <functional>

#include "store/wire/etcd_client.h"
#include "tests/store/etcd_process.h"
#include "transport/sync.h"

namespace kvasir::testing {
namespace {

using std::chrono::seconds;

/// What threads tell and tests wait for.
class Board {
 public:
  void Note(const std::function<void()>& change) {
    std::lock_guard lock(mutex_);
    change();
    changed_.notify_all();
  }
  bool Await(const std::function<bool()>& condition, std::chrono::seconds limit = seconds(30)) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, limit, condition);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

/// A member with its shell, its directory and all it was told.
class Peer {
 public:
  Peer(Board* board, const std::string& id, int number, std::vector<std::string> endpoints, const std::function<void(MembershipOptions&)>& with = nullptr,
       const std::optional<EtcdTls>& tls = std::nullopt)
      : board_(*board) {
    MembershipOptions options;
    options.endpoints = std::move(endpoints);
    options.self = {id, "127.0.0.1:" + std::to_string(number), 1, 4, ""};
    options.identity = NewUuid();
    options.incarnation = static_cast<uint64_t>(number);
    options.new_cluster_id = NewUuid();
    options.ttl = seconds(3);
    options.seed = static_cast<uint64_t>(number);
    if (with) with(options);
    shell_ = EtcdMembership::Start(
        std::move(options), [tls](const std::string& endpoint) { return MakeEtcdKeyValue(endpoint, tls); }, nullptr,
        [this](Severity, const std::string& line) { board_.Note([&] { said_.push_back(line); }); },
        [this](absl::StatusOr<EtcdMembership::Began> began) {
          board_.Note([&] {
            began_ = began.status();
            if (began.ok()) cached_ = began->cached, membership_ = began->membership;
          });
        });
  }
  ~Peer() { shell_->Stop(); }

  bool Begins() {
    return board_.Await([&] { return began_.has_value(); }) && began_->ok();
  }
  bool Joins() {
    if (!Begins()) return false;
    shell_->Register([this](const Membership& m) { board_.Note([&] { membership_ = m; }); },
                     [this](const absl::Status& status) { board_.Note([&] { registered_ = status; }); });
    return board_.Await([&] { return registered_.has_value(); }) && registered_->ok();
  }
  absl::Status Do(const std::function<void(EtcdMembership::Done)>& call) {
    auto status = std::make_shared<std::optional<absl::Status>>();
    call([this, status](const absl::Status& done) { board_.Note([&] { *status = done; }); });
    return board_.Await([&] { return status->has_value(); }) ? **status : absl::DeadlineExceededError("no answer at all");
  }
  absl::Status Announce(MemberState state) {
    return Do([&](EtcdMembership::Done done) { shell_->Announce(state, std::move(done)); });
  }
  absl::Status Leave() {
    return Do([&](EtcdMembership::Done done) { shell_->Leave(std::move(done)); });
  }
  // Under Board::Await only.
  const Membership& membership() const { return membership_; }
  size_t size() const { return membership_.members.size(); }
  bool Said(const std::string& words) const {
    return std::any_of(said_.begin(), said_.end(), [&](const std::string& line) { return line.find(words) != line.npos; });
  }
  const absl::Status& began() const { return *began_; }
  bool has_begun() const { return began_.has_value(); }
  bool cached() const { return cached_; }
  EtcdMembership& shell() { return *shell_; }

 private:
  Board& board_;
  std::optional<absl::Status> began_, registered_;
  bool cached_ = false;
  Membership membership_;
  std::vector<std::string> said_;
  std::shared_ptr<EtcdMembership> shell_;  // last: its thread writes the others
};

class RealEtcd : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string missing = EtcdCluster::Missing(); !missing.empty()) GTEST_SKIP() << missing;
  }
  /// Announces until etcd confirms, for a minute: elections and new connections on a busy machine may take longer than a call waits.
  static bool Told(Peer& peer, MemberState state) {
    absl::Status told;
    for (const auto until = std::chrono::steady_clock::now() + std::chrono::minutes(1); std::chrono::steady_clock::now() < until;) {
      told = peer.Announce(state);
      if (told.ok()) return true;
    }
    ADD_FAILURE() << told;
    return false;
  }
  Board board_;
};

TEST_F(RealEtcd, JoinAnnounceLeaveAndDamage) {
  EtcdCluster etcd(1);
  const std::string key = "/kvasir/default/members/";
  Peer a(&board_, "a", 7001, etcd.endpoints()), b(&board_, "b", 7002, etcd.endpoints());
  ASSERT_TRUE(a.Joins() && b.Joins());
  ASSERT_TRUE(board_.Await([&] { return a.size() == 2 && a.membership() == b.membership(); }));
  EXPECT_EQ(a.shell().Source(), "etcd " + etcd.endpoint(0) + ": ok");
  EXPECT_NE(etcd.Get(key + "a").find(R"("control":"127.0.0.1:7001")"), std::string::npos) << "as etcd has it: " << etcd.Get(key + "a");

  EXPECT_TRUE(a.Announce(MemberState::kServing).ok());
  ASSERT_TRUE(board_.Await([&] { return b.membership().Find("a")->state == MemberState::kServing; }));

  etcd.Put(key + "garbage", "{");
  etcd.Put(key + "big", std::string(1'000'000, 'x'));
  ASSERT_TRUE(board_.Await([&] { return a.Said("garbage is no member") && a.Said("big is no member") && b.Said("big is no member"); }));
  EXPECT_TRUE(board_.Await([&] { return a.size() == 2; }));

  etcd.Delete(key + "a");  // by somebody's slip
  ASSERT_TRUE(board_.Await([&] { return b.size() == 2 && b.membership().Find("a") != nullptr && b.membership().Find("a")->state == MemberState::kJoining; }));

  EXPECT_TRUE(a.Leave().ok());
  ASSERT_TRUE(board_.Await([&] { return b.size() == 1; }));
  EXPECT_EQ(etcd.Get(key + "a"), "");
}

TEST_F(RealEtcd, RefusalsNameBoth) {
  EtcdCluster etcd(1);
  Peer a(&board_, "a", 7001, etcd.endpoints());
  ASSERT_TRUE(a.Joins());
  Peer runs(&board_, "b", 7002, etcd.endpoints(), [](MembershipOptions& o) { o.run_blocks = 8; });
  Peer foreign(&board_, "c", 7003, etcd.endpoints(), [](MembershipOptions& o) { o.cluster_id = "elsewhere"; });
  EXPECT_FALSE(runs.Begins());
  EXPECT_FALSE(foreign.Begins());
  EXPECT_NE(std::string(runs.began().message()).find("--run-blocks 8, but cluster 'default'"), std::string::npos) << runs.began();
  EXPECT_NE(std::string(foreign.began().message()).find("belongs to cluster elsewhere, but cluster 'default'"), std::string::npos) << foreign.began();
}

TEST_F(RealEtcd, StrangerUnderOurIdIsRefusedWhenItsLeaseIsRenewed) {
  EtcdCluster etcd(1);
  Peer a(&board_, "a", 7001, etcd.endpoints());
  ASSERT_TRUE(a.Joins());
  Peer again(&board_, "a", 7002, etcd.endpoints());
  EXPECT_FALSE(again.Begins());
  EXPECT_EQ(again.began().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_NE(std::string(again.began().message()).find("id 'a' is held by the node at 127.0.0.1:7001"), std::string::npos) << again.began();
  EXPECT_TRUE(board_.Await([&] { return a.size() == 1; }));
}

TEST_F(RealEtcd, TlsLetsInWhoIsVouchedForAndGoesNowhereElse) {
  EtcdCluster etcd(1, EtcdCluster::Talk::kTls);
  const std::string ca = etcd.Pem("ca.pem");
  ASSERT_NE(ca.find("BEGIN CERTIFICATE"), ca.npos) << "openssl is needed";
  Peer a(&board_, "a", 7001, etcd.endpoints(), nullptr, EtcdTls{ca, etcd.Pem("client.pem"), etcd.Pem("client.key")});
  Peer wrong_ca(&board_, "b", 7002, etcd.endpoints(), nullptr, EtcdTls{etcd.Pem("stranger.pem"), etcd.Pem("client.pem"), etcd.Pem("client.key")});
  Peer unknown(&board_, "c", 7003, etcd.endpoints(), nullptr, EtcdTls{ca, etcd.Pem("stranger.pem"), etcd.Pem("stranger.key")});
  Peer nameless(&board_, "d", 7004, etcd.endpoints(), nullptr, EtcdTls{ca, "", ""});
  Peer plain(&board_, "e", 7005, etcd.endpoints());
  ASSERT_TRUE(a.Joins());
  for (Peer* peer : {&wrong_ca, &unknown, &nameless, &plain}) {
    EXPECT_TRUE(board_.Await([&] { return peer->Said("does not answer"); }));
    EXPECT_TRUE(board_.Await([&] { return !peer->has_begun(); }));
  }
  EXPECT_TRUE(a.Announce(MemberState::kServing).ok());
  EXPECT_TRUE(board_.Await([&] { return a.size() == 1 && a.membership().Find("a")->state == MemberState::kServing; }));
}

TEST_F(RealEtcd, CachedViewWhileNobodyAnswers) {
  const Membership cached{1'000'000, {{"a", "127.0.0.1:7001", 1, 4, "", MemberState::kServing, 999}, {"b", "127.0.0.1:7002", 1, 4, "", MemberState::kServing, 1'000'000}}};
  EtcdCluster etcd(1);
  etcd.Kill(0);
  Peer a(&board_, "a", 7001, etcd.endpoints(), [&](MembershipOptions& o) { o.cached = cached; });
  ASSERT_TRUE(a.Joins());
  EXPECT_TRUE(board_.Await([&] { return a.cached() && a.size() == 2; }));
  EXPECT_EQ(a.shell().Source().find("etcd " + etcd.endpoint(0) + ": unreachable for 0s, cached view"), 0u) << a.shell().Source();
  etcd.Start(0);
  ASSERT_TRUE(etcd.Serves(0));
  ASSERT_TRUE(board_.Await([&] { return a.size() == 1 && a.membership().epoch > 1'000'000; })) << "its revisions begin at 1, epochs do not";
}

TEST_F(RealEtcd, RestartCompactionAndWipe) {
  EtcdCluster etcd(1);
  Peer a(&board_, "a", 7001, etcd.endpoints()), b(&board_, "b", 7002, etcd.endpoints());
  ASSERT_TRUE(a.Joins() && b.Joins());
  ASSERT_TRUE(board_.Await([&] { return a.size() == 2 && b.size() == 2; }));
  etcd.Kill(0);
  ASSERT_TRUE(board_.Await([&] { return a.Said("unreachable") && b.Said("unreachable"); }));
  EXPECT_TRUE(board_.Await([&] { return a.size() == 2 && b.size() == 2; })) << "nobody leaves because etcd is away";
  etcd.Start(0);
  ASSERT_TRUE(etcd.Serves(0));
  etcd.Put("/unrelated", "1");
  etcd.Compact();
  Peer c(&board_, "c", 7003, etcd.endpoints());
  ASSERT_TRUE(c.Joins());
  ASSERT_TRUE(board_.Await([&] { return a.size() == 3 && a.membership() == c.membership() && b.membership() == c.membership(); }));
  const uint64_t epoch = a.membership().epoch;

  etcd.Kill(0);
  etcd.Wipe(0);
  etcd.Start(0);
  ASSERT_TRUE(etcd.Serves(0));
  ASSERT_TRUE(board_.Await([&] { return a.size() == 3 && a.membership().epoch > epoch && a.membership() == c.membership() && b.membership() == c.membership(); }));
  EXPECT_TRUE(a.Announce(MemberState::kDraining).ok());
}

TEST_F(RealEtcd, ThreeMembersOneAfterTheOtherStoppedLeaderAndAllDown) {
  EtcdCluster etcd(3);
  Peer a(&board_, "a", 7001, etcd.endpoints()), b(&board_, "b", 7002, etcd.endpoints());
  ASSERT_TRUE(a.Joins() && b.Joins());
  for (size_t i = 0; i < 3; ++i) {
    etcd.Kill(i);
    const MemberState state = i % 2 == 0 ? MemberState::kCordoned : MemberState::kServing;
    EXPECT_TRUE(Told(a, state)) << "by the two that are left";
    etcd.Start(i);
    ASSERT_TRUE(etcd.Serves(i));
  }
  const size_t leader = etcd.Leader();
  etcd.Signal(leader, SIGSTOP);  // connections to it stay and look alive
  EXPECT_TRUE(Told(a, MemberState::kDraining));
  ASSERT_TRUE(board_.Await([&] { return b.membership().Find("a") != nullptr && b.membership().Find("a")->state == MemberState::kDraining; }));
  etcd.Signal(leader, SIGCONT);
  // On a busy machine a lease of 3 s may have ended meanwhile: both are back before the next blow.
  ASSERT_TRUE(board_.Await([&] { return a.size() == 2 && b.size() == 2; }));

  for (size_t i = 0; i < 3; ++i) etcd.Kill(i);
  ASSERT_TRUE(board_.Await([&] { return a.Said("unreachable") && b.Said("unreachable"); }));
  EXPECT_FALSE(a.Announce(MemberState::kCordoned).ok());
  EXPECT_TRUE(board_.Await([&] { return a.size() == 2 && b.size() == 2; })) << "the members stay";
  for (size_t i = 0; i < 3; ++i) etcd.Start(i);
  for (size_t i = 0; i < 3; ++i) ASSERT_TRUE(etcd.Serves(i));
  ASSERT_TRUE(board_.Await([&] {
    const Member* member = b.membership().Find("a");
    return member != nullptr && member->state == MemberState::kCordoned;
  })) << "what was asked for meanwhile";
  EXPECT_TRUE(a.Leave().ok() && b.Leave().ok());
}

}  // namespace
}  // namespace kvasir::testing
