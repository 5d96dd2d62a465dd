// SPDX-License-Identifier: Apache-2.0
// The chain of block keys. A key's message begins with 32 bytes (namespace digest or the key before) and fixed-width
// counts, so that no two different histories can give one message.
#include "store/api/prefix_chain.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "store/api/hmac.h"
#include "transport/check.h"

namespace kvasir {

PrefixChain PrefixChain::FromTokens(const DomainKey& domain, const Namespace& ns, std::span<const uint32_t> tokens,
                                    std::span<const std::string> extras) {
  KVASIR_CHECK(ns.block_tokens > 0, "a namespace without block_tokens has no blocks");
  const size_t blocks = tokens.size() / ns.block_tokens;
  KVASIR_CHECK(blocks <= kBlocksMax, "more than PrefixChain::kBlocksMax blocks in one chain");
  HmacKey key(domain.bytes);
  PrefixChain chain;
  key.Sign({ns.Digest().view()}, chain.root_.bytes);
  chain.keys_.resize(blocks);
  const uint32_t count = ns.block_tokens;
  const std::string_view count_bytes(reinterpret_cast<const char*>(&count), sizeof count);
  for (size_t i = 0; i < blocks; ++i) {
    const std::span<const uint32_t> block = tokens.subspan(i * count, count);
    const std::string_view token_bytes(reinterpret_cast<const char*>(block.data()), block.size_bytes());
    const std::string_view extra = i < extras.size() ? std::string_view(extras[i]) : std::string_view();
    key.Sign({chain.Parent(i).view(), count_bytes, token_bytes, extra}, chain.keys_[i].bytes);
  }
  return chain;
}

absl::StatusOr<PrefixChain> PrefixChain::FromOpaque(const DomainKey& domain, const Namespace& ns,
                                                    std::span<const std::string> names) {
  if (names.size() > kBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat("names: ", names.size(), " blocks, at most ", kBlocksMax));
  }
  for (size_t i = 0; i < names.size(); ++i) {
    if (!names[i].empty() && names[i].size() <= kOpaqueBytesMax) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("names[", i, "]: ", names[i].size(), " bytes, must be 1 to ", kOpaqueBytesMax));
  }
  HmacKey key(domain.bytes);
  PrefixChain chain;
  const NamespaceDigest digest = ns.Digest();
  key.Sign({digest.view()}, chain.root_.bytes);
  chain.keys_.resize(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    key.Sign({digest.view(), chain.Parent(i).view(), names[i]}, chain.keys_[i].bytes);
  }
  return chain;
}

}  // namespace kvasir
