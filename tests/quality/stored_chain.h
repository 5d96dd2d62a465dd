// SPDX-License-Identifier: Apache-2.0
// StoredChain: a captured chain as a store gives it back: selected if the spec selects, encoded in frames of one head
// and kFrameTokens tokens, decoded into rows.
#pragma once

#include <vector>

#include "kernels/codec.h"
#include "kernels/select/select.h"
#include "tests/model/ragged_kv.h"
#include "tests/quality/capture.h"

namespace kvasir::quality {

/// The rows of one layer, as RaggedLayer borrows them, and the tokens they stand for.
struct StoredLayer {
  std::vector<uint32_t> cu_lengths = {0};
  std::vector<std::byte> keys, values;
  std::vector<float> weights;    ///< of the whole layer; empty = all 1
  std::vector<uint32_t> tokens;  ///< position of each row
};

struct StoredChain {
  KvLayout layout;
  uint32_t tokens = 0;
  uint64_t bytes = 0;   ///< encoded, of all frames
  uint64_t values = 0;  ///< of K and V of all tokens, whether kept or not
  Selection selection;  ///< empty where the spec does not select
  std::vector<StoredLayer> layers;

  double bits() const { return 8.0 * static_cast<double>(bytes) / static_cast<double>(values); }
  /// The share of tokens that are stored.
  double kept() const;
  /// Borrows `views`, which it fills.
  model::RaggedKv Ragged(std::vector<model::RaggedLayer>& views) const;
};

/// REQUIRES: tokens a multiple of `frame_tokens`. kInvalidArgument: the spec cannot take such frames, or an input is
/// not there. Only the first `planes` planes are read, 0 = all.
Result<StoredChain> StoreChain(const Codec& codec, const Capture& capture, uint32_t planes = 0,
                               uint32_t frame_tokens = 256);

/// |a' - a| / |a|: attention outputs of the last `queries` queries of each head, as if all tokens were before them,
/// over the stored rows against the captured ones. Float64.
double AttentionError(const Capture& capture, const StoredChain& stored, uint32_t queries = 16);

}  // namespace kvasir::quality
