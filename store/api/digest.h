// SPDX-License-Identifier: Apache-2.0
// Digest: 32 bytes of SHA-256 or HMAC-SHA256, and the strong types made of it.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace kvasir {

/// 32 bytes; `Tag` keeps a key from being passed as a view.
template <class Tag>
struct Digest32 {
  std::array<uint8_t, 32> bytes{};
  bool zero() const { return *this == Digest32{}; }
  std::string_view view() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
  friend bool operator==(const Digest32&, const Digest32&) = default;
  friend auto operator<=>(const Digest32&, const Digest32&) = default;
  /// The bytes are uniform already: their first word is the hash.
  template <typename H>
  friend H AbslHashValue(H h, const Digest32& d) {
    uint64_t word;
    std::memcpy(&word, d.bytes.data(), sizeof word);
    return H::combine(std::move(h), word);
  }
};

/// Names a block: what its KV depends on, keyed by the trust domain. Never truncated.
using BlockKey = Digest32<struct BlockKeyTag>;
using NamespaceDigest = Digest32<struct NamespaceTag>;
using ViewDigest = Digest32<struct ViewTag>;
using ArtefactDigest = Digest32<struct ArtefactTag>;
using WeightsDigest = Digest32<struct WeightsTag>;
/// What a node calls a trust domain: SHA-256 of a label and the domain key; the key itself stays with the clients.
using DomainId = Digest32<struct DomainTag>;

/// Secret of a trust domain, held by its clients only. Derive it from a passphrase or pass 32 random bytes.
struct DomainKey {
  std::array<uint8_t, 32> bytes{};
  static DomainKey FromPassphrase(std::string_view passphrase);  ///< SHA-256 of label and passphrase
  DomainId Id() const;
};

void Sha256(std::string_view bytes, std::span<uint8_t, 32> out);
void HmacSha256(std::span<const uint8_t, 32> key, std::string_view bytes, std::span<uint8_t, 32> out);

std::string ToHex(std::string_view bytes);
/// InvalidArgument unless exactly 64 hexadecimal digits.
absl::StatusOr<std::array<uint8_t, 32>> FromHex(std::string_view hex);
template <class Tag>
std::string ToHex(const Digest32<Tag>& digest) {
  return ToHex(digest.view());
}

}  // namespace kvasir
