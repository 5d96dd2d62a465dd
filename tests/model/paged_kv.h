// SPDX-License-Identifier: Apache-2.0
// PagedKv: page memory of one tensor-parallel rank, as an engine would own it; full of NaN until written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/paged_cache.h"

namespace kvasir::model {

/// Which axis of a page comes first. Values of a head and token are always dense.
enum class PageOrder : uint8_t {
  kTokensFirst,  ///< NHD: [page][token][head][dim]
  kHeadsFirst,   ///< HND: [page][head][token][dim]
};

/// What the forward pass sees of one rank: some pages and which of them hold the sequence. Borrows both.
struct RankKv {
  const PagedCache* cache = nullptr;
  PageTable pages;  ///< pages[i] holds positions [i * page_tokens, (i + 1) * page_tokens)
};

struct PagedKvOptions {
  KvLayout layout;  ///< of the whole model: Model::layout()
  uint32_t first_head = 0;
  uint32_t heads = 0;  ///< 0: all heads from first_head on
  uint32_t page_tokens = 16;
  uint32_t pages = 0;
  PageOrder order = PageOrder::kTokensFirst;
  uint64_t shuffle_seed = 0;  ///< 0: page ids in order; else a permutation drawn from it
};

/// Owns the memory; K of all pages and V of all pages are apart, layer after layer. Moving it keeps all addresses.
/// May be read from any thread; whoever writes pages must see to order.
class PagedKv {
 public:
  /// REQUIRES: a layout with V, heads inside it, page_tokens > 0.
  explicit PagedKv(const PagedKvOptions& options);
  PagedKv(PagedKv&&) = default;
  PagedKv& operator=(PagedKv&&) = default;

  const PagedCache& cache() const { return *cache_; }
  /// `count` page ids from the `first`-th on: one sequence's page table. REQUIRES: first + count <= options.pages.
  PageTable pages(uint32_t first, uint32_t count) const { return std::span(page_ids_).subspan(first, count); }
  PageTable pages() const { return page_ids_; }
  RankKv rank() const { return {cache_.get(), page_ids_}; }
  /// All of the memory, for registration. Begins at a multiple of 4,096.
  std::span<std::byte> memory() { return {memory_.get(), bytes_}; }
  /// Overwrites everything with 0xFF, which is NaN in every element type.
  void Poison();

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  size_t bytes_ = 0;
  std::unique_ptr<std::byte[], Free> memory_;
  std::unique_ptr<PagedCache> cache_;  ///< apart, so that a RankKv survives a move
  std::vector<uint32_t> page_ids_;
};

}  // namespace kvasir::model
