// SPDX-License-Identifier: Apache-2.0
// The shell: carries the core's actions out on one Loop, brings answers back to it, saves views on another, so that a
// slow disk never delays a lease.
#include "store/membership/etcd_membership.h"

#include <map>
#include <optional>
#include <utility>

#include "store/link/mailbox.h"
#include "transport/loop.h"
#include "transport/sync.h"

namespace kvasir {
namespace {

namespace action = membership_action;
namespace event = membership_event;

/// Keeps the newest view on disk. Views that come while one is written replace each other.
class ViewSaver {
 public:
  ViewSaver(StateDirectory* directory, LogSink log) : directory_(directory), log_(std::move(log)) {
    if (directory_ != nullptr) thread_ = std::make_unique<LoopThread>("kv-view");
  }
  /// What was to be saved is on disk then.
  void Flush() {
    if (thread_ != nullptr) thread_->Call([] {});
  }
  void Save(const Membership& view) {
    if (directory_ == nullptr) return;
    {
      MutexLock lock(mutex_);
      if (std::exchange(next_, view).has_value()) return;
    }
    thread_->loop().Post([this] { SaveNext(); });
  }

 private:
  void SaveNext() {
    std::optional<Membership> view;
    {
      MutexLock lock(mutex_);
      view = std::exchange(next_, std::nullopt);
    }
    const absl::Status saved = directory_->SaveView(*view);
    if (saved.ok() != saved_) {
      log_(saved.ok() ? Severity::kInfo : Severity::kWarning,
           saved.ok() ? "the members are cached again"
                      : "the members cannot be cached: " + std::string(saved.message()));
    }
    saved_ = saved.ok();
  }

  StateDirectory* const directory_;
  const LogSink log_;
  Mutex mutex_;
  std::optional<Membership> next_ ABSL_GUARDED_BY(mutex_);
  bool saved_ = true;  // the saver's thread
  std::unique_ptr<LoopThread> thread_;
};

class EtcdMembershipImpl final : public EtcdMembership {
 public:
  EtcdMembershipImpl(MembershipOptions options, Dial dial, StateDirectory* directory, LogSink log, OnBegan ready)
      : endpoints_(options.endpoints),
        dial_(std::move(dial)),
        directory_(directory),
        log_(log),
        ready_(std::move(ready)),
        core_(std::move(options)),
        saver_(directory, std::move(log)),
        thread_(std::make_unique<LoopThread>("kv-members")),
        mailbox_(std::make_shared<Mailbox>(thread_->loop())) {
    thread_->loop().Post([this] { Step(event::Begin{}); });
  }
  ~EtcdMembershipImpl() override { Stop(); }

  void Register(OnChange change, Done done) override {
    Run(std::move(done), [this, change = std::move(change)](Done done) mutable {
      change_ = std::move(change);
      if (unheard_.has_value()) change_(*std::exchange(unheard_, std::nullopt));
      registered_ = std::move(done);
      if (!refused_.ok()) return Answer(&registered_, refused_);
      if (cached_) Answer(&registered_, absl::OkStatus());
      Step(event::Register{});
    });
  }
  void Announce(MemberState state, Done done) override {
    Run(std::move(done), [this, state](Done done) {
      announces_[++announced_] = std::move(done);
      Step(event::Announce{announced_, state});
    });
  }
  void Leave(Done done) override {
    Run(std::move(done), [this](Done done) {
      left_ = std::move(done);
      Step(event::Leave{});
    });
  }
  std::string Source() const override {
    MutexLock lock(mutex_);
    std::string names;
    for (const std::string& endpoint : endpoints_) names += (names.empty() ? "" : ",") + endpoint;
    if (!contact_.reachable) {
      const auto away =
          std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - contact_.since);
      return "etcd " + names + ": unreachable for " + std::to_string(away.count()) + "s, cached view";
    }
    return "etcd " + endpoints_[contact_.endpoint] + ": ok" +
           (contact_.trouble.empty() ? "" : ", but not registered: " + contact_.trouble);
  }
  void Stop() override {
    std::unique_ptr<LoopThread> ending;
    {
      MutexLock lock(mutex_);
      ending = std::move(thread_);
    }
    if (ending == nullptr) return;
    ending->Call([this] {  // on its own thread: what is running there ends first
      stopped_ = true;
      watcher_.reset();
      store_.reset();
      const absl::Status ended = absl::UnavailableError("the membership has ended");
      for (auto& [id, done] : std::exchange(announces_, {})) done(ended);
      for (Done* done : {&registered_, &left_}) Answer(done, ended);
      if (OnBegan run = std::exchange(ready_, nullptr)) run(ended);
    });
    mailbox_->Close();
    saver_.Flush();
  }

 private:
  /// `work` on the Loop with `done`, or `done` at once when there is no Loop any more.
  void Run(Done done, absl::AnyInvocable<void(Done)> work) {
    MutexLock lock(mutex_);
    if (thread_ == nullptr) return done(absl::UnavailableError("the membership has ended"));
    thread_->loop().Post([this, done = std::move(done), work = std::move(work)]() mutable {
      if (stopped_) return done(absl::UnavailableError("the membership has ended"));
      work(std::move(done));
    });
  }
  static void Answer(Done* done, const absl::Status& status) {
    if (Done run = std::exchange(*done, nullptr)) run(status);
  }

  void Step(MembershipEvent event) {
    if (stopped_) return;
    for (MembershipAction& action : core_.Step(std::move(event), loop().Now())) {
      std::visit([this](auto&& a) { Act(std::move(a)); }, std::move(action));
    }
    loop().Cancel(timer_);
    timer_ = core_.wake() == Instant::max() ? 0 : loop().At(core_.wake(), [this] { Step(event::Tick{}); });
  }
  /// The Loop only.
  Loop& loop() { return *loop_; }

  /// An answer of etcd as an event of the core.
  template <class Event, class Reply>
  kvasir::Answer<Reply> Bring(uint64_t ticket) {
    return [this, mailbox = mailbox_, ticket](absl::StatusOr<Reply> reply) {
      mailbox->Post([this, ticket, reply = std::move(reply)]() mutable {
        Step(Event{ticket, Told<Event>(std::move(reply))});
      });
    };
  }
  template <class Event, class Reply>
  static auto Told(absl::StatusOr<Reply> reply) {
    if constexpr (std::is_same_v<Reply, KeyValue::Nothing>) return reply.status();
    if constexpr (!std::is_same_v<Reply, KeyValue::Nothing>) return reply;
  }

  void Act(action::Connect connect) {
    watcher_.reset();
    store_ = dial_(endpoints_[connect.endpoint]);
  }
  void Act(action::Range range) {
    store_->Range(std::move(range.request), core_.call_deadline(),
                  Bring<event::Ranged, KeyValue::RangeReply>(range.ticket));
  }
  void Act(action::Txn txn) {
    store_->Txn(std::move(txn.request), core_.call_deadline(),
                Bring<event::Transacted, KeyValue::TxnReply>(txn.ticket));
  }
  void Act(action::Grant grant) {
    store_->Grant(grant.ttl, core_.call_deadline(), Bring<event::Granted, KeyValue::GrantReply>(grant.ticket));
  }
  void Act(action::Renew renew) {
    store_->Renew(renew.lease, core_.call_deadline(), Bring<event::Renewed, KeyValue::Nothing>(renew.ticket));
  }
  void Act(action::Revoke revoke) {
    store_->Revoke(revoke.lease, core_.call_deadline(), Bring<event::Revoked, KeyValue::Nothing>(revoke.ticket));
  }
  void Act(action::Watch watch) {
    const uint64_t ticket = watch.ticket;
    watcher_ = store_->Watch(
        std::move(watch.prefix), watch.from,
        [this, mailbox = mailbox_, ticket](std::vector<KeyValue::Change> changes) {
          mailbox->Post([this, ticket, changes = std::move(changes)]() mutable {
            Step(event::Changed{ticket, std::move(changes)});
          });
        },
        [this, mailbox = mailbox_, ticket](absl::Status status) {
          mailbox->Post([this, ticket, status = std::move(status)] { Step(event::WatchEnded{ticket, status}); });
        });
  }
  void Act(action::AskForSign) { watcher_->AskForSign(); }
  void Act(action::Unwatch) { watcher_.reset(); }

  void Act(action::Remember remember) {
    const absl::Status saved = directory_ == nullptr ? absl::OkStatus() : directory_->Claim(remember.cluster_id);
    if (!saved.ok()) log_(Severity::kWarning, "the cluster's identity cannot be kept: " + std::string(saved.message()));
  }
  void Act(action::Ready ready) {
    cached_ = ready.cached;
    if (!ready.cached) saver_.Save(ready.membership);
    if (OnBegan run = std::exchange(ready_, nullptr)) run(Began{std::move(ready.membership), ready.cached});
  }
  void Act(action::Refused refused) {
    refused_ = refused.status;
    if (OnBegan run = std::exchange(ready_, nullptr)) return run(refused.status);
    Answer(&registered_, refused.status);
  }
  void Act(action::Registered) { Answer(&registered_, absl::OkStatus()); }
  void Act(action::Adopt adopt) {
    saver_.Save(adopt.membership);
    if (change_) return change_(adopt.membership);
    unheard_ = std::move(adopt.membership);
  }
  void Act(action::Announced announced) {
    const auto at = announces_.find(announced.id);
    Done done = std::move(at->second);
    announces_.erase(at);
    done(announced.status);
  }
  void Act(action::Left left) { Answer(&left_, left.status); }
  void Act(action::Contact contact) {
    MutexLock lock(mutex_);
    contact_ = std::move(contact);
  }
  void Act(action::Say say) { log_(say.severity, say.text); }

  const std::vector<std::string> endpoints_;
  const Dial dial_;
  StateDirectory* const directory_;
  const LogSink log_;
  // ---- the Loop's
  OnBegan ready_;
  OnChange change_;
  Done registered_, left_;
  std::optional<Membership> unheard_;  // came before anybody wanted changes
  absl::Status refused_;
  bool cached_ = false, stopped_ = false;
  uint64_t announced_ = 0;
  std::map<uint64_t, Done> announces_;
  MembershipCore core_;
  std::shared_ptr<KeyValue> store_;
  std::unique_ptr<KeyValue::Watcher> watcher_;
  Loop::TimerId timer_ = 0;
  ViewSaver saver_;
  // ---- shared
  mutable Mutex mutex_;
  action::Contact contact_ ABSL_GUARDED_BY(mutex_){false, 0, std::chrono::steady_clock::now(), ""};
  std::unique_ptr<LoopThread> thread_;
  Loop* const loop_ = &thread_->loop();
  const std::shared_ptr<Mailbox> mailbox_;
};

}  // namespace

std::shared_ptr<EtcdMembership> EtcdMembership::Start(MembershipOptions options, Dial dial, StateDirectory* directory,
                                                      LogSink log, OnBegan ready) {
  return std::make_shared<EtcdMembershipImpl>(std::move(options), std::move(dial), directory, std::move(log),
                                              std::move(ready));
}

}  // namespace kvasir
