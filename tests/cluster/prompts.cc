// SPDX-License-Identifier: Apache-2.0
#include "tests/cluster/prompts.h"

#include "absl/strings/str_cat.h"
#include "transport/check.h"

namespace kvasir::cluster {
namespace {

const char* SpecOf(const PromptShape& shape, uint32_t group) {
  if (shape.only_raw) return "raw";
  switch (group % 8) {
    case 3:
      return "splitexp";
    case 6:
      return kLossySpec;
    default:
      return "raw";
  }
}

}  // namespace

Namespace NamespaceOf(const PromptShape& shape) {
  Namespace ns;
  ns.name =
      absl::StrCat("cluster load ", shape.layers, "x", shape.kv_heads, "x", shape.head_dim, "x", shape.block_tokens);
  ns.weights.bytes[0] = 0xC1;
  ns.layout = {.layers = shape.layers,
               .kv_heads = shape.kv_heads,
               .key_dim = shape.head_dim,
               .value_dim = shape.head_dim,
               .element = ElementType::kBfloat16};
  ns.block_tokens = shape.block_tokens;
  return ns;
}

DomainKey DomainOf(const PromptShape&) { return DomainKey::FromPassphrase("cluster load"); }

Prompt MakePrompt(const PromptShape& shape, uint32_t number) {
  const uint32_t group = number / kPromptsPerGroup;
  const uint32_t shared = shape.blocks / 2 * shape.block_tokens;
  std::vector<uint32_t> tokens(size_t{shape.blocks} * shape.block_tokens);
  for (uint32_t at = 0; at < tokens.size(); ++at) {
    const uint64_t whose = at < shared ? group : (1ull << 32) + number;
    tokens[at] = static_cast<uint32_t>(Mix(Mix(shape.seed) ^ Mix(whose) ^ at));
  }
  // One part a layer and head: several parts a block, so that a block can be half there.
  const absl::StatusOr<View> view = View::Make(SpecOf(shape, group), /*layers_per_part=*/1, /*heads_per_part=*/1);
  KVASIR_CHECK(view.ok(), "the specs above parse");
  return {number, PrefixChain::FromTokens(DomainOf(shape), NamespaceOf(shape), tokens), *view};
}

}  // namespace kvasir::cluster
