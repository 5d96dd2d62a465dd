// SPDX-License-Identifier: Apache-2.0
// PartInputs: the share that one part has in what an engine brought for a chain, and in the chain's selection.
#pragma once

#include <span>
#include <vector>

#include "kernels/codec.h"
#include "kernels/kv_layout.h"
#include "kernels/row_jobs.h"
#include "kernels/select/select.h"

namespace kvasir {

/// Whether the stages that encode have what they need, before anything is encoded. kInvalidArgument names the input
/// that is missing, or not of the size that a chain of `tokens` tokens has. Those of selecting stages are checked by
/// Select.
Result<bool> CheckFrameInputs(const Codec& codec, const KvLayout& layout, uint32_t tokens, const SelectInputs& inputs);

/// One FrameInputs for each frame of a part, in directory order. Points into `inputs`, which outlives it; copies what
/// it needs of the selection. Not to be moved: frames point into it.
class PartInputs {
 public:
  /// REQUIRES: CheckFrameInputs passed for a chain of `tokens` tokens that holds the part; `selection` is null or of
  /// that chain.
  PartInputs(const KvLayout& layout, uint32_t tokens, const PartGeometry& part, const SelectInputs& inputs,
             const ChainSelection* selection);
  PartInputs(const PartInputs&) = delete;
  PartInputs& operator=(const PartInputs&) = delete;
  std::span<const FrameInputs> frames() const { return frames_; }

 private:
  /// What the frames of one layer point into.
  struct Layer {
    std::vector<float> attention_peak;  // [heads][tokens of the part]
    std::vector<RowClass> classes;      // the same
    std::vector<float> weights;         // [heads][tokens of the part][2]
    std::vector<uint32_t> merged_slots[2];
    std::vector<float> merged_rows[2];
  };
  std::vector<Layer> layers_;
  std::vector<FrameInputs> frames_;
};

}  // namespace kvasir
