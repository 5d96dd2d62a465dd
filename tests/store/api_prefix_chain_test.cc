// SPDX-License-Identifier: Apache-2.0
// Goal: equal histories give equal keys, any difference gives another key from its block on. Method: change one thing.
#include "store/api/prefix_chain.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/support/seed.h"

namespace kvasir {
namespace {

Namespace SomeNamespace() {
  Namespace ns;
  ns.layout = {2, 1, 8, 8, ElementType::kBfloat16};
  ns.block_tokens = 16;
  return ns;
}

const DomainKey kDomain = DomainKey::FromPassphrase("a");

std::vector<uint32_t> Tokens(size_t count) {
  auto rng = testing::Rng(1);
  std::vector<uint32_t> tokens(count);
  for (uint32_t& token : tokens) token = static_cast<uint32_t>(rng());
  return tokens;
}

std::vector<BlockKey> KeysOf(const PrefixChain& chain) { return {chain.keys().begin(), chain.keys().end()}; }

TEST(PrefixChain, OnlyWholeBlocksHaveKeys) {
  for (const size_t count : {0u, 1u, 15u, 16u, 17u, 31u, 32u, 1000u}) {
    EXPECT_EQ(PrefixChain::FromTokens(kDomain, SomeNamespace(), Tokens(count)).size(), count / 16);
  }
}

TEST(PrefixChain, ThePrefixOfAChainIsTheChainOfThePrefix) {
  const auto tokens = Tokens(160);
  const PrefixChain whole = PrefixChain::FromTokens(kDomain, SomeNamespace(), tokens);
  for (size_t blocks = 0; blocks <= 10; ++blocks) {
    const auto some = PrefixChain::FromTokens(kDomain, SomeNamespace(), std::span(tokens).first(blocks * 16 + blocks));
    ASSERT_EQ(some.size(), blocks);
    for (size_t i = 0; i < blocks; ++i) EXPECT_EQ(some[i], whole[i]);
    EXPECT_EQ(some.root(), whole.root());
  }
}

TEST(PrefixChain, OneTokenChangesItsBlockAndAllAfterIt) {
  auto tokens = Tokens(160);
  const PrefixChain before = PrefixChain::FromTokens(kDomain, SomeNamespace(), tokens);
  for (size_t at = 0; at < tokens.size(); at += 7) {
    tokens[at] ^= 1;
    const PrefixChain after = PrefixChain::FromTokens(kDomain, SomeNamespace(), tokens);
    tokens[at] ^= 1;
    for (size_t i = 0; i < before.size(); ++i) EXPECT_EQ(before[i] == after[i], i < at / 16) << at << " " << i;
  }
}

TEST(PrefixChain, ExtrasAreMixedIntoTheirBlock) {
  const auto tokens = Tokens(48);
  const auto with = [&](std::vector<std::string> extras) {
    return KeysOf(PrefixChain::FromTokens(kDomain, SomeNamespace(), tokens, extras));
  };
  EXPECT_EQ(with({}), with({"", "", ""}));
  const auto plain = with({}), second = with({"", "salt"}), moved = with({"salt"});
  EXPECT_EQ(plain[0], second[0]);
  EXPECT_NE(plain[1], second[1]);
  EXPECT_NE(plain[2], second[2]);
  EXPECT_NE(moved[1], second[1]);
}

TEST(PrefixChain, DomainsAndNamespacesShareNothing) {
  const auto tokens = Tokens(64);
  Namespace other = SomeNamespace();
  other.rope_theta = 1;
  std::set<BlockKey> all;
  size_t count = 0;
  for (const auto& chain : {PrefixChain::FromTokens(kDomain, SomeNamespace(), tokens),
                            PrefixChain::FromTokens(DomainKey::FromPassphrase("b"), SomeNamespace(), tokens),
                            PrefixChain::FromTokens(kDomain, other, tokens)}) {
    all.insert(chain.root());
    all.insert(chain.keys().begin(), chain.keys().end());
    count += 1 + chain.size();
  }
  EXPECT_EQ(all.size(), count);
}

TEST(PrefixChain, ParentsAndRuns) {
  const PrefixChain chain = PrefixChain::FromTokens(kDomain, SomeNamespace(), Tokens(16 * 40));
  EXPECT_EQ(chain.Parent(0), chain.root());
  EXPECT_EQ(chain.Parent(5), chain[4]);
  EXPECT_EQ(chain.RunKey(15, 16), chain[0]);
  EXPECT_EQ(chain.RunKey(16, 16), chain[16]);
  EXPECT_EQ(chain.RunKey(39, 16), chain[32]);
}

TEST(PrefixChain, OpaqueNamesChainAndHaveLimits) {
  const std::vector<std::string> names = {"a", "b", "b", std::string(512, 'x')};
  const auto chain = PrefixChain::FromOpaque(kDomain, SomeNamespace(), names);
  ASSERT_TRUE(chain.ok());
  ASSERT_EQ(chain->size(), 4u);
  EXPECT_NE((*chain)[1], (*chain)[2]);  // the same name at another place
  const std::vector<std::string> other = {"c", "b"};
  EXPECT_NE((*chain)[1], (*PrefixChain::FromOpaque(kDomain, SomeNamespace(), other))[1]);  // after another parent

  const std::vector<std::string> long_name = {"a", std::string(513, 'x')}, empty = {""};
  EXPECT_EQ(PrefixChain::FromOpaque(kDomain, SomeNamespace(), long_name).status().message(),
            "names[1]: 513 bytes, must be 1 to 512");
  EXPECT_EQ(PrefixChain::FromOpaque(kDomain, SomeNamespace(), empty).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvasir
