// SPDX-License-Identifier: Apache-2.0
// PagedKv: geometry and poison.
#include "tests/model/paged_kv.h"

#include <cstring>
#include <new>
#include <numeric>
#include <random>
#include <utility>

namespace kvasir::model {
namespace {

constexpr std::align_val_t kAlignment{4096};

PageStrides StridesOf(const PagedKvOptions& options, uint32_t heads, uint32_t dim) {
  const int64_t row = int64_t{dim} * ElementBytes(options.layout.element);
  const int64_t tokens = options.page_tokens;
  if (options.order == PageOrder::kTokensFirst) return {row * heads * tokens, row, row * heads};
  return {row * heads * tokens, row * tokens, row};
}

/// Fisher-Yates by hand: std::shuffle may differ between libraries.
std::vector<uint32_t> PageIds(uint32_t count, uint64_t shuffle_seed) {
  std::vector<uint32_t> ids(count);
  std::iota(ids.begin(), ids.end(), 0u);
  if (shuffle_seed == 0) return ids;
  std::mt19937_64 random(shuffle_seed);
  for (uint32_t i = count; i > 1; --i) std::swap(ids[i - 1], ids[random() % i]);
  return ids;
}

}  // namespace

void PagedKv::Free::operator()(std::byte* memory) const { ::operator delete[](memory, kAlignment); }

PagedKv::PagedKv(const PagedKvOptions& options) : page_ids_(PageIds(options.pages, options.shuffle_seed)) {
  const uint32_t heads = options.heads != 0 ? options.heads : options.layout.kv_heads - options.first_head;
  PagedCache cache;
  cache.layout = options.layout;
  cache.first_head = options.first_head;
  cache.heads = heads;
  cache.page_tokens = options.page_tokens;
  cache.key_strides = StridesOf(options, heads, options.layout.key_dim);
  cache.value_strides = StridesOf(options, heads, options.layout.value_dim);

  const size_t key_bytes = static_cast<size_t>(cache.key_strides.page) * options.pages;
  const size_t value_bytes = static_cast<size_t>(cache.value_strides.page) * options.pages;
  bytes_ = (key_bytes + value_bytes) * options.layout.layers;
  memory_.reset(static_cast<std::byte*>(::operator new[](bytes_, kAlignment)));
  for (uint32_t layer = 0; layer < options.layout.layers; ++layer) {
    std::byte* key = memory_.get() + (key_bytes + value_bytes) * layer;
    cache.layers.push_back({key, key + key_bytes});
  }
  cache_ = std::make_unique<PagedCache>(std::move(cache));
  Poison();
}

void PagedKv::Poison() { std::memset(memory_.get(), 0xFF, bytes_); }

}  // namespace kvasir::model
