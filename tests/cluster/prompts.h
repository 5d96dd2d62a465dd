// SPDX-License-Identifier: Apache-2.0
// Prompts: what the load stores. Tokens, keys, codec and bytes of prompt i follow from the seed alone, so that any
// process that knows the seed and a prompt's number can tell which bytes are right.
//
//   prompts 4g .. 4g+3 are a group: they share the first half of their blocks, hence those blocks' keys, and a codec.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/api/namespace.h"
#include "store/api/prefix_chain.h"
#include "store/api/view.h"

namespace kvasir::cluster {

inline constexpr uint32_t kPromptsPerGroup = 4;
inline constexpr const char* kLossySpec = "int(8,tok,16)";

/// Sizes of the workload. The defaults make blocks of 8 KiB in 4 parts.
struct PromptShape {
  uint64_t seed = 1;
  uint32_t blocks = 8;  ///< per prompt
  uint32_t layers = 2, kv_heads = 2, head_dim = 16, block_tokens = 32;
  bool only_raw = false;  ///< else one group in eight is pushed as splitexp, one as int

  uint64_t block_bytes() const { return uint64_t{layers} * kv_heads * head_dim * block_tokens * 2 * 2; }
};
Namespace NamespaceOf(const PromptShape& shape);
DomainKey DomainOf(const PromptShape& shape);

struct Prompt {
  uint32_t number = 0;
  PrefixChain chain;
  View view;
};
Prompt MakePrompt(const PromptShape& shape, uint32_t number);

/// The mixing step of splitmix64: a bijection of 64 bits.
constexpr uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15ull;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

}  // namespace kvasir::cluster
