// SPDX-License-Identifier: Apache-2.0
// View: how a stored copy was made, and the grid its parts are cut by. One block may be stored in several views.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/codec.h"
#include "kernels/kv_layout.h"
#include "store/api/digest.h"

namespace kvasir {

struct View {
  static constexpr size_t kEncodedBytesMax = 1024;
  static constexpr size_t kSelectionBytesMax = 64;
  static constexpr size_t kNameBytesMax = kSpecBytesMax + 1 + kSelectionBytesMax;

  std::string spec;               ///< canonical codec spec
  bool lossless = false;          ///< as the codec says; part of the digest so that nobody can relabel a copy
  std::string selection;          ///< selection context: on what a choice of tokens depends; "" = none (a pure prefix object)
  uint32_t layers_per_part = 8;
  uint32_t heads_per_part = 1;
  uint32_t planes = 1;            ///< parts a cell is cut into, as the codec says; 1 = it is not cut

  /// Checks and canonicalises the spec. InvalidArgument as Codec::Parse.
  static absl::StatusOr<View> Make(std::string_view spec, uint32_t layers_per_part = 8, uint32_t heads_per_part = 1);
  std::string Encode() const;
  static absl::StatusOr<View> Decode(std::string_view bytes);
  ViewDigest Digest() const;
  /// What a reader calls it by: "spec", or "spec#selection". A choice of tokens is never taken for another, nor for none.
  std::string Name() const { return selection.empty() ? spec : spec + "#" + selection; }

  uint32_t LayerGroups(const KvLayout& l) const { return (l.layers + layers_per_part - 1) / layers_per_part; }
  uint32_t HeadGroups(const KvLayout& l) const { return (l.kv_heads + heads_per_part - 1) / heads_per_part; }
  /// The rectangle of one grid cell for block `block_index` of `tokens` tokens.
  PartGeometry Geometry(const KvLayout& l, uint32_t layer_group, uint32_t head_group, uint32_t block_index,
                        uint32_t tokens) const;
  friend bool operator==(const View&, const View&) = default;
};

}  // namespace kvasir
