// SPDX-License-Identifier: Apache-2.0
// What happens to a MembershipCore, and what it wants done about it. Plain values: tests make and take the same ones as
// the real shell.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/api/log_sink.h"
#include "store/api/placement.h"
#include "store/membership/key_value.h"

namespace kvasir {

/// A `ticket` names a call under way or a watch; an answer to an older one is dropped.
namespace membership_event {
struct Begin {};
struct Register {};                                   ///< the node can be dialled: others may see it
struct Announce { uint64_t id = 0; MemberState state{}; };
struct Leave {};
struct Tick {};                                       ///< the time asked for has come
struct Ranged { uint64_t ticket = 0; absl::StatusOr<KeyValue::RangeReply> reply; };
struct Transacted { uint64_t ticket = 0; absl::StatusOr<KeyValue::TxnReply> reply; };
struct Granted { uint64_t ticket = 0; absl::StatusOr<KeyValue::GrantReply> reply; };
struct Renewed { uint64_t ticket = 0; absl::Status status; };
struct Revoked { uint64_t ticket = 0; absl::Status status; };
struct Changed { uint64_t ticket = 0; std::vector<KeyValue::Change> changes; };
struct WatchEnded { uint64_t ticket = 0; absl::Status status; };
}  // namespace membership_event
using MembershipEvent =
    std::variant<membership_event::Begin, membership_event::Register, membership_event::Announce, membership_event::Leave,
                 membership_event::Tick, membership_event::Ranged, membership_event::Transacted, membership_event::Granted,
                 membership_event::Renewed, membership_event::Revoked, membership_event::Changed,
                 membership_event::WatchEnded>;

namespace membership_action {
struct Connect { size_t endpoint = 0; };              ///< a new KeyValue; the old one and its watch are let go
struct Range { uint64_t ticket = 0; KeyValue::RangeRequest request; };
struct Txn { uint64_t ticket = 0; KeyValue::TxnRequest request; };
struct Grant { uint64_t ticket = 0; Duration ttl{}; };
struct Renew { uint64_t ticket = 0; int64_t lease = 0; };
struct Revoke { uint64_t ticket = 0; int64_t lease = 0; };
struct Watch { uint64_t ticket = 0; std::string prefix; uint64_t from = 0; };
struct AskForSign {};                                 ///< of the watch that is open
struct Unwatch {};
struct Remember { std::string cluster_id; };          ///< for the next start, before anything that follows
struct Ready { Membership membership; bool cached = false; };  ///< a node may begin with it; once, unless Refused
struct Refused { absl::Status status; };              ///< this node cannot be a member; nothing follows. Before Registered
struct Registered {};                                 ///< others see this node; once
struct Adopt { Membership membership; };              ///< with a higher epoch than any before
struct Announced { uint64_t id = 0; absl::Status status; };
struct Left { absl::Status status; };                 ///< nothing follows
/// How it stands with etcd. `trouble` is why this node is not registered, although etcd answers; "" = none.
struct Contact { bool reachable = false; size_t endpoint = 0; Instant since{}; std::string trouble; };
struct Say { Severity severity{}; std::string text; };
}  // namespace membership_action
using MembershipAction =
    std::variant<membership_action::Connect, membership_action::Range, membership_action::Txn, membership_action::Grant,
                 membership_action::Renew, membership_action::Revoke, membership_action::Watch,
                 membership_action::AskForSign, membership_action::Unwatch, membership_action::Remember,
                 membership_action::Ready, membership_action::Refused, membership_action::Registered,
                 membership_action::Adopt, membership_action::Announced, membership_action::Left,
                 membership_action::Contact, membership_action::Say>;

}  // namespace kvasir
