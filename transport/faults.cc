// SPDX-License-Identifier: Apache-2.0
// The fault decorator. Each pull is held in a Held until it has ended towards the user, so that a late answer of the
// inner transport finds nobody and a close finds everybody.
#include "transport/faults.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace kvasir {
namespace {

/// What one faulty transport's connections share: the plan and where it has got to.
struct Faults {
  Faults(Loop& on, const FaultPlan& with) : loop(on), plan(with), random(with.seed) {}

  static bool Hits(uint64_t count, uint32_t every) { return every != 0 && count % every == 0; }
  Duration Delay() {
    std::uniform_int_distribution<Duration::rep> spread(plan.delay_min.count(),
                                                        std::max(plan.delay_min, plan.delay_max).count());
    return Duration(spread(random));
  }

  Loop& loop;
  const FaultPlan plan;
  std::mt19937_64 random;
  uint64_t pulls = 0;
};

struct Held {
  std::vector<Piece> pieces;
  PullDone done;
  Released released;
  Instant deadline;
  Loop::TimerId timer = 0;  // of the delayed answer, or of the deadline of an endless one
};

/// Pulls held on one connection. Shared with the inner transport's callbacks and with timers.
class Holder : public std::enable_shared_from_this<Holder> {
 public:
  explicit Holder(std::shared_ptr<Faults> faults) : faults_(std::move(faults)) {}

  bool closed = false;

  void Pull(Connection& inner, std::span<const Piece> pieces, Instant deadline, PullDone done, Released released) {
    const uint64_t count = ++faults_->pulls;
    Held& held = held_[count];
    held.pieces.assign(pieces.begin(), pieces.end());
    held.deadline = deadline;
    held.done = std::move(done);
    held.released = std::move(released);
    if (closed || !Faults::Hits(count, faults_->plan.endless_every)) {
      // The inner transport keeps the deadline while bytes may land.
      inner.Pull(pieces, deadline, [self = shared_from_this(), count](PullResult result) {
        self->Landed(count, std::move(result));
      });
    } else if (deadline != Instant::max()) {
      held.timer = faults_->loop.At(deadline, [self = shared_from_this(), count] { self->Endless(count); });
    }
  }

  void EndAll() {
    while (!held_.empty()) End(held_.begin()->first, PullResult{absl::AbortedError("connection closed")});
  }

 private:
  /// The inner transport has ended the pull.
  void Landed(uint64_t count, PullResult result) {
    auto found = held_.find(count);
    if (found == held_.end()) return;
    const FaultPlan& plan = faults_->plan;
    if (result.status.ok() && Faults::Hits(count, plan.fail_every)) {
      result.status = absl::UnavailableError("fault: failed");
    } else if (result.status.ok() && Faults::Hits(count, plan.flip_every)) {
      Flip(found->second.pieces);
    }
    if (closed || absl::IsDeadlineExceeded(result.status)) {
      End(count, std::move(result));
      return;
    }
    const Instant when = faults_->loop.Now() + faults_->Delay();
    if (when >= found->second.deadline) result.status = absl::DeadlineExceededError("fault: delayed");
    found->second.timer = faults_->loop.At(
        std::min(when, found->second.deadline),
        [self = shared_from_this(), count, result]() mutable { self->End(count, std::move(result)); });
  }

  /// The deadline of a pull that never answers.
  void Endless(uint64_t count) {
    PullResult result{absl::DeadlineExceededError("fault: endless")};
    const Duration quarantine = faults_->plan.quarantine;
    if (quarantine > Duration::zero()) {
      result.quarantined = true;
      faults_->loop.After(quarantine, [released = std::move(held_.at(count).released)]() mutable {
        if (released) released();
      });
    }
    End(count, std::move(result));
  }

  void End(uint64_t count, PullResult result) {
    auto node = held_.extract(count);
    if (node.empty()) return;
    Held& held = node.mapped();
    faults_->loop.Cancel(held.timer);
    std::move(held.done)(std::move(result));
  }

  void Flip(std::vector<Piece>& pieces) {
    for (Piece& piece : pieces) {
      if (piece.local.empty()) continue;
      const uint64_t bit = faults_->random() % (piece.local.size() * 8);
      piece.local[bit / 8] ^= std::byte{1} << (bit % 8);
      return;
    }
  }

  const std::shared_ptr<Faults> faults_;
  absl::flat_hash_map<uint64_t, Held> held_;
};

class FaultyConnection : public Connection {
 public:
  FaultyConnection(std::unique_ptr<Connection> inner, std::shared_ptr<Faults> faults)
      : inner_(std::move(inner)), loop_(faults->loop), holder_(std::make_shared<Holder>(std::move(faults))) {}
  ~FaultyConnection() override { EndAllLater(); }

  void Pull(std::span<const Piece> pieces, Instant deadline, PullDone done, Released released) override {
    holder_->Pull(*inner_, pieces, deadline, std::move(done), std::move(released));
  }
  absl::StatusOr<std::span<const std::byte>> Map(const RemoteSpan& remote) override { return inner_->Map(remote); }
  void Close() override {
    inner_->Close();
    EndAllLater();
  }
  void OnClosed(absl::AnyInvocable<void(absl::Status)> callback) override { inner_->OnClosed(std::move(callback)); }
  uint64_t scope() const override { return inner_->scope(); }

 private:
  void EndAllLater() {
    holder_->closed = true;
    loop_.Post([holder = holder_] { holder->EndAll(); });
  }

  const std::unique_ptr<Connection> inner_;
  Loop& loop_;
  const std::shared_ptr<Holder> holder_;
};

class FaultyTransport : public Transport {
 public:
  FaultyTransport(Loop& loop, std::unique_ptr<Transport> inner, const FaultPlan& plan)
      : inner_(std::move(inner)), faults_(std::make_shared<Faults>(loop, plan)) {}

  const Capabilities& capabilities() const override { return inner_->capabilities(); }
  uint64_t incarnation() const override { return inner_->incarnation(); }
  absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(MemorySpan memory) override {
    return inner_->Register(memory);
  }
  absl::StatusOr<std::string> Listen(std::string_view where, Acceptor acceptor) override {
    auto accepted = [faults = faults_, accepted = std::move(acceptor.accepted)](std::unique_ptr<Connection> inner) {
      accepted(std::make_unique<FaultyConnection>(std::move(inner), faults));
    };
    return inner_->Listen(where, Acceptor{std::move(acceptor.judge), std::move(accepted)});
  }
  void Connect(std::string_view address, ConnectOptions options,
               absl::AnyInvocable<void(absl::StatusOr<std::unique_ptr<Connection>>)> done) override {
    using Dialled = absl::StatusOr<std::unique_ptr<Connection>>;
    auto wrap = [faults = faults_, done = std::move(done)](Dialled inner) mutable {
      if (!inner.ok()) {
        done(inner.status());
      } else {
        done(std::make_unique<FaultyConnection>(*std::move(inner), faults));
      }
    };
    inner_->Connect(address, std::move(options), std::move(wrap));
  }

 private:
  const std::unique_ptr<Transport> inner_;
  const std::shared_ptr<Faults> faults_;
};

}  // namespace

std::unique_ptr<Transport> MakeFaultyTransport(Loop& loop, std::unique_ptr<Transport> inner, const FaultPlan& plan) {
  return std::make_unique<FaultyTransport>(loop, std::move(inner), plan);
}

}  // namespace kvasir
