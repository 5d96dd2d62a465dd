// SPDX-License-Identifier: Apache-2.0
// Link: the part of a connection that all backends share, so that the laws are kept in one place: every pull ends
// exactly once, by success, failure, deadline or close; nothing lands after it ended; callbacks run with no frame of
// ours that could be surprised by what they do (close, destroy, pull again).
//
//   user -- LinkConnection (handle, closes in its destructor) -- shared_ptr -- Link -- LinkHome (one per transport)
//
// Links are shared: by the handle, by the home (so that the transport can close them) and by callbacks under way.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "transport/backends/grant_table.h"
#include "transport/transport.h"

namespace kvasir {

class Link;

/// Of Transport::Connect; an acceptor's link uses one too.
using ConnectDone = absl::AnyInvocable<void(absl::StatusOr<std::unique_ptr<Connection>>)>;
/// How long a dialler waits that gives no deadline, and how long a listener waits for a Hello.
inline constexpr Duration kHelloWaitMax = std::chrono::seconds(10);

/// What one transport and all its links share. Shared because a Connection or a region may outlive its Transport.
struct LinkHome {
  LinkHome(Loop& on, const TransportOptions& with, Capabilities can)
      : loop(on),
        options(with),
        capabilities(std::move(can)),
        incarnation(with.incarnation != 0 ? with.incarnation : NewIncarnation()),
        grants(std::make_shared<GrantTable>(on, incarnation)) {}

  /// Ends every link: nothing of this transport moves any more.
  void CloseAll();

  Loop& loop;
  const TransportOptions options;
  const Capabilities capabilities;
  const uint64_t incarnation;
  const std::shared_ptr<GrantTable> grants;  // shared with the regions
  absl::flat_hash_map<const Link*, std::shared_ptr<Link>> links;  // those not closed
};

/// One pull under way.
struct PullState {
  uint64_t id = 0;
  std::vector<Piece> pieces;
  PullDone done;
  Loop::TimerId timer = 0;
  // Where the backend's work has got to: the next byte to ask for, or to copy.
  size_t piece = 0;
  uint64_t offset = 0;
  uint32_t outstanding = 0;  ///< asked of the peer and not answered yet
  absl::Status failure;      ///< the first error; the pull ends when nothing is outstanding
  std::vector<const std::byte*> sources;  ///< per piece, for backends that copy
};

class Link : public std::enable_shared_from_this<Link> {
 public:
  explicit Link(std::shared_ptr<LinkHome> home) : home_(std::move(home)) {}
  virtual ~Link() = default;
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  /// Enters the link among the home's; `done` gets the handle when the backend says Opened, or why that failed.
  void Open(Instant deadline, ConnectDone done);
  void Pull(std::span<const Piece> pieces, Instant deadline, PullDone done);
  virtual absl::StatusOr<std::span<const std::byte>> Map(const RemoteSpan& remote);
  /// Every pull ends with `why` (Aborted: closed on this side), then OnClosed runs, all in a later turn. Idempotent.
  void Close(absl::Status why);
  void SetOnClosed(absl::AnyInvocable<void(absl::Status)> callback);
  /// The handle is gone: nobody wants to hear of the end.
  void DropOnClosed() { on_closed_ = nullptr; }

  uint64_t scope() const { return scope_; }
  bool closed() const { return closed_; }

 protected:
  // What a backend does. None of these runs a callback of the user.
  /// Begin (or queue) a pull.
  virtual void Start(PullState& pull) = 0;
  /// `pull` leaves by its deadline or a close: forget it. False when bytes of it might still land: the link is shut.
  virtual bool Withdraw(PullState& pull) = 0;
  /// Let go of sockets and peers: nothing lands after this.
  virtual void Shut(const absl::Status& why) = 0;

  /// The handshake is done.
  void Opened();
  bool open() const { return open_ && !closed_; }
  /// Ends a pull; `pull` is gone after it. Its callback runs at the next Deliver.
  void End(PullState& pull, absl::Status status);
  /// Runs the callbacks of ended pulls. The last thing an entry from the Loop does.
  void Deliver();
  void DeliverLater();

  Loop& loop() { return home_->loop; }
  LinkHome& home() { return *home_; }
  const absl::Status& closed_why() const { return closed_why_; }

  uint64_t scope_ = 0;             // of our grants that the peer may read
  uint64_t peer_incarnation_ = 0;  // known from the handshake

 private:
  struct Ended {
    PullDone done;
    absl::Status status;
  };
  absl::Status Refusal(std::span<const Piece> pieces) const;
  void OnDeadline(uint64_t id);

  const std::shared_ptr<LinkHome> home_;
  bool open_ = false;
  ConnectDone on_open_;
  Loop::TimerId open_timer_ = 0;
  bool closed_ = false;
  absl::Status closed_why_;
  uint64_t next_pull_ = 1;
  absl::flat_hash_map<uint64_t, std::unique_ptr<PullState>> pulls_;
  std::vector<Ended> ended_;
  std::vector<Ended> spare_ended_;
  absl::AnyInvocable<void(absl::Status)> on_closed_;
};

/// The user's handle.
class LinkConnection : public Connection {
 public:
  explicit LinkConnection(std::shared_ptr<Link> link) : link_(std::move(link)) {}
  ~LinkConnection() override;
  void Pull(std::span<const Piece> pieces, Instant deadline, PullDone done, Released) override {
    link_->Pull(pieces, deadline, std::move(done));  // these backends never quarantine
  }
  absl::StatusOr<std::span<const std::byte>> Map(const RemoteSpan& remote) override { return link_->Map(remote); }
  void Close() override;
  void OnClosed(absl::AnyInvocable<void(absl::Status)> callback) override { link_->SetOnClosed(std::move(callback)); }
  uint64_t scope() const override { return link_->scope(); }

 private:
  const std::shared_ptr<Link> link_;
};

}  // namespace kvasir
