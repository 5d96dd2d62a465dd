// SPDX-License-Identifier: Apache-2.0
// EtcdMembership: a MembershipCore with a thread, a clock and an etcd. Registers a node, follows the members, keeps the
// last view on disk. Life: Start, its `ready`; Register once the node can be dialled; Leave at the end of a drain;
// Stop.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "store/api/log_sink.h"
#include "store/membership/membership_core.h"
#include "store/membership/state_directory.h"

namespace kvasir {

class EtcdMembership {
 public:
  /// A new connection to an endpoint; never blocks.
  using Dial = std::function<std::shared_ptr<KeyValue>(const std::string& endpoint)>;
  struct Began {
    Membership membership;  ///< with this node in it
    bool cached = false;    ///< etcd does not answer: this is the one of an earlier life
  };
  using OnBegan = absl::AnyInvocable<void(absl::StatusOr<Began>)>;
  using Done = absl::AnyInvocable<void(absl::Status)>;
  using OnChange = std::function<void(const Membership&)>;

  /// `ready` runs once, on the membership's thread: with a view to start a node with, or with why there will be none
  /// (FailedPrecondition: another cluster's directory, another run_blocks; AlreadyExists: the id is taken). Until etcd
  /// answers it waits, and says so, unless `options.cached` helps. `directory` (or nullptr) outlives this object.
  static std::shared_ptr<EtcdMembership> Start(MembershipOptions options, Dial dial, StateDirectory* directory,
                                               LogSink log, OnBegan ready);
  virtual ~EtcdMembership() = default;

  // Any thread; callbacks run on the membership's.
  /// Others may see this node now. `change` runs with each later membership until Stop; `done` once this node is
  /// registered or cannot be (as above; after a cached start: at once).
  virtual void Register(OnChange change, Done done) = 0;
  /// Asks for another state of this node. `done`: every node is being told; or Unavailable, DeadlineExceeded: not yet, it
  /// is written once etcd answers (or this node leaves); Aborted: overtaken by another change or by a new registration.
  virtual void Announce(MemberState state, Done done) = 0;
  /// Takes this node's key out. Answers within MembershipCore::kLeaveMax; nothing follows.
  virtual void Leave(Done done) = 0;
  /// "etcd 10.0.0.1:2379: ok", "etcd 10.0.0.1:2379: unreachable for 12s, cached view"
  virtual std::string Source() const = 0;
  /// No callback runs after it returned; calls are answered Unavailable. Not from a callback. Waits for the last save.
  virtual void Stop() = 0;
};

}  // namespace kvasir
