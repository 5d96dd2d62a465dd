// SPDX-License-Identifier: Apache-2.0
// Transport: bytes in motion. Every bulk move is a pull: whoever owns the destination memory starts it. The client
// dials, the store listens; one connection carries pulls of both directions.
//
// Eight laws, held by tests/transport/contract_test over every backend:
//  1 A completion comes exactly once, on the Loop and never inside a call of the user: after success, failure, Close,
//    the peer's death, the deadline.
//  2 After it the transport never touches the local pieces again.
//  3 Deadlines are ours, by the Loop's clock: at the deadline the pull ends; where quiet takes longer to prove, the
//    status comes first with PullResult::quarantined, and `released` runs later.
//  4 Errors are few: Unavailable (peer gone), DeadlineExceeded, PermissionDenied (grant revoked, foreign, out of
//    range), Aborted (closed here), ResourceExhausted (try later), InvalidArgument (malformed), Internal.
//  5 Pieces land in any order; a failed pull leaves garbage, never a claim.
//  6 Back pressure by bytes in flight, queued fairly, not by number of operations.
//  7 A connection is bound to the peer's incarnation: an address reused by another process is refused.
//  8 Pieces of zero length, unaligned ones, and one of 4 GiB work.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/loop.h"
#include "transport/memory_region.h"

namespace kvasir {

/// What differs between backends, as data.
struct Capabilities {
  std::string name;               ///< "tcp", "shm", "loopback"
  bool same_host = false;         ///< only reaches peers on this machine
  bool target_cpu_idle = false;   ///< a pull works while the other side's thread sleeps
  bool addressable = false;       ///< Connection::Map gives a pointer
  bool sees_reads = false;        ///< Revoke's quiet is exact
  bool cuda = false;              ///< device memory may be a piece
  bool enforces_read_only = false;
  uint64_t piece_bytes_max = 0;
  uint64_t inflight_bytes = 0;    ///< window of one connection
};

/// One move: remote bytes into local memory. `local` and `remote` have the same length.
struct Piece {
  std::span<std::byte> local;
  RemoteSpan remote;
};

struct PullResult {
  absl::Status status;
  bool quarantined = false;  ///< the local pieces may still be written until `released`
};
/// Exactly once, on the Loop.
using PullDone = absl::AnyInvocable<void(PullResult)>;
/// Exactly once, on the Loop, after PullDone and only when it said quarantined.
using Released = absl::AnyInvocable<void()>;

/// A live path to one peer. Belongs to its transport's Loop. Destroying it closes it: its pulls still end, with
/// Aborted, in a later turn, so what their callbacks capture has to live until then; only OnClosed is dropped. May
/// outlive its transport.
class Connection {
 public:
  virtual ~Connection() = default;
  /// Starts a pull; never blocks. `pieces` are copied; their memory stays valid until done (or released).
  virtual void Pull(std::span<const Piece> pieces, Instant deadline, PullDone done, Released released = nullptr) = 0;
  /// Pointer to remote bytes, right while the connection and the grant live, and safe to read until this object is
  /// destroyed, whatever the peer does. Unavailable until the grant has been asked for: pull it first, of zero length
  /// if need be. Unimplemented unless `addressable`.
  virtual absl::StatusOr<std::span<const std::byte>> Map(const RemoteSpan& remote) = 0;
  /// Ends every pull with Aborted. Idempotent.
  virtual void Close() = 0;
  /// Runs once, on the Loop, when the peer is gone or Close was called.
  virtual void OnClosed(absl::AnyInvocable<void(absl::Status)> callback) = 0;
  /// The scope this side's grants must have for the peer to read them.
  virtual uint64_t scope() const = 0;
};

/// What a dialler says, and expects.
struct ConnectOptions {
  uint64_t peer_incarnation = 0;  ///< from the control plane; 0 only in tests that do not care
  std::string credentials;        ///< opaque, at most kCredentialsBytesMax; the acceptor judges them
  uint64_t scope = 0;             ///< of grants made on this side
  Instant deadline;               ///< left out: 10 s from now
};
inline constexpr size_t kCredentialsBytesMax = 256;

/// How a listener judges and takes connections. Both run on the Loop.
struct Acceptor {
  /// The local scope of a peer that shows these credentials, or why it is refused (the peer sees PermissionDenied).
  std::function<absl::StatusOr<uint64_t>(std::string_view credentials)> judge;
  std::function<void(std::unique_ptr<Connection>)> accepted;
};

/// One backend on one Loop. Destroying it closes its connections and listeners; destroy its regions after it.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual const Capabilities& capabilities() const = 0;
  virtual uint64_t incarnation() const = 0;
  virtual absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(MemorySpan memory) = 0;
  /// Listens and answers the address to tell peers ("127.0.0.1:40123", "@kvasir-7f3a"). `where`: backend's own form
  /// (numeric "host:port", port 0 = any; shm: a path or an @abstract name, empty = any). Unavailable when it is in use.
  virtual absl::StatusOr<std::string> Listen(std::string_view where, Acceptor acceptor) = 0;
  /// `done` runs once, in a later turn: PermissionDenied where the peer refuses us or is another incarnation.
  virtual void Connect(std::string_view address, ConnectOptions options,
                       absl::AnyInvocable<void(absl::StatusOr<std::unique_ptr<Connection>>)> done) = 0;
};

/// Random, never 0: one per process start (or per node object in tests).
uint64_t NewIncarnation();

struct TransportOptions {
  uint64_t incarnation = 0;                 ///< 0 = NewIncarnation()
  uint64_t inflight_bytes = 2ull << 20;     ///< per connection; a long fat pipe needs bandwidth x delay
  uint32_t connections_max = 4096;
  uint32_t queued_pulls_max = 65536;        ///< per connection; more are ResourceExhausted
};

// The one list of backends. The loop must outlive the transport.
std::unique_ptr<Transport> MakeLoopbackTransport(Loop& loop, const TransportOptions& options);
std::unique_ptr<Transport> MakeTcpTransport(Loop& loop, const TransportOptions& options);
std::unique_ptr<Transport> MakeShmTransport(Loop& loop, const TransportOptions& options);

/// By capabilities().name; InvalidArgument lists the names of this build.
absl::StatusOr<std::unique_ptr<Transport>> MakeTransport(std::string_view name, Loop& loop,
                                                         const TransportOptions& options);
/// Names of this build, best for bulk first.
std::vector<std::string> TransportNames();

}  // namespace kvasir
