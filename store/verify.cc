// SPDX-License-Identifier: Apache-2.0
#include "store/verify.h"

#include <cstring>

namespace kvasir {

absl::StatusOr<uint32_t> VerifyAndStamp(std::span<std::byte> part, const PartClaim& claim, std::string_view root,
                                        uint64_t generation) {
  const auto frame = ParsePart(part, claim.expect);
  if (!frame.ok()) return frame.status();
  const auto wrong = [](const char* what) {
    return absl::DataLossError(std::string("the part's ") + what + " is not what was offered");
  };
  const PartHeader& h = frame->header;
  if (frame->total_bytes != part.size()) return wrong("length");
  if (frame->spec != claim.spec) return wrong("codec spec");
  if (h.block_index != claim.block_index) return wrong("block index");
  const PartGeometry told{h.first_layer, h.layers, h.first_head, h.heads, claim.geometry.first_token, h.token_count};
  if (!(told == claim.geometry)) return wrong("geometry");
  if (h.planes != (claim.planes > 1 ? claim.planes : 0)) return wrong("number of planes");
  if (!root.empty() && std::memcmp(h.root, root.data(), sizeof h.root) != 0) return wrong("root");
  if (const absl::Status frames = CheckFrames(part, *frame); !frames.ok()) return frames;
  StampGeneration(part, generation);
  return static_cast<uint32_t>(frame->frames_offset);
}

}  // namespace kvasir
