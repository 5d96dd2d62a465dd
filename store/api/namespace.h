// SPDX-License-Identifier: Apache-2.0
// Namespace: what stored bytes mean. Two Namespaces with one digest are the same in every field; any difference makes
// other keys. No tensor- or pipeline-parallel rank is in it: the layout is canonical, ranks write and fetch slices.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/kv_layout.h"
#include "store/api/digest.h"

namespace kvasir {

/// What a payload is. Written to disk and wire: never renumber.
enum class PayloadKind : uint8_t { kKv = 1, kKeyBeforeRope = 2, kLatent = 3, kBlob = 4, kState = 5 };

struct Namespace {
  static constexpr uint32_t kSchema = 1;
  static constexpr size_t kEncodedBytesMax = 4096;
  static constexpr size_t kNameBytesMax = 128;

  /// For people and for the near-miss check: a node binds a name to the first digest it meets under it, per trust domain,
  /// and refuses the same name with another digest, naming the field. Not part of the digest.
  std::string name;

  PayloadKind kind = PayloadKind::kKv;
  WeightsDigest weights;             ///< of the weights themselves, not of a name
  std::string tokenizer;             ///< digest or revision; "" = bytes
  KvLayout layout;
  uint32_t block_tokens = 256;
  double rope_theta = 0;             ///< 0 = no RoPE
  std::string rope_scaling;          ///< canonical text of the scaling parameters, "" = none
  std::string numerics;              ///< class of engine numerics whose KV may be mixed, "" = any
  std::vector<std::string> adapters; ///< digests of LoRA and other adapters, in order of application

  /// Canonical TLV (type u16, length u32, bytes; ascending types; integers little endian, doubles by their bits).
  /// Injective: decode(encode(x)) == x.
  std::string Encode() const;
  /// InvalidArgument names the field; accepts only the canonical form.
  static absl::StatusOr<Namespace> Decode(std::string_view bytes);
  /// SHA-256 of Encode() without the name.
  NamespaceDigest Digest() const;
  /// InvalidArgument names the first field that no model can have.
  absl::Status Validate() const;
  /// What FirstDifference compares, in its order.
  static constexpr std::array<std::string_view, 13> kComparedFields = {
      "kind",           "weights",      "tokenizer",  "layout.layers", "layout.kv_heads", "layout.key_dim", "layout.value_dim",
      "layout.element", "block_tokens", "rope_theta", "rope_scaling",  "numerics",        "adapters"};
  /// "" when equal; else the first differing field with both values: "layout.kv_heads: 8 here, 4 there".
  static std::string FirstDifference(const Namespace& here, const Namespace& there);
};

}  // namespace kvasir
