// SPDX-License-Identifier: Apache-2.0
// Goal: an embedded node serves Sessions of its own process and outlives the handle that made it. Method: tests/deploy/
// consumer/main.cc is the round trip; here is what is special about being embedded.
#include "deploy/embedded/embedded.h"

#include <gtest/gtest.h>

#include <future>

namespace kvasir {
namespace {

NodeOptions SmallNode() {
  NodeOptions options;
  options.dram_bytes = options.slab_bytes = 32 << 20;
  return options;
}
SessionOptions ForModel() {
  SessionOptions options;
  options.push_view = "raw";
  options.domain = DomainKey::FromPassphrase("embedded");
  options.ns.name = "embedded-model";
  options.ns.layout = {1, 1, 8, 8, ElementType::kBfloat16};
  options.ns.block_tokens = 16;
  return options;
}

TEST(Embedded, IsAClusterOfOneWithoutPorts) {
  const auto embedded = StartEmbedded(SmallNode());
  ASSERT_TRUE(embedded.ok()) << embedded.status();
  EXPECT_EQ(embedded->node->options().transports, std::vector<std::string>{"loopback"});
  ASSERT_EQ(embedded->node->options().membership.members.size(), 1u);
  EXPECT_EQ(embedded->node->options().membership.members[0].control, embedded->address);
}

TEST(Embedded, SessionKeepsTheNodeAlive) {
  auto embedded = StartEmbedded(SmallNode());
  ASSERT_TRUE(embedded.ok()) << embedded.status();
  SessionOptions options = ForModel();
  embedded->Attach(&options);
  const std::weak_ptr<Node> node = embedded->node;
  auto session = Session::Open(std::move(options));
  ASSERT_TRUE(session.ok()) << session.status();
  *embedded = {};
  EXPECT_FALSE(node.expired());
  const std::vector<uint32_t> tokens(32, 7);
  const PrefixChain chain = (*session)->Chain(tokens);
  std::promise<MatchResult> matched;
  (*session)->Match(chain, [&](MatchResult result) { matched.set_value(std::move(result)); });
  const MatchResult result = matched.get_future().get();
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(result.blocks, 0u);
  session->reset();
  EXPECT_TRUE(node.expired());
}

TEST(Embedded, BadOptionsAreNamed) {
  NodeOptions options = SmallNode();
  options.dram_bytes = 0;
  EXPECT_EQ(StartEmbedded(options).status().code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvasir
