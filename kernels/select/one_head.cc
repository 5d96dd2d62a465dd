// SPDX-License-Identifier: Apache-2.0
// Cutting a chain's inputs into those of its heads.
#include "kernels/select/one_head.h"

namespace kvasir {
namespace {

SelectInputs InputsOf(const SelectionContext& chain, uint32_t layer, uint32_t head) {
  const uint64_t heads = chain.layout.kv_heads, at = layer * heads + head;
  SelectInputs own = chain.inputs;
  own.query_heads = static_cast<uint32_t>(chain.inputs.query_heads / heads);
  for (const HeadInput& input : HeadInputs(chain.layout, chain.tokens, chain.inputs)) {
    const std::span<const float> all = chain.inputs.*input.field;
    own.*input.field = all.size() == chain.heads() * input.numbers ? all.subspan(at * input.numbers, input.numbers)
                                                                   : std::span<const float>();
  }
  const std::span<const float> cosines = chain.inputs.hidden_cosine;
  own.hidden_cosine = cosines.size() == chain.layout.layers ? cosines.subspan(layer, 1) : std::span<const float>();
  own.query_peak = own.query_norm = own.attention_peak = {};  // of stages that encode
  return own;
}

KvLayout LayoutOfOne(KvLayout layout) {
  layout.layers = layout.kv_heads = 1;
  return layout;
}

/// Whether `name` stands in a list separated by ", ".
bool Lists(std::string_view list, std::string_view name) {
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(", ", at), list.size());
    if (list.substr(at, end - at) == name) return true;
    at = end + 2;
  }
  return false;
}

}  // namespace

std::array<HeadInput, 6> HeadInputs(const KvLayout& layout, uint32_t tokens, const SelectInputs& inputs) {
  const uint64_t dim = layout.key_dim, group = inputs.query_heads / layout.kv_heads;
  return {{{"attention_sums", &SelectInputs::attention_sums, tokens, false},
           {"window_queries", &SelectInputs::window_queries, group * inputs.window * dim, true},
           {"query_mean", &SelectInputs::query_mean, group * dim, true},
           {"query_covariance", &SelectInputs::query_covariance, group * dim * dim, true},
           {"external_scores", &SelectInputs::external_scores, tokens, false},
           {"head_scores", &SelectInputs::head_scores, 1, false}}};
}

Result<bool> CheckHeadInputs(const StageInfo& stage, const SelectionContext& context) {
  const std::string name = std::string(stage.letter) + ":" + std::string(stage.name);
  const uint32_t query_heads = context.inputs.query_heads, heads = context.layout.kv_heads;
  for (const HeadInput& input : HeadInputs(context.layout, context.tokens, context.inputs)) {
    if (!Lists(stage.needs, input.name)) continue;
    const std::span<const float> brought = context.inputs.*input.field;
    if (brought.empty()) return MissingInput(name, input.name);
    if (input.of_queries && (query_heads == 0 || query_heads % heads != 0)) return WrongHeads(name, query_heads, heads);
    if (Result<bool> fit = NeedInput(name, input.name, brought.size(), context.heads() * input.numbers); !fit.ok())
      return fit;
  }
  return true;
}

OneHead::OneHead(const SelectionContext& chain, uint32_t layer, uint32_t head)
    : chain_(chain),
      layer_(layer),
      head_(head),
      layout_(LayoutOfOne(chain.layout)),
      inputs_(InputsOf(chain, layer, head)),
      context_{layout_, chain.tokens, chain.spec, inputs_, *this} {}

}  // namespace kvasir
