// SPDX-License-Identifier: Apache-2.0
// KeyValue: what the membership needs of an etcd v3, as plain values and asynchronous calls: ordered keys with
// revisions, transactions, leases, watches. One object is one connection to one endpoint; a new one never shares a
// socket with it.
//
// A revision counts the changes of the whole store; every change has its own. Thread safe. Each answer comes exactly
// once, by its deadline, on any thread, also after the object is gone; Unavailable or DeadlineExceeded mean that nobody
// knows whether it was done.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "store/api/store_api.h"

namespace kvasir {

class KeyValue {
 public:
  struct Entry {
    std::string key, value;
    uint64_t created = 0;   ///< revision of the key's creation
    uint64_t modified = 0;  ///< of its last change
    int64_t lease = 0;      ///< the key goes with it; 0 = stays until it is deleted
    friend bool operator==(const Entry&, const Entry&) = default;
  };

  struct RangeRequest {
    std::string prefix;
    uint32_t limit = 0;  ///< most entries that are answered
  };
  struct RangeReply {
    uint64_t revision = 0;       ///< that all entries are read at; never older than a change that was seen
    std::vector<Entry> entries;  ///< by key
    bool more = false;           ///< the limit cut it
  };

  /// True when the key's revision is this one; 0 = there is no such key.
  struct Condition {
    enum class Of : uint8_t { kCreation, kLastChange };
    std::string key;
    Of of = Of::kLastChange;
    uint64_t revision = 0;
  };
  struct Put {
    std::string key, value;
    int64_t lease = 0;
  };
  struct TxnRequest {
    std::vector<Condition> when;  ///< all of them
    std::vector<Put> puts;        ///< then done at once, at one revision
  };
  struct TxnReply {
    bool done = false;      ///< false: a condition did not hold, nothing was changed
    uint64_t revision = 0;  ///< of the change
  };
  struct GrantReply {
    int64_t lease = 0;
    Duration ttl{};  ///< at least what was asked for
  };
  struct Nothing {};

  virtual ~KeyValue() = default;
  virtual void Range(RangeRequest request, Duration deadline, Answer<RangeReply> answer) = 0;
  virtual void Txn(TxnRequest request, Duration deadline, Answer<TxnReply> answer) = 0;
  /// ResourceExhausted: the store is out of space. `ttl` in whole seconds.
  virtual void Grant(Duration ttl, Duration deadline, Answer<GrantReply> answer) = 0;
  /// The lease lives its ttl from now. NotFound: it has ended, and its keys are gone.
  virtual void Renew(int64_t lease, Duration deadline, Answer<Nothing> answer) = 0;
  /// Ends a lease and deletes its keys. NotFound: it had ended.
  virtual void Revoke(int64_t lease, Duration deadline, Answer<Nothing> answer) = 0;

  struct Change {
    bool deleted = false;  ///< then entry holds key and revision of the deletion
    Entry entry;
  };
  /// In order of revisions, none left out, no revision split. Empty = nothing but a sign of life.
  using OnChanges = absl::AnyInvocable<void(std::vector<Change>)>;
  /// OutOfRange: `from` was compacted away, what happened since cannot be told; Range again.
  using OnEnd = absl::AnyInvocable<void(absl::Status)>;
  class Watcher {
   public:
    virtual ~Watcher() = default;
    /// Wants a sign of life: OnChanges soon, if the stream still works.
    virtual void AskForSign() = 0;
  };
  /// Changes of keys with `prefix` from revision `from` on; a sign of life once it watches. Until the Watcher is
  /// destroyed (no call after its destructor returned, but for the one it is called from) or `end`, once.
  virtual std::unique_ptr<Watcher> Watch(std::string prefix, uint64_t from, OnChanges changes, OnEnd end) = 0;
};

}  // namespace kvasir
