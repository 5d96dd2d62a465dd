// SPDX-License-Identifier: Apache-2.0
// Between the values of store/api and the messages of kvasir.v1. FromProto believes nothing: counts, sizes and limits
// are checked before anything is copied, and a refusal (InvalidArgument) names message and field.
#pragma once

#include <chrono>
#include <cstddef>

#include "absl/status/statusor.h"
#include "store/api/admin_api.h"
#include "store/api/peer_api.h"
#include "store/api/store_api.h"

namespace kvasir::v1 {  // generated from kvasir.proto; include store/wire/kvasir.pb.h to touch one
class AcquireReply;
class AcquireRequest;
class CordonRequest;
class DrainRequest;
class HelloReply;
class HelloRequest;
class InventoryReply;
class InventoryRequest;
class ListReply;
class ListRequest;
class Membership;
class NodeStatus;
class ObjectReply;
class ObjectRequest;
class OfferReply;
class OfferRequest;
class ProbeReply;
class ProbeRequest;
class SuggestReply;
class SuggestRequest;
class TouchReply;
class TouchRequest;
class WatchEvent;
}  // namespace kvasir::v1

namespace kvasir {

// Limits of the wire beside those of store_api.h.
inline constexpr size_t kWireTextBytesMax = 1024;        ///< of one text for people
inline constexpr size_t kWireNameBytesMax = 128;         ///< tenant, node id, zone
inline constexpr size_t kWireAddressBytesMax = 512;
inline constexpr size_t kWireDataAddressesMax = 4096;
inline constexpr size_t kWireLeasesPerTouchMax = 16384;
inline constexpr size_t kWirePartsPerBlockMax = 65536;
inline constexpr size_t kWirePartsPerEventMax = 65536;
inline constexpr size_t kWireTiersMax = 16;
inline constexpr size_t kWireCountersMax = 4096;
inline constexpr size_t kWireListMax = 10000;
inline constexpr size_t kWireCursorBytesMax = 256;
inline constexpr size_t kWirePeersMax = 4096;
inline constexpr size_t kWireInventoryBlocksMax = 65536;
inline constexpr size_t kWireInventoryTableMax = 4096;    ///< domains, namespaces, views of one answer
/// Longest duration a message may name: adding it to a clock never overflows.
inline constexpr Duration kDurationMax = std::chrono::hours(24 * 366 * 10);

void ToProto(const HelloRequest& from, v1::HelloRequest* to);
void ToProto(const HelloReply& from, v1::HelloReply* to);
void ToProto(const OfferRequest& from, v1::OfferRequest* to);
void ToProto(const OfferReply& from, v1::OfferReply* to);
void ToProto(const AcquireRequest& from, v1::AcquireRequest* to);
void ToProto(const AcquireReply& from, v1::AcquireReply* to);
void ToProto(const TouchRequest& from, v1::TouchRequest* to);
void ToProto(const TouchReply& from, v1::TouchReply* to);
void ToProto(const ObjectRequest& from, v1::ObjectRequest* to);
void ToProto(const ObjectReply& from, v1::ObjectReply* to);
void ToProto(const WatchEvent& from, v1::WatchEvent* to);
void ToProto(const Membership& from, v1::Membership* to);
void ToProto(const NodeStatus& from, v1::NodeStatus* to);
void ToProto(const ListRequest& from, v1::ListRequest* to);
void ToProto(const ListReply& from, v1::ListReply* to);
void ToProto(const ProbeRequest& from, v1::ProbeRequest* to);
void ToProto(const ProbeReply& from, v1::ProbeReply* to);
void ToProto(const InventoryRequest& from, v1::InventoryRequest* to);
void ToProto(const InventoryReply& from, v1::InventoryReply* to);
void ToProto(const SuggestRequest& from, v1::SuggestRequest* to);
void ToProto(const SuggestReply& from, v1::SuggestReply* to);

absl::StatusOr<HelloRequest> FromProto(const v1::HelloRequest& from);
absl::StatusOr<HelloReply> FromProto(const v1::HelloReply& from);
absl::StatusOr<OfferRequest> FromProto(const v1::OfferRequest& from);
absl::StatusOr<OfferReply> FromProto(const v1::OfferReply& from);
absl::StatusOr<AcquireRequest> FromProto(const v1::AcquireRequest& from);
absl::StatusOr<AcquireReply> FromProto(const v1::AcquireReply& from);
absl::StatusOr<TouchRequest> FromProto(const v1::TouchRequest& from);
absl::StatusOr<TouchReply> FromProto(const v1::TouchReply& from);
absl::StatusOr<ObjectRequest> FromProto(const v1::ObjectRequest& from);
absl::StatusOr<ObjectReply> FromProto(const v1::ObjectReply& from);
absl::StatusOr<WatchEvent> FromProto(const v1::WatchEvent& from);
absl::StatusOr<Membership> FromProto(const v1::Membership& from);
absl::StatusOr<NodeStatus> FromProto(const v1::NodeStatus& from);
absl::StatusOr<ListRequest> FromProto(const v1::ListRequest& from);
absl::StatusOr<ListReply> FromProto(const v1::ListReply& from);
absl::StatusOr<ProbeRequest> FromProto(const v1::ProbeRequest& from);
absl::StatusOr<ProbeReply> FromProto(const v1::ProbeReply& from);
absl::StatusOr<InventoryRequest> FromProto(const v1::InventoryRequest& from);
absl::StatusOr<InventoryReply> FromProto(const v1::InventoryReply& from);
absl::StatusOr<SuggestRequest> FromProto(const v1::SuggestRequest& from);
absl::StatusOr<SuggestReply> FromProto(const v1::SuggestReply& from);
/// Drain has a duration only.
absl::StatusOr<Duration> FromProto(const v1::DrainRequest& from);

/// True where this build speaks the fields of wire version 2: `spread`, `damaged`, `features`. All that blocks need to move between
/// nodes is in version 1. What a build does not speak it neither writes nor reads.
inline bool SpeaksWire2() { return kWireVersion >= 2; }

}  // namespace kvasir
