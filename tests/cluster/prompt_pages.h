// SPDX-License-Identifier: Apache-2.0
// PromptPages: an engine's paged cache whose right bytes need no store to remember them. Every element is a
// pseudo-random function of (block key, layer, tensor, head, token, element): bytes of another block, place or time are
// wrong bytes, and one wrong bit is seen.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "kernels/paged_cache.h"
#include "tests/cluster/prompts.h"

namespace kvasir::cluster {

/// Room for one prompt. One thread at a time; a Session may read or fill it meanwhile as its own contract says.
class PromptPages {
 public:
  explicit PromptPages(const PromptShape& shape);
  PromptPages(const PromptPages&) = delete;
  PromptPages& operator=(const PromptPages&) = delete;

  const PagedCache& cache() const { return cache_; }
  PageTable table() const { return table_; }

  /// Writes the right bytes of one block.
  void Fill(const PrefixChain& chain, uint32_t block);
  /// Every byte to a value that is nowhere right: what a fetch claims to have written, it must write.
  void Poison();
  /// "" when every byte of the block is right, else where the first wrong element is, with both values. In a lossy view
  /// right is what encoding and decoding in this process gives.
  std::string FirstWrong(const PrefixChain& chain, uint32_t block, const View& view) const;
  /// One bit of one element of the block, chosen by `salt`, turned over: for proving that it is seen.
  void FlipBit(uint32_t block, uint64_t salt);

 private:
  std::byte* Row(uint32_t block, uint32_t layer, KvTensor tensor, uint32_t head, uint32_t token) const;
  std::vector<uint16_t> RightRows(const BlockKey& key, uint32_t layer, KvTensor tensor, uint32_t head) const;

  const Namespace ns_;
  const uint32_t blocks_;
  std::vector<uint32_t> table_;
  std::vector<std::byte> memory_;
  PagedCache cache_;
};

}  // namespace kvasir::cluster
