// SPDX-License-Identifier: Apache-2.0
// KvLayout: what one model's KV cache is made of, whatever memory it lies in. Values only, no pointers.
#pragma once

#include <cstdint>

namespace kvasir {

/// Number formats of cached K and V. Values are written to disk and wire: never renumber.
enum class ElementType : uint8_t { kFloat32 = 1, kFloat16 = 2, kBfloat16 = 3, kFloat8E4M3 = 4, kFloat8E5M2 = 5 };

/// Bytes of one element; 0 for a value that is none of the above (from outside: check).
constexpr uint32_t ElementBytes(ElementType type) {
  switch (type) {
    case ElementType::kFloat32:
      return 4;
    case ElementType::kFloat16:
    case ElementType::kBfloat16:
      return 2;
    case ElementType::kFloat8E4M3:
    case ElementType::kFloat8E5M2:
      return 1;
  }
  return 0;
}

/// The two tensors of a layer. A latent layout (MLA) has only kKey.
enum class KvTensor : uint8_t { kKey = 0, kValue = 1 };

/// Shape of a model's KV: MHA, GQA and MQA by `kv_heads`; latent (MLA) by kv_heads = 1 and value_dim = 0.
struct KvLayout {
  uint32_t layers = 0;
  uint32_t kv_heads = 0;
  uint32_t key_dim = 0;    ///< elements of K per head and token (latent: latent + rope dims)
  uint32_t value_dim = 0;  ///< elements of V per head and token; 0 = latent, no V is kept
  ElementType element = ElementType::kBfloat16;

  constexpr bool latent() const { return value_dim == 0; }
  /// Frames one layer has: K and V, or the latent alone.
  constexpr uint32_t tensors() const { return latent() ? 1 : 2; }
  constexpr uint32_t dim(KvTensor tensor) const { return tensor == KvTensor::kKey ? key_dim : value_dim; }
  /// Raw bytes of `tokens` tokens of `heads` heads of one layer, K and V together.
  constexpr uint64_t LayerBytes(uint64_t heads, uint64_t tokens) const {
    return heads * tokens * (uint64_t{key_dim} + value_dim) * ElementBytes(element);
  }
  friend constexpr bool operator==(const KvLayout&, const KvLayout&) = default;
};

/// What one frame holds: elements [heads][tokens][dim], dense, in this order.
struct FrameShape {
  uint32_t heads = 0;
  uint32_t tokens = 0;
  uint32_t dim = 0;
  ElementType element = ElementType::kBfloat16;
  constexpr uint64_t elements() const { return uint64_t{heads} * tokens * dim; }
  constexpr uint64_t bytes() const { return elements() * ElementBytes(element); }
};

/// The rectangle a part covers: one block's tokens x a layer group x a head group.
struct PartGeometry {
  uint32_t first_layer = 0;
  uint32_t layers = 0;
  uint32_t first_head = 0;
  uint32_t heads = 0;
  uint32_t first_token = 0;  ///< position in the sequence
  uint32_t tokens = 0;
  friend constexpr bool operator==(const PartGeometry&, const PartGeometry&) = default;
};

/// Frames of a part are layer-major: (layer 0, K) (layer 0, V) (layer 1, K) ... so that any layer range is contiguous.
constexpr uint32_t FrameCount(const KvLayout& layout, const PartGeometry& part) {
  return part.layers * layout.tensors();
}
constexpr uint32_t FrameIndex(const KvLayout& layout, const PartGeometry& part, uint32_t layer, KvTensor tensor) {
  return (layer - part.first_layer) * layout.tensors() + static_cast<uint32_t>(tensor);
}
constexpr FrameShape ShapeOfFrame(const KvLayout& layout, const PartGeometry& part, KvTensor tensor) {
  return {part.heads, part.tokens, layout.dim(tensor), layout.element};
}

}  // namespace kvasir
