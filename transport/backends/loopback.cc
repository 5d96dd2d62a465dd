// SPDX-License-Identifier: Apache-2.0
// loopback: both peers in one process, on one Loop or on two. The reference of the contract: a pull asks the other Loop
// to judge and pin, copies on its own, and asks the other to unpin.
//
//   puller's Loop  --Post: Serve(pull, grants)-->  owner's Loop: Pin each
//                  <--Post: Served(sources)------
//   copies in turns, holding Pipe::mutex; an owner that closes takes it too, so that nothing is read afterwards
//                  --Post: Release(pull)-------->  Unpin
#include <array>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "transport/backends/copy_queue.h"
#include "transport/backends/link.h"
#include "transport/sync.h"

namespace kvasir {
namespace {

class LoopbackLink;

/// The two ends of a connection. Shared by them and by tasks under way.
struct Pipe {
  Mutex mutex;
  bool open ABSL_GUARDED_BY(mutex) = true;
  // An end that has not closed keeps its Loop alive: posting needs the mutex and `open`.
  std::array<Loop*, 2> loops ABSL_GUARDED_BY(mutex) = {};
  std::array<std::weak_ptr<LoopbackLink>, 2> ends ABSL_GUARDED_BY(mutex);
};

struct Want {
  uint64_t grant;
  uint64_t offset;
  uint64_t length;
};

class LoopbackLink : public Link {
 public:
  LoopbackLink(std::shared_ptr<LinkHome> home, std::shared_ptr<Pipe> pipe, int side)
      : Link(std::move(home)), pipe_(std::move(pipe)), side_(side) {}

  /// Runs `task(end)` on the other side's Loop, if it is still there.
  void PostToPeer(absl::AnyInvocable<void(LoopbackLink&)> task) {
    MutexLock lock(pipe_->mutex);
    Loop* const other = pipe_->loops[1 - side_];
    if (!pipe_->open || other == nullptr) return;
    other->Post([peer = pipe_->ends[1 - side_], task = std::move(task)]() mutable {
      const std::shared_ptr<LoopbackLink> end = peer.lock();
      if (end != nullptr && !end->closed()) task(*end);
    });
  }
  /// Joins the pipe: from now on the peer may post to this side.
  void Join() {
    MutexLock lock(pipe_->mutex);
    pipe_->loops[side_] = &loop();
    pipe_->ends[side_] = std::static_pointer_cast<LoopbackLink>(shared_from_this());
  }
  void Ready(uint64_t scope, uint64_t peer_incarnation) {
    scope_ = scope;
    peer_incarnation_ = peer_incarnation;
    Opened();
    Deliver();
  }

 protected:
  void Start(PullState& pull) override {
    std::vector<Want> wants;
    wants.reserve(pull.pieces.size());
    for (const Piece& piece : pull.pieces) {
      wants.push_back({piece.remote.grant, piece.remote.offset, piece.remote.length});
    }
    PostToPeer([id = pull.id, wants = std::move(wants)](LoopbackLink& peer) { peer.Serve(id, wants); });
    waiting_.emplace(pull.id, &pull);
  }

  bool Withdraw(PullState& pull) override {
    if (waiting_.erase(pull.id) == 0) {
      copies_.Remove(pull);
      PostRelease(pull.id);
    }
    return true;  // copies happen on this Loop only
  }

  void Shut(const absl::Status&) override {
    PostToPeer([](LoopbackLink& peer) { peer.Close(absl::UnavailableError("peer closed the connection")); });
    {
      MutexLock lock(pipe_->mutex);  // waits for the peer's copy in hand
      pipe_->open = false;
    }
    for (const auto& [id, grants] : pinned_) {
      for (const uint64_t grant : grants) home().grants->Unpin(grant);
    }
    pinned_.clear();
  }

 private:
  /// The owner's side: judges and pins on behalf of the peer's pull.
  void Serve(uint64_t id, const std::vector<Want>& wants) {
    std::vector<uint64_t>& pins = pinned_[id];
    std::vector<const std::byte*> sources;
    absl::Status status;
    for (const Want& want : wants) {
      absl::StatusOr<const std::byte*> source = home().grants->Pin(want.grant, scope_, want.offset, want.length);
      if (!source.ok()) {
        status = source.status();
        break;
      }
      pins.push_back(want.grant);
      sources.push_back(*source);
    }
    if (!status.ok()) Release(id);
    PostToPeer([id, status, sources = std::move(sources)](LoopbackLink& peer) mutable {
      peer.Served(id, std::move(status), std::move(sources));
    });
  }

  void Release(uint64_t id) {
    auto node = pinned_.extract(id);
    if (node.empty()) return;
    for (const uint64_t grant : node.mapped()) home().grants->Unpin(grant);
  }

  /// The puller's side: the owner has answered.
  void Served(uint64_t id, absl::Status status, std::vector<const std::byte*> sources) {
    auto node = waiting_.extract(id);
    if (node.empty()) {  // ended meanwhile
      PostRelease(id);
      return;
    }
    PullState& pull = *node.mapped();
    if (!status.ok()) {
      End(pull, std::move(status));
      Deliver();
      return;
    }
    pull.sources = std::move(sources);
    copies_.Add(pull);
    PostCopy();
  }

  void PostCopy() {
    if (std::exchange(copy_posted_, true)) return;
    loop().Post([self = std::static_pointer_cast<LoopbackLink>(shared_from_this())] { self->Copy(); });
  }

  void Copy() {
    copy_posted_ = false;
    const std::vector<PullState*>* complete = nullptr;
    {
      MutexLock lock(pipe_->mutex);
      if (!pipe_->open) return;  // the peer's word of it, or our own close, ends the pulls
      complete = &copies_.Turn();
    }
    for (PullState* pull : *complete) {
      PostRelease(pull->id);
      End(*pull, absl::OkStatus());
    }
    if (!copies_.empty()) PostCopy();
    Deliver();
  }

  void PostRelease(uint64_t id) {
    PostToPeer([id](LoopbackLink& peer) { peer.Release(id); });
  }

  const std::shared_ptr<Pipe> pipe_;
  const int side_;
  absl::flat_hash_map<uint64_t, PullState*> waiting_;  // for the owner's answer
  CopyQueue copies_;
  bool copy_posted_ = false;
  absl::flat_hash_map<uint64_t, std::vector<uint64_t>> pinned_;  // by the peer's pull: grants of ours
};

/// A listener. Belongs to its transport's Loop.
struct LoopbackListener {
  std::shared_ptr<LinkHome> home;
  Acceptor acceptor;

  void Accept(const std::shared_ptr<Pipe>& pipe, const ConnectOptions& options, uint64_t dialler) {
    auto link = std::make_shared<LoopbackLink>(home, pipe, 1);
    link->Open(Instant(), [this](absl::StatusOr<std::unique_ptr<Connection>> connection) {
      if (connection.ok()) acceptor.accepted(*std::move(connection));
    });
    link->Join();
    absl::StatusOr<uint64_t> scope = Judge(options);
    if (!scope.ok()) {
      link->PostToPeer([status = scope.status()](LoopbackLink& peer) { peer.Close(status); });
      link->Close(scope.status());
      return;
    }
    link->PostToPeer([scope = options.scope, incarnation = home->incarnation](LoopbackLink& peer) {
      peer.Ready(scope, incarnation);
    });
    link->Ready(*scope, dialler);
  }

  absl::StatusOr<uint64_t> Judge(const ConnectOptions& options) const {
    if (options.peer_incarnation != 0 && options.peer_incarnation != home->incarnation) {
      return absl::PermissionDeniedError("this address belongs to another incarnation");
    }
    if (home->links.size() > home->options.connections_max) return absl::ResourceExhaustedError("connections_max");
    return acceptor.judge(options.credentials);
  }
};

/// Where diallers of this process find listeners: the stand-in for a network, and so the one thing all share.
struct Switchboard {
  Mutex mutex;
  absl::flat_hash_map<std::string, std::weak_ptr<LoopbackListener>> listeners ABSL_GUARDED_BY(mutex);

  static Switchboard& Get() {
    static Switchboard switchboard;
    return switchboard;
  }
};

class LoopbackTransport : public Transport {
 public:
  LoopbackTransport(Loop& loop, const TransportOptions& options)
      : home_(std::make_shared<LinkHome>(loop, options,
                                         Capabilities{.name = "loopback",
                                                      .same_host = true,
                                                      .sees_reads = true,
                                                      .enforces_read_only = true,
                                                      .piece_bytes_max = UINT64_MAX,
                                                      .inflight_bytes = options.inflight_bytes})) {}

  ~LoopbackTransport() override {
    {
      Switchboard& board = Switchboard::Get();
      MutexLock lock(board.mutex);
      for (const auto& [name, listener] : listeners_) board.listeners.erase(name);
    }
    home_->CloseAll();
  }

  const Capabilities& capabilities() const override { return home_->capabilities; }
  uint64_t incarnation() const override { return home_->incarnation; }
  absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(MemorySpan memory) override {
    if (memory.place != MemoryPlace::kHost) return absl::InvalidArgumentError("loopback copies host memory only");
    return GrantTable::Register(home_->grants, memory);
  }

  absl::StatusOr<std::string> Listen(std::string_view where, Acceptor acceptor) override {
    std::string name = where.empty() ? absl::StrCat("loopback-", absl::Hex(NewIncarnation())) : std::string(where);
    auto listener = std::make_shared<LoopbackListener>(LoopbackListener{home_, std::move(acceptor)});
    Switchboard& board = Switchboard::Get();
    MutexLock lock(board.mutex);
    if (!board.listeners.emplace(name, listener).second) return absl::UnavailableError(name + " is in use");
    listeners_.emplace(name, std::move(listener));
    return name;
  }

  void Connect(std::string_view address, ConnectOptions options, ConnectDone done) override {
    auto pipe = std::make_shared<Pipe>();
    auto link = std::make_shared<LoopbackLink>(home_, pipe, 0);
    link->Open(options.deadline, std::move(done));
    link->Join();
    if (options.credentials.size() > kCredentialsBytesMax) {
      link->Close(absl::InvalidArgumentError("credentials over kCredentialsBytesMax"));
      return;
    }
    Switchboard& board = Switchboard::Get();
    MutexLock lock(board.mutex);
    auto found = board.listeners.find(std::string(address));
    const std::shared_ptr<LoopbackListener> listener = found == board.listeners.end() ? nullptr : found->second.lock();
    if (listener == nullptr) {
      link->Close(absl::UnavailableError(absl::StrCat("nobody listens at ", std::string(address))));
      return;
    }
    // Listed means its transport lives, and so does the Loop.
    listener->home->loop.Post([listener = std::weak_ptr(listener), pipe, options, dialler = home_->incarnation] {
      if (const std::shared_ptr<LoopbackListener> there = listener.lock()) there->Accept(pipe, options, dialler);
    });
  }

 private:
  const std::shared_ptr<LinkHome> home_;
  absl::flat_hash_map<std::string, std::shared_ptr<LoopbackListener>> listeners_;
};

}  // namespace

std::unique_ptr<Transport> MakeLoopbackTransport(Loop& loop, const TransportOptions& options) {
  return std::make_unique<LoopbackTransport>(loop, options);
}

}  // namespace kvasir
