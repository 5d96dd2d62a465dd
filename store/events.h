// SPDX-License-Identifier: Apache-2.0
// What happens to a shard's core, and what the core wants done about it. Plain values: the simulator makes and takes the
// same ones as the real shell.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "store/api/admin_api.h"
#include "store/api/peer_api.h"
#include "store/api/store_api.h"
#include "store/extents.h"
#include "store/tiers/ssd_tier.h"

namespace kvasir {

// ---- events ----------------------------------------------------------------------------------------------------------
namespace event {
/// `peer`: another node's, or our own towards one; its reads make nothing popular and miss nothing.
struct SessionOpened { uint64_t session = 0; DomainId domain; Namespace ns; bool peer = false; };
struct SessionClosed { uint64_t session = 0; };
/// `call` names the answer to give; unique among the calls in progress.
struct OfferArrived { uint64_t call = 0; OfferRequest request; };
struct AcquireArrived { uint64_t call = 0; AcquireRequest request; };
struct TouchArrived { uint64_t call = 0; TouchRequest request; };
struct PullDone { ExtentRef extent; absl::Status status; bool quarantined = false; };
struct PullReleased { ExtentRef extent; };
struct VerifyDone { ExtentRef extent; absl::Status status; uint32_t frames_offset = 0; };
struct PersistDone { ExtentRef extent; absl::StatusOr<SsdLocation> location; };
struct PromoteDone { ExtentRef extent; absl::Status status; };
struct LeaseQuiet { uint64_t lease = 0; };
struct SsdFound { RecoveredPart part; View view; Namespace ns; };
struct SsdEvicted { std::vector<PartId> parts; };
struct RecheckDone { ExtentRef extent; absl::Status status; };
/// True while others may hold what this node should: its misses are then told (action::Missed).
struct Settling { bool on = false; };
/// So many owners of a hot run, in rank order, hold it now.
struct RunSpread { DomainId domain; BlockKey run; uint32_t nodes = 0; };
/// Runs that others hold now in this node's place: the first to leave DRAM.
struct RunsMoved { std::vector<std::pair<DomainId, BlockKey>> runs; };
struct Tick {};
}  // namespace event
using Event = std::variant<event::SessionOpened, event::SessionClosed, event::OfferArrived, event::AcquireArrived,
                           event::TouchArrived, event::PullDone, event::PullReleased, event::VerifyDone,
                           event::PersistDone, event::PromoteDone, event::LeaseQuiet, event::SsdFound, event::SsdEvicted,
                           event::RecheckDone, event::Settling, event::RunSpread, event::RunsMoved, event::Tick>;

// ---- actions, to be carried out in order -----------------------------------------------------------------------------
/// Bytes in a slab.
struct SlabRange { uint32_t slab = 0; uint64_t offset = 0, bytes = 0; };
/// What the landed bytes must say of themselves.
struct PartClaim {
  PartExpectation expect;
  std::string spec;
  PartGeometry geometry;
  uint32_t block_index = 0;
  uint32_t planes = 1;  ///< of the view
};

namespace action {
/// Pull over the session's data connection; PullDone, then PullReleased if quarantined.
struct Pull { ExtentRef extent; SlabRange to; uint64_t session = 0; std::string grant; Instant deadline; };
/// Check the landed bytes against claim and root, stamp the extent's generation; VerifyDone.
struct Verify { ExtentRef extent; SlabRange at; PartClaim claim; std::string root; };
/// Write to the SSD and sync; PersistDone. The bytes do not move until then.
struct Persist { ExtentRef extent; SlabRange at; PartMeta meta; };
/// Read from the SSD, check, stamp the extent's generation; PromoteDone.
struct Promote { ExtentRef extent; SlabRange to; SsdLocation from; PartClaim claim; };
struct DropOnSsd { PartId id; SsdLocation location; };
struct RetireSlab { uint32_t slab = 0; };
struct AnswerOffer { uint64_t call = 0; absl::StatusOr<OfferReply> reply; };
struct AnswerTouch { uint64_t call = 0; absl::StatusOr<TouchReply> reply; };
/// One leased part, in the order of AcquireReply::blocks: where it lies, for the grant to be made of it.
struct LeasedPart { SlabRange at; uint64_t generation = 0; };
struct AnswerAcquire { uint64_t call = 0; uint64_t session = 0; absl::StatusOr<AcquireReply> reply; std::vector<LeasedPart> parts; };
/// A pending part of a lease came, or will not.
struct PartReady { uint64_t session = 0, lease = 0; PartsReady::Ready ready; LeasedPart part; };
/// Revoke every grant of the lease; LeaseQuiet when nothing reads any more. `told` = say so over Watch.
struct RevokeLease { uint64_t session = 0, lease = 0; bool told = false; };
/// Look at sealed bytes again; RecheckDone. They do not move until then.
struct Recheck { ExtentRef extent; SlabRange at; PartClaim claim; };
/// A reader asked for blocks this node should hold and does not (yet): `keys`, from `first_block` of the chain on.
struct Missed { DomainId domain; Namespace ns; BlockKey run; uint32_t first_block = 0; std::vector<BlockKey> keys; };
/// A run is read more than one copy can bear. `blocks` is all this node holds of it.
struct RunHot { DomainId domain; BlockKey run; uint32_t replicas = 1, spread = 0; InventoryReply blocks; };
}  // namespace action
using Action = std::variant<action::Pull, action::Verify, action::Persist, action::Promote, action::DropOnSsd,
                            action::RetireSlab, action::AnswerOffer, action::AnswerTouch, action::AnswerAcquire,
                            action::PartReady, action::RevokeLease, action::Recheck, action::Missed, action::RunHot>;

}  // namespace kvasir
