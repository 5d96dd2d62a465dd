// SPDX-License-Identifier: Apache-2.0
#include "tests/cluster/prompt_pages.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "absl/strings/str_cat.h"
#include "transport/check.h"

namespace kvasir::cluster {
namespace {

constexpr uint32_t kPagesPerBlock = 2;
constexpr std::byte kPoison{0xEE};  // as bf16 -3.7e28: no right element is so large
constexpr KvTensor kTensors[] = {KvTensor::kKey, KvTensor::kValue};

uint64_t Fold(const BlockKey& key) {
  uint64_t folded = 0;
  for (size_t at = 0; at < key.bytes.size(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, key.bytes.data() + at, 8);
    folded = Mix(folded ^ word);
  }
  return folded;
}

/// Four bf16 out of 64 random bits: sign, low exponent bit and mantissa; finite, of magnitude 0.5 to 2, as codecs like
/// it.
uint64_t Elements(uint64_t random) { return (random & 0x80ff'80ff'80ff'80ffull) | 0x3f00'3f00'3f00'3f00ull; }

/// What the codec makes of dense rows [1][tokens][dim].
std::vector<uint16_t> ThroughCodec(const View& view, const FrameShape& shape, KvTensor tensor,
                                   std::vector<uint16_t> dense) {
  const auto codec = Codec::Parse(view.spec);
  KVASIR_CHECK(codec.ok(), "a View's spec parses");
  std::vector<std::byte> frame((*codec)->MaxFrameBytes(tensor, shape)), scratch;
  const std::span<std::byte> bytes = std::as_writable_bytes(std::span(dense));
  frame.resize((*codec)->Encode(tensor, shape, bytes, frame, scratch));
  KVASIR_CHECK((*codec)->Decode(tensor, shape, frame, bytes, scratch).ok(), "what was encoded decodes");
  return dense;
}

}  // namespace

PromptPages::PromptPages(const PromptShape& shape) : ns_(NamespaceOf(shape)), blocks_(shape.blocks) {
  for (uint32_t i = 0; i < blocks_ * kPagesPerBlock; ++i) table_.push_back(i);
  const int64_t row = int64_t{shape.head_dim} * ElementBytes(ns_.layout.element);
  cache_.layout = ns_.layout;
  cache_.heads = shape.kv_heads;
  cache_.page_tokens = shape.block_tokens / kPagesPerBlock;
  cache_.key_strides = {.page = row * shape.kv_heads * cache_.page_tokens, .head = row, .token = row * shape.kv_heads};
  cache_.value_strides = cache_.key_strides;
  const size_t tensor_bytes = static_cast<size_t>(cache_.key_strides.page) * table_.size();
  memory_.resize(tensor_bytes * 2 * shape.layers);
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    std::byte* key = memory_.data() + tensor_bytes * 2 * layer;
    cache_.layers.push_back({key, key + tensor_bytes});
  }
  Poison();
}

std::byte* PromptPages::Row(uint32_t block, uint32_t layer, KvTensor tensor, uint32_t head, uint32_t token) const {
  const uint32_t at = block * ns_.block_tokens + token;
  return cache_.At(layer, tensor, table_[at / cache_.page_tokens], head, at % cache_.page_tokens);
}

std::vector<uint16_t> PromptPages::RightRows(const BlockKey& key, uint32_t layer, KvTensor tensor,
                                             uint32_t head) const {
  const uint32_t dim = ns_.layout.dim(tensor);
  KVASIR_CHECK(dim % 4 == 0, "rows are made of words of four elements");
  std::vector<uint16_t> rows(size_t{ns_.block_tokens} * dim);
  const uint64_t place = uint64_t{layer} << 33 | uint64_t{static_cast<uint8_t>(tensor)} << 32 | head;
  const uint64_t frame = Mix(Fold(key) ^ Mix(place));
  for (size_t word = 0; word < rows.size() / 4; ++word) {
    const uint64_t elements = Elements(Mix(frame + word));
    std::memcpy(rows.data() + word * 4, &elements, 8);
  }
  return rows;
}

void PromptPages::Fill(const PrefixChain& chain, uint32_t block) {
  for (uint32_t layer = 0; layer < ns_.layout.layers; ++layer) {
    for (const KvTensor tensor : kTensors) {
      const uint32_t dim = ns_.layout.dim(tensor);
      for (uint32_t head = 0; head < ns_.layout.kv_heads; ++head) {
        const std::vector<uint16_t> rows = RightRows(chain[block], layer, tensor, head);
        for (uint32_t token = 0; token < ns_.block_tokens; ++token) {
          std::memcpy(Row(block, layer, tensor, head, token), rows.data() + size_t{token} * dim,
                      dim * sizeof(uint16_t));
        }
      }
    }
  }
}

void PromptPages::Poison() { std::fill(memory_.begin(), memory_.end(), kPoison); }

std::string PromptPages::FirstWrong(const PrefixChain& chain, uint32_t block, const View& view) const {
  for (uint32_t layer = 0; layer < ns_.layout.layers; ++layer) {
    for (const KvTensor tensor : kTensors) {
      const uint32_t dim = ns_.layout.dim(tensor);
      for (uint32_t head = 0; head < ns_.layout.kv_heads; ++head) {
        std::vector<uint16_t> rows = RightRows(chain[block], layer, tensor, head);
        if (!view.lossless) {
          rows = ThroughCodec(view, {1, ns_.block_tokens, dim, ns_.layout.element}, tensor, std::move(rows));
        }
        for (uint32_t token = 0; token < ns_.block_tokens; ++token) {
          const uint16_t* right = rows.data() + size_t{token} * dim;
          const std::byte* got = Row(block, layer, tensor, head, token);
          if (std::memcmp(got, right, dim * sizeof(uint16_t)) == 0) continue;
          uint32_t element = 0;
          while (std::memcmp(got + element * 2, right + element, 2) == 0) ++element;
          uint16_t found = 0;
          std::memcpy(&found, got + element * 2, 2);
          return absl::StrCat("block ", block, " layer ", layer, tensor == KvTensor::kKey ? " K" : " V", " head ", head,
                              " token ", token, " element ", element, ": ", absl::Hex(found, absl::kZeroPad4),
                              ", right is ", absl::Hex(right[element], absl::kZeroPad4));
        }
      }
    }
  }
  return "";
}

void PromptPages::FlipBit(uint32_t block, uint64_t salt) {
  const uint64_t random = Mix(salt);
  const auto layer = static_cast<uint32_t>(random % ns_.layout.layers);
  const auto head = static_cast<uint32_t>((random >> 8) % ns_.layout.kv_heads);
  const auto token = static_cast<uint32_t>((random >> 16) % ns_.block_tokens);
  const KvTensor tensor = kTensors[(random >> 32) & 1];
  const auto byte = static_cast<uint32_t>((random >> 33) % (ns_.layout.dim(tensor) * 2));
  Row(block, layer, tensor, head, token)[byte] ^= std::byte{static_cast<uint8_t>(1u << ((random >> 48) & 7))};
}

}  // namespace kvasir::cluster
