// SPDX-License-Identifier: Apache-2.0
// Pages: an engine's paged cache in small, filled from one truth: the bits of every (layer, tensor, head, token, element)
// follow from the seed, so that a reader with another layout knows what it must find.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "kernels/paged_cache.h"
#include "store/api/namespace.h"
#include "store/api/view.h"
#include "tests/support/seed.h"

namespace kvasir::testing {

inline Namespace SmallNamespace() {
  Namespace ns;
  ns.name = "small";
  ns.weights.bytes[0] = 7;
  ns.layout = {.layers = 4, .kv_heads = 4, .key_dim = 16, .value_dim = 16, .element = ElementType::kBfloat16};
  ns.block_tokens = 32;
  return ns;
}

/// The bf16 of one element: mixed from its coordinates, always finite, around one.
inline uint16_t Truth(uint32_t layer, KvTensor tensor, uint32_t head, uint32_t token, uint32_t element) {
  uint64_t x = Seed() ^ (uint64_t{layer} << 48 | uint64_t{static_cast<uint8_t>(tensor)} << 40 | uint64_t{head} << 32 |
                         uint64_t{token} << 8 | element);
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  x ^= x >> 31;
  return static_cast<uint16_t>((x & 0x807f) | (0x3f00 + ((x >> 16) & 0x100)) | ((x >> 24) & 0x80));
}

class Pages {
 public:
  struct Options {
    uint32_t tokens = 128;
    uint32_t page_tokens = 16;
    uint32_t first_layer = 0, layers = 0;   ///< 0 = all
    uint32_t first_head = 0, heads = 0;
    bool heads_first = false;               ///< HND, else NHD
    bool shuffled = false;                  ///< page ids in random order
  };
  static constexpr uint8_t kPoison = 0xEE;

  Pages(const Namespace& ns, Options options) : ns_(ns), options_(options) {
    const KvLayout& l = ns.layout;
    if (options_.layers == 0) options_.layers = l.layers - options_.first_layer;
    if (options_.heads == 0) options_.heads = l.kv_heads - options_.first_head;
    const uint32_t pages = options_.tokens / options_.page_tokens;
    for (uint32_t i = 0; i < pages; ++i) table_.push_back(i);
    std::mt19937_64 rng = Rng(pages);
    if (options_.shuffled) std::shuffle(table_.begin(), table_.end(), rng);
    const int64_t row = int64_t{l.key_dim} * ElementBytes(l.element);
    cache_.layout = l;
    cache_.first_layer = options_.first_layer;
    cache_.first_head = options_.first_head;
    cache_.heads = options_.heads;
    cache_.page_tokens = options_.page_tokens;
    PageStrides& s = cache_.key_strides;
    s.page = row * options_.heads * options_.page_tokens;
    s.head = options_.heads_first ? row * options_.page_tokens : row;
    s.token = options_.heads_first ? row : row * options_.heads;
    cache_.value_strides = s;
    tensor_bytes_ = static_cast<size_t>(s.page) * pages;
    memory_.assign(tensor_bytes_ * 2 * options_.layers, std::byte{kPoison});
    for (uint32_t i = 0; i < options_.layers; ++i) {
      std::byte* key = memory_.data() + tensor_bytes_ * 2 * i;
      cache_.layers.push_back({key, key + tensor_bytes_});
    }
  }

  const PagedCache& cache() const { return cache_; }
  PageTable table() const { return table_; }

  void FillWithTruth() {
    Each([&](std::byte* at, uint16_t truth) { std::memcpy(at, &truth, 2); });
  }
  void Poison() { std::fill(memory_.begin(), memory_.end(), std::byte{kPoison}); }

  /// The first place where layers [first, end) of blocks [begin_block, end_block) are not the truth (or, with a view, not
  /// what that view makes of it, of its lowest planes only where they are named); "" when all are.
  std::string Difference(uint32_t begin_block, uint32_t end_block, const View* view = nullptr, uint32_t first_layer = 0,
                         uint32_t end_layer = ~0u, uint32_t planes = 0) const {
    const uint32_t last = std::min(end_layer, options_.first_layer + options_.layers);
    for (uint32_t block = begin_block; block < end_block; ++block) {
      for (uint32_t layer = std::max(first_layer, options_.first_layer); layer < last; ++layer) {
        for (uint32_t head = options_.first_head; head < options_.first_head + options_.heads; ++head) {
          for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
            if (!Same(block, layer, head, tensor, view, planes)) {
              return "block " + std::to_string(block) + " layer " + std::to_string(layer) + " head " + std::to_string(head);
            }
          }
        }
      }
    }
    return "";
  }
  /// Whether every byte of these blocks is still poison.
  bool Untouched(uint32_t begin_block, uint32_t end_block) const {
    for (uint32_t layer = options_.first_layer; layer < options_.first_layer + options_.layers; ++layer) {
      for (uint32_t token = begin_block * ns_.block_tokens; token < end_block * ns_.block_tokens; ++token) {
        for (uint32_t head = options_.first_head; head < options_.first_head + options_.heads; ++head) {
          const std::byte* at = At(layer, KvTensor::kKey, head, token);
          if (at[0] != std::byte{kPoison} || at[1] != std::byte{kPoison}) return false;
        }
      }
    }
    return true;
  }

 private:
  std::byte* At(uint32_t layer, KvTensor tensor, uint32_t head, uint32_t token) const {
    return cache_.At(layer, tensor, table_[token / options_.page_tokens], head, token % options_.page_tokens);
  }
  template <class F>
  void Each(F f) {
    for (uint32_t layer = options_.first_layer; layer < options_.first_layer + options_.layers; ++layer) {
      for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
        for (uint32_t head = options_.first_head; head < options_.first_head + options_.heads; ++head) {
          for (uint32_t token = 0; token < options_.tokens; ++token) {
            std::byte* at = At(layer, tensor, head, token);
            for (uint32_t e = 0; e < ns_.layout.dim(tensor); ++e) f(at + 2 * e, Truth(layer, tensor, head, token, e));
          }
        }
      }
    }
  }
  bool Same(uint32_t block, uint32_t layer, uint32_t head, KvTensor tensor, const View* view, uint32_t planes) const {
    const uint32_t dim = ns_.layout.dim(tensor);
    const uint32_t tokens = ns_.block_tokens;
    const uint32_t group = view != nullptr ? view->heads_per_part : 1;
    const uint32_t first = head / group * group;
    std::vector<uint16_t> dense;  // of the whole head group: what a frame holds
    for (uint32_t h = first; h < first + group; ++h) {
      for (uint32_t t = 0; t < tokens; ++t) {
        for (uint32_t e = 0; e < dim; ++e) dense.push_back(Truth(layer, tensor, h, block * tokens + t, e));
      }
    }
    if (view != nullptr) ThroughCodec(*view, {group, tokens, dim, ns_.layout.element}, tensor, dense, planes);
    for (uint32_t t = 0; t < tokens; ++t) {
      const uint16_t* expected = dense.data() + ((head - first) * tokens + t) * dim;
      if (std::memcmp(At(layer, tensor, head, block * tokens + t), expected, dim * 2) != 0) return false;
    }
    return true;
  }
  static void ThroughCodec(const View& view, FrameShape shape, KvTensor tensor, std::vector<uint16_t>& dense,
                           uint32_t planes) {
    const std::shared_ptr<const Codec> codec = *Codec::Parse(view.spec);
    std::vector<std::byte> frame(codec->MaxFrameBytes(tensor, shape)), scratch;
    const auto bytes = std::as_writable_bytes(std::span(dense));
    frame.resize(codec->Encode(tensor, shape, bytes, frame, scratch));
    if (planes > 0) frame.resize(std::min<uint64_t>(frame.size(), codec->PlaneEnd(tensor, shape, planes - 1)));
    (void)*codec->Decode(tensor, shape, frame, bytes, scratch);
  }

  const Namespace ns_;
  Options options_;
  std::vector<uint32_t> table_;
  size_t tensor_bytes_ = 0;
  std::vector<std::byte> memory_;
  PagedCache cache_;
};

}  // namespace kvasir::testing
