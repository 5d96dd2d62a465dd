// SPDX-License-Identifier: Apache-2.0
// PrefixChain: the BlockKeys of a token sequence, in order.
//   k0 = HMAC-SHA256(domain key, namespace digest),  ki = HMAC(domain key, k(i-1) || count || tokens || extras of block i)
// Only whole blocks have keys; the unsealed tail stays with the engine.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "store/api/digest.h"
#include "store/api/namespace.h"

namespace kvasir {

class PrefixChain {
 public:
  static constexpr size_t kOpaqueBytesMax = 512;
  static constexpr size_t kBlocksMax = 1u << 20;

  /// `extras[i]` (may be empty or shorter than the blocks) is mixed into block i: images, salts.
  static PrefixChain FromTokens(const DomainKey& domain, const Namespace& ns, std::span<const uint32_t> tokens,
                                std::span<const std::string> extras = {});
  /// For engines that hand over their own hashes or names: key i = HMAC(domain key, namespace, parent, bytes i).
  static absl::StatusOr<PrefixChain> FromOpaque(const DomainKey& domain, const Namespace& ns,
                                                std::span<const std::string> names);

  size_t size() const { return keys_.size(); }
  const BlockKey& operator[](size_t block) const { return keys_[block]; }
  std::span<const BlockKey> keys() const { return keys_; }
  /// Parent of block 0: k0, the same for every chain of the namespace and domain.
  const BlockKey& root() const { return root_; }
  const BlockKey& Parent(size_t block) const { return block == 0 ? root_ : keys_[block - 1]; }
  /// The key that places `block`: the first of its run.
  const BlockKey& RunKey(size_t block, uint32_t run_blocks) const { return keys_[block - block % run_blocks]; }

 private:
  BlockKey root_;
  std::vector<BlockKey> keys_;
};

}  // namespace kvasir
