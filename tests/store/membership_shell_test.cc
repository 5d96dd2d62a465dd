// SPDX-License-Identifier: Apache-2.0
// Goal: the shell around the core: threads, lifetimes, what is kept on disk, what an operator is told. Method: a KeyValue
// over the fake etcd that answers on a thread of its own; also under the thread sanitizer.
#include "store/membership/etcd_membership.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <mutex>

#include "tests/store/membership_sim.h"
#include "tests/support/seed.h"

namespace kvasir::testing {
namespace {

using std::chrono::seconds;

/// A FakeEtcd that any number of connections share; all that touches it runs on its own thread.
class ThreadedEtcd {
 public:
  ~ThreadedEtcd() {
    thread_.Call([this] { watches_.clear(); });
  }
  std::shared_ptr<KeyValue> Connect() { return std::make_shared<Connection>(this); }
  void Refuse(bool refuse) {
    thread_.Call([&] {
      refusing_ = refuse;
      if (!refuse) return;
      for (auto& [id, watch] : std::exchange(watches_, {})) watch->end(absl::UnavailableError("Connection reset by peer"));
    });
  }
  void Change(const std::function<void(FakeEtcd&)>& change) {
    thread_.Call([&] {
      change(etcd_);
      Show();
    });
  }

 private:
  struct Open {
    KeyValue::OnChanges changes;
    KeyValue::OnEnd end;
    uint64_t next = 0;
  };
  class Connection;
  class Watcher final : public KeyValue::Watcher {
   public:
    Watcher(ThreadedEtcd* etcd, uint64_t id) : etcd_(etcd), id_(id) {}
    ~Watcher() override {
      etcd_->thread_.Call([this] { etcd_->watches_.erase(id_); });  // the call that runs has ended then
    }
    void AskForSign() override {
      etcd_->thread_.loop().Post([etcd = etcd_, id = id_] {
        if (const auto at = etcd->watches_.find(id); at != etcd->watches_.end()) at->second->changes({});
      });
    }

   private:
    ThreadedEtcd* const etcd_;
    const uint64_t id_;
  };
  class Connection final : public KeyValue {
   public:
    explicit Connection(ThreadedEtcd* etcd) : etcd_(etcd) {}
    void Range(RangeRequest request, Duration, Answer<RangeReply> answer) override {
      Ask<RangeReply>(std::move(answer), [request](FakeEtcd& etcd) { return absl::StatusOr<RangeReply>(etcd.Range(request)); });
    }
    void Txn(TxnRequest request, Duration, Answer<TxnReply> answer) override {
      Ask<TxnReply>(std::move(answer), [request](FakeEtcd& etcd) { return etcd.Txn(request); });
    }
    void Grant(Duration ttl, Duration, Answer<GrantReply> answer) override {
      Ask<GrantReply>(std::move(answer), [ttl](FakeEtcd& etcd) {
        return absl::StatusOr<GrantReply>(GrantReply{etcd.Grant(ttl, std::chrono::steady_clock::now()), ttl});
      });
    }
    void Renew(int64_t lease, Duration, Answer<Nothing> answer) override {
      Ask<Nothing>(std::move(answer), [lease](FakeEtcd& etcd) { return Told(etcd.Renew(lease, std::chrono::steady_clock::now())); });
    }
    void Revoke(int64_t lease, Duration, Answer<Nothing> answer) override {
      Ask<Nothing>(std::move(answer), [lease](FakeEtcd& etcd) { return Told(etcd.Revoke(lease)); });
    }
    std::unique_ptr<KeyValue::Watcher> Watch(std::string, uint64_t from, OnChanges changes, OnEnd end) override {
      const uint64_t id = ++etcd_->ids_;
      auto open = std::make_shared<Open>(Open{std::move(changes), std::move(end), from});
      etcd_->thread_.loop().Post([etcd = etcd_, id, open] {
        if (etcd->refusing_) return open->end(absl::UnavailableError("Connection refused"));
        etcd->watches_[id] = open;
        open->changes({});
        etcd->Show();
      });
      return std::make_unique<ThreadedEtcd::Watcher>(etcd_, id);
    }

   private:
    static absl::StatusOr<Nothing> Told(const absl::Status& status) {
      if (!status.ok()) return status;
      return Nothing{};
    }
    template <class Reply, class Work>
    void Ask(Answer<Reply> answer, Work work) {
      etcd_->thread_.loop().Post([etcd = etcd_, answer = std::move(answer), work]() mutable {
        if (etcd->refusing_) return answer(absl::UnavailableError("Connection refused"));
        answer(work(etcd->etcd_));
        etcd->Show();
      });
    }
    ThreadedEtcd* const etcd_;
  };

  void Show() {
    for (auto& [id, watch] : watches_) {
      std::vector<KeyValue::Change> changes;
      for (const KeyValue::Change& change : etcd_.history()) {
        if (change.entry.modified >= watch->next) changes.push_back(change);
      }
      if (changes.empty()) continue;
      watch->next = changes.back().entry.modified + 1;
      watch->changes(std::move(changes));
    }
  }

  std::atomic<uint64_t> ids_ = 0;
  FakeEtcd etcd_;
  bool refusing_ = false;
  std::map<uint64_t, std::shared_ptr<Open>> watches_;
  LoopThread thread_{"fake-etcd"};  // last: what it runs uses the others
};

/// What a node is told, for the test's thread to wait for. Codes, not statuses: Debian's Abseil is not instrumented, and a
/// failed Status that two threads hold looks like a race to the thread sanitizer.
struct Told {
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<absl::StatusCode> answers;
  std::optional<absl::StatusCode> began;
  bool cached = false;
  Membership first;
  Membership membership;
  std::vector<std::string> said;

  template <class Condition>
  bool Await(Condition condition) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, seconds(30), condition);
  }
  template <class Work>
  void Note(Work work) {
    std::lock_guard lock(mutex);
    work();
    changed.notify_all();
  }
  EtcdMembership::Done Done() {
    return [this](const absl::Status& status) { Note([&] { answers.push_back(status.code()); }); };
  }
  /// How the next call that is answered ended.
  absl::StatusCode Next() {
    if (!Await([&] { return !answers.empty(); })) return absl::StatusCode::kDeadlineExceeded;
    std::lock_guard lock(mutex);
    const absl::StatusCode answer = answers.front();
    answers.erase(answers.begin());
    return answer;
  }
};

constexpr absl::StatusCode kOk = absl::StatusCode::kOk;

class ShellTest : public ::testing::Test {
 protected:
  ShellTest() {
    char name[] = "/tmp/kvasir-shell-XXXXXX";
    root_ = mkdtemp(name);
  }
  ~ShellTest() override { std::filesystem::remove_all(root_); }
  std::shared_ptr<EtcdMembership> Start(Told* told, const std::string& id, StateDirectory* directory = nullptr) {
    MembershipOptions options;
    options.endpoints = {"e1:2379"};
    options.self = {id, "10.0.0.1:" + std::to_string(7000 + ++started_), 1, 8, ""};
    options.identity = directory == nullptr ? NewUuid() : directory->node_identity();
    options.incarnation = started_;
    options.new_cluster_id = NewUuid();
    options.seed = Seed() + started_;
    std::string note;
    if (directory != nullptr) options.cached = directory->LoadView(&note);
    if (directory != nullptr) options.cluster_id = directory->cluster_id();
    return EtcdMembership::Start(
        std::move(options), [this](const std::string&) { return etcd_.Connect(); }, directory,
        [told](Severity, const std::string& line) { told->Note([&] { told->said.push_back(line); }); },
        [told](absl::StatusOr<EtcdMembership::Began> began) {
          told->Note([&] {
            told->began = began.status().code();
            if (began.ok()) told->cached = began->cached, told->first = began->membership;
          });
        });
  }
  static absl::StatusCode Join(Told* told, EtcdMembership& shell) {
    if (!told->Await([&] { return told->began.has_value(); })) return absl::StatusCode::kDeadlineExceeded;
    if (*told->began != kOk) return *told->began;
    shell.Register([told](const Membership& m) { told->Note([&] { told->membership = m; }); }, told->Done());
    return told->Next();
  }
  ThreadedEtcd etcd_;
  std::string root_;
  uint64_t started_ = 0;
};

TEST_F(ShellTest, WholeLife) {
  Told a_told, b_told;
  const auto a = Start(&a_told, "a"), b = Start(&b_told, "b");
  ASSERT_EQ(Join(&a_told, *a), kOk);
  ASSERT_EQ(Join(&b_told, *b), kOk);
  ASSERT_TRUE(a_told.Await([&] { return a_told.membership.members.size() == 2; }));
  EXPECT_EQ(a->Source(), "etcd e1:2379: ok");
  a->Announce(MemberState::kServing, a_told.Done());
  EXPECT_EQ(a_told.Next(), kOk);
  ASSERT_TRUE(b_told.Await([&] { return b_told.membership.Find("a") != nullptr && b_told.membership.Find("a")->state == MemberState::kServing; }));

  etcd_.Refuse(true);
  ASSERT_TRUE(a_told.Await([&] { return !a_told.said.empty(); }));
  a->Announce(MemberState::kCordoned, a_told.Done());
  EXPECT_EQ(a_told.Next(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(a->Source(), "etcd e1:2379: unreachable for 0s, cached view");
  etcd_.Refuse(false);
  a->Leave(a_told.Done());
  EXPECT_EQ(a_told.Next(), kOk);
  EXPECT_TRUE(b_told.Await([&] { return b_told.membership.members.size() == 1; }));
  a->Stop();
  a->Announce(MemberState::kServing, a_told.Done());
  EXPECT_EQ(a_told.Next(), absl::StatusCode::kUnavailable) << "answered, though nobody is there";
  a->Stop();
  b->Stop();
}

TEST_F(ShellTest, DirectoryKeepsClusterAndView) {
  Told told, again_told, foreign_told;
  {
    const auto directory = *StateDirectory::Open(root_ + "/a");
    const auto a = Start(&told, "a", directory.get());
    ASSERT_EQ(Join(&told, *a), kOk);
    a->Announce(MemberState::kServing, told.Done());
    EXPECT_EQ(told.Next(), kOk);
    a->Stop();  // and the last view is on disk
    EXPECT_NE(directory->cluster_id(), "");
  }
  etcd_.Refuse(true);
  const auto directory = *StateDirectory::Open(root_ + "/a");
  const auto again = Start(&again_told, "a", directory.get());
  ASSERT_EQ(Join(&again_told, *again), kOk) << "at once: nobody answers";
  EXPECT_TRUE(again_told.cached);
  EXPECT_EQ(again_told.first.Find("a")->state, MemberState::kServing);
  etcd_.Refuse(false);
  EXPECT_TRUE(again_told.Await([&] { return again_told.membership.Find("a") != nullptr && again_told.membership.Find("a")->state == MemberState::kJoining; }));
  again->Stop();

  const auto other = *StateDirectory::Open(root_ + "/b");
  ASSERT_TRUE(other->Claim("elsewhere").ok());
  const auto foreign = Start(&foreign_told, "b", other.get());
  EXPECT_EQ(Join(&foreign_told, *foreign), absl::StatusCode::kFailedPrecondition);
  foreign->Stop();
}

TEST_F(ShellTest, StopAnswersWhatIsOpen) {
  etcd_.Refuse(true);
  Told told;
  const auto a = Start(&told, "a");
  a->Register(nullptr, told.Done());
  a->Announce(MemberState::kDraining, told.Done());
  a->Stop();
  ASSERT_TRUE(told.Await([&] { return told.began.has_value() && told.answers.size() == 2; }));
  EXPECT_NE(*told.began, kOk);
  EXPECT_NE(told.Next(), kOk);
  EXPECT_NE(told.Next(), kOk);
}

TEST_F(ShellTest, StartsAndStopsAtAnyMoment) {
  std::mt19937_64 random = Rng(1);
  for (int round = 0; round < 40; ++round) {
    Told told;
    const auto a = Start(&told, "a");
    const uint64_t moment = random() % 4;
    ASSERT_TRUE(moment == 0 || told.Await([&] { return told.began.has_value(); }));
    if (moment >= 2) a->Register([&told](const Membership& m) { told.Note([&] { told.membership = m; }); }, told.Done());
    if (moment >= 3) a->Announce(static_cast<MemberState>(random() % 4), told.Done());
    if (random() % 2 == 0) etcd_.Change([](FakeEtcd& etcd) { etcd.Drop("/kvasir/default/members/a"); });
    a->Stop();
    etcd_.Change([](FakeEtcd& etcd) { etcd.Drop("/kvasir/default/members/a"); });
    const size_t asked = moment >= 3 ? 2 : moment >= 2 ? 1 : 0;
    EXPECT_TRUE(told.Await([&] { return told.answers.size() == asked && told.began.has_value(); })) << round;
  }
}

}  // namespace
}  // namespace kvasir::testing
