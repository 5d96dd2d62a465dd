// SPDX-License-Identifier: Apache-2.0
// Seal: packed frames become parts. One cell is one part, or one a plane where the codec has planes:
//
//   not cut   [ header, spec, directory | frames ]
//   cut       [ plane 0, a whole part | plane 1, a whole part | ... | frames as packed ]
//                                                                   '-- given back once they are cut
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "client/outbox.h"
#include "client/view_book.h"
#include "store/api/part.h"

namespace kvasir::client {

/// Where things lie in a slot. Bytes from its begin.
struct SlotPlan {
  uint64_t room = 0;             ///< header, spec and directory of each part
  std::vector<uint64_t> planes;  ///< where each plane's part begins; empty = not cut
  uint64_t area = 0;             ///< where frames are packed to
  uint64_t bytes = 0;            ///< of the slot
};
SlotPlan PlanSlot(const CompiledView& view, const KvLayout& layout, const PartGeometry& cell);

/// Seals what was packed into `part`, whose slot has PlanSlot's size: `header` names block and cell. The parts to
/// offer.
std::vector<std::shared_ptr<PackedPart>> SealParts(const PartHeader& header, const CompiledView& view,
                                                   const KvLayout& layout, const PartGeometry& cell,
                                                   const std::shared_ptr<PackedPart>& part);

}  // namespace kvasir::client
