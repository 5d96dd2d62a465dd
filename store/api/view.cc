// SPDX-License-Identifier: Apache-2.0
// View's canonical encoding and its grid. Record numbers are on disk and wire: never renumber, never reuse.
#include "store/api/view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "store/api/status.h"
#include "store/api/tlv.h"

namespace kvasir {
namespace {

enum Record : uint16_t {
  kSpecRecord = 1,
  kLosslessRecord = 2,
  kSelectionRecord = 3,
  kLayersPerPartRecord = 4,
  kHeadsPerPartRecord = 5,
};

absl::Status CheckGrid(uint32_t layers_per_part, uint32_t heads_per_part) {
  constexpr uint32_t kPerPartMax = 65535;  // a part header holds 16 bits
  const auto good = [](uint32_t n) { return n >= 1 && n <= kPerPartMax; };
  if (!good(layers_per_part)) {
    return absl::InvalidArgumentError(absl::StrCat("view: layers_per_part: ", layers_per_part, ", must be 1 to 65535"));
  }
  if (!good(heads_per_part)) {
    return absl::InvalidArgumentError(absl::StrCat("view: heads_per_part: ", heads_per_part, ", must be 1 to 65535"));
  }
  return absl::OkStatus();
}

/// One row or column of the grid: where it begins and how many it has; nothing beyond the model.
struct Stripe {
  uint32_t first, count;
};
Stripe StripeOf(uint32_t total, uint32_t per_part, uint32_t group) {
  const uint64_t first = std::min<uint64_t>(uint64_t{group} * per_part, total);
  return {static_cast<uint32_t>(first), static_cast<uint32_t>(std::min<uint64_t>(per_part, total - first))};
}

}  // namespace

absl::StatusOr<View> View::Make(std::string_view spec, uint32_t layers_per_part, uint32_t heads_per_part) {
  if (absl::Status grid = CheckGrid(layers_per_part, heads_per_part); !grid.ok()) return grid;
  const auto codec = Codec::Parse(spec);
  if (!codec.ok()) {
    const absl::Status why = ToStatus(codec.error());
    return absl::Status(why.code(), absl::StrCat("view: spec: ", why.message()));
  }
  View view;
  view.spec = (*codec)->spec();
  view.lossless = (*codec)->lossless();
  view.planes = (*codec)->planes();
  view.layers_per_part = layers_per_part;
  view.heads_per_part = heads_per_part;
  return view;
}

std::string View::Encode() const {
  TlvWriter out;
  out.Bytes(kSpecRecord, spec);
  out.Value<uint8_t>(kLosslessRecord, lossless ? 1 : 0);
  out.Bytes(kSelectionRecord, selection);
  out.Value(kLayersPerPartRecord, layers_per_part);
  out.Value(kHeadsPerPartRecord, heads_per_part);
  return out.Take();
}

absl::StatusOr<View> View::Decode(std::string_view bytes) {
  if (bytes.size() > kEncodedBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("view: length: ", bytes.size(), " bytes, max ", kEncodedBytesMax));
  }
  TlvReader in("view", bytes);
  const std::string_view spec = in.Bytes(kSpecRecord, "spec");
  const auto lossless = in.Value<uint8_t>(kLosslessRecord, "lossless");
  const std::string_view selection = in.Bytes(kSelectionRecord, "selection");
  const auto layers_per_part = in.Value<uint32_t>(kLayersPerPartRecord, "layers_per_part");
  const auto heads_per_part = in.Value<uint32_t>(kHeadsPerPartRecord, "heads_per_part");
  in.End();
  if (!in.status().ok()) return in.status();
  absl::StatusOr<View> view = Make(spec, layers_per_part, heads_per_part);
  if (!view.ok()) return view;
  // What the codec says holds: a copy cannot be relabelled, nor one copy have two spellings.
  if (view->spec != spec) in.Fail("spec", absl::StrCat("is not canonical, that would be '", view->spec, "'"));
  if (view->lossless ? lossless != 1 : lossless != 0) in.Fail("lossless", "is not what the codec says");
  if (selection.size() > kSelectionBytesMax) {
    in.Fail("selection", absl::StrCat(selection.size(), " bytes, max ", kSelectionBytesMax));
  }
  if (!in.status().ok()) return in.status();
  view->selection = selection;
  return view;
}

ViewDigest View::Digest() const {
  ViewDigest digest;
  Sha256(Encode(), digest.bytes);
  return digest;
}

PartGeometry View::Geometry(const KvLayout& l, uint32_t layer_group, uint32_t head_group, uint32_t block_index,
                            uint32_t tokens) const {
  const Stripe layers = StripeOf(l.layers, layers_per_part, layer_group);
  const Stripe heads = StripeOf(l.kv_heads, heads_per_part, head_group);
  return {layers.first, layers.count, heads.first, heads.count, block_index * tokens, tokens};
}

}  // namespace kvasir
