// SPDX-License-Identifier: Apache-2.0
// Cutting a chain's inputs into those of frames.
#include "kernels/part_inputs.h"

#include "kernels/portable.h"
#include "kernels/stages/select_stage.h"

namespace kvasir {
namespace {

/// The entries of [layers][heads][tokens][width] that are of one layer and of the heads and tokens of a part.
template <class T>
std::vector<T> ShareOf(std::span<const T> all, const KvLayout& layout, uint32_t tokens, const PartGeometry& part,
                       uint32_t layer, uint32_t width) {
  std::vector<T> share;
  for (uint32_t head = part.first_head; !all.empty() && head < part.first_head + part.heads; ++head) {
    const uint64_t row = (uint64_t{layer} * layout.kv_heads + head) * tokens + part.first_token;
    const std::span<const T> rows = all.subspan(row * width, uint64_t{part.tokens} * width);
    share.insert(share.end(), rows.begin(), rows.end());
  }
  return share;
}

}  // namespace

Result<bool> CheckFrameInputs(const Codec& codec, const KvLayout& layout, uint32_t tokens, const SelectInputs& inputs) {
  const uint64_t heads = uint64_t{layout.layers} * layout.kv_heads;
  const struct {
    std::string_view name;
    std::span<const float> brought;
    uint64_t expected;
  } sized[] = {{"query_peak", inputs.query_peak, heads * layout.key_dim},
               {"query_norm", inputs.query_norm, heads},
               {"attention_peak", inputs.attention_peak, heads * tokens}};
  for (const auto& [name, brought, expected] : sized) {
    if (brought.empty()) continue;
    if (Result<bool> right = NeedInput("the push", name, brought.size(), expected); !right.ok()) return right;
  }
  constexpr RowClass kAny = RowClass::kKept;  // a selection will be made
  for (uint32_t t = 0; t < layout.tensors(); ++t) {
    const KvTensor tensor = static_cast<KvTensor>(t);
    FrameInputs frame;
    if (tensor == KvTensor::kKey) frame.query_peak = inputs.query_peak.data();
    frame.query_norm = inputs.query_norm.data();
    frame.attention_peak = inputs.attention_peak.data();
    frame.context_tokens = tokens;
    if (codec.selection() != nullptr) frame.row_classes = &kAny;
    if (Result<bool> there = codec.CheckInputs(tensor, frame); !there.ok()) return there;
  }
  return true;
}

PartInputs::PartInputs(const KvLayout& layout, uint32_t tokens, const PartGeometry& part, const SelectInputs& inputs,
                       const ChainSelection* selection) {
  KERNELS_CHECK(selection == nullptr || selection->tokens == tokens);
  layers_.resize(part.layers);
  for (uint32_t i = 0; i < part.layers; ++i) {
    const uint32_t layer = part.first_layer + i;
    const uint64_t first_head = uint64_t{layer} * layout.kv_heads + part.first_head;
    Layer& own = layers_[i];
    own.attention_peak = ShareOf(inputs.attention_peak, layout, tokens, part, layer, 1);
    FrameInputs frame;
    if (!inputs.query_norm.empty()) frame.query_norm = inputs.query_norm.data() + first_head;
    if (!own.attention_peak.empty()) frame.attention_peak = own.attention_peak.data();
    frame.context_tokens = tokens;
    if (selection != nullptr) {
      own.classes = ShareOf(std::span(selection->selection.classes), layout, tokens, part, layer, 1);
      own.weights = ShareOf(std::span(selection->selection.weights), layout, tokens, part, layer, 2);
      frame.row_classes = own.classes.data();
      if (!own.weights.empty()) frame.row_weights = own.weights.data();
    }
    for (uint32_t t = 0; t < layout.tensors(); ++t) {
      const KvTensor tensor = static_cast<KvTensor>(t);
      FrameInputs& of_tensor = frames_.emplace_back(frame);
      if (tensor == KvTensor::kKey && !inputs.query_peak.empty()) {
        of_tensor.query_peak = inputs.query_peak.data() + first_head * layout.key_dim;
      }
      if (selection == nullptr || selection->merged.empty()) continue;
      const uint32_t dim = layout.dim(tensor);
      for (uint32_t head = 0; head < part.heads; ++head) {
        const MergedRows& merged = selection->merged[(first_head + head) * layout.tensors() + t];
        for (size_t m = 0; m < merged.tokens.size(); ++m) {
          if (merged.tokens[m] < part.first_token || merged.tokens[m] >= part.first_token + part.tokens) continue;
          own.merged_slots[t].push_back(head * part.tokens + merged.tokens[m] - part.first_token);
          const auto row = merged.rows.begin() + static_cast<ptrdiff_t>(m * dim);
          own.merged_rows[t].insert(own.merged_rows[t].end(), row, row + dim);
        }
      }
      of_tensor.merged_count = static_cast<uint32_t>(own.merged_slots[t].size());
      of_tensor.merged_slots = own.merged_slots[t].data();
      of_tensor.merged_rows = own.merged_rows[t].data();
    }
  }
}

}  // namespace kvasir
