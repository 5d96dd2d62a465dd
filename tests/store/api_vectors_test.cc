// SPDX-License-Identifier: Apache-2.0
// Goal: the bytes of store/api never change by accident. Method: every line of vectors.txt, which an independent script
// (vectors.py) also computes, is computed here by the real code; and no line may be left over.
#include <gtest/gtest.h>

#include <fstream>
#include <map>

#include "store/api/part.h"
#include "store/api/placement.h"
#include "store/api/prefix_chain.h"

namespace kvasir {
namespace {

using Lines = std::map<std::string, std::string>;

Lines Committed() {
  Lines lines;
  std::ifstream file(KVASIR_VECTORS);
  for (std::string line; std::getline(file, line);) {
    const size_t at = line.find(" = ");
    lines[line.substr(0, at)] = line.substr(at + 3);
  }
  return lines;
}

template <class Digest>
Digest Sha(std::string_view text) {
  Digest digest;
  Sha256(text, digest.bytes);
  return digest;
}

template <size_t N>
std::string Hex(const uint8_t (&bytes)[N]) {
  return ToHex(std::string_view(reinterpret_cast<const char*>(bytes), N));
}
std::string Hex(const std::array<uint8_t, 32>& bytes) {
  return ToHex(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

Namespace Tiny() {
  Namespace ns;
  ns.name = "tiny";
  for (uint8_t i = 0; i < 32; ++i) ns.weights.bytes[i] = i;
  ns.tokenizer = "bytes";
  ns.layout = {4, 2, 64, 64, ElementType::kBfloat16};
  ns.block_tokens = 16;
  ns.rope_theta = 10000;
  ns.numerics = "cpu-f32";
  ns.adapters = {"adapter", "lora-b"};
  return ns;
}

void Keys(const DomainKey& domain, Lines& out) {
  std::vector<uint32_t> tokens(70);
  for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = i * 7 + 1;
  const std::vector<std::string> extras = {"", "image:42"};
  const PrefixChain chain = PrefixChain::FromTokens(domain, Tiny(), tokens, extras);
  out["chain.0"] = ToHex(chain.root());
  for (size_t i = 0; i < chain.size(); ++i) out["chain." + std::to_string(i + 1)] = ToHex(chain[i]);
  const std::vector<std::string> names = {"alpha", "beta", std::string(512, '\0')};
  const auto opaque = PrefixChain::FromOpaque(domain, Tiny(), names);
  ASSERT_TRUE(opaque.ok());
  for (size_t i = 0; i < opaque->size(); ++i) out["opaque." + std::to_string(i)] = ToHex((*opaque)[i]);
}

void Views(Lines& out) {
  const View views[] = {{"P:raw", true, "", 8, 1}, {"Q:int(4,tok,64,asym)|P:bits", false, "query:7", 4, 2}};
  for (size_t i = 0; i < std::size(views); ++i) {
    const std::string name = "view." + std::to_string(i);
    out[name + ".encoded"] = ToHex(views[i].Encode());
    out[name + ".digest"] = ToHex(views[i].Digest());
  }
}

void Part(uint16_t layers, Lines& out) {
  const std::string spec = "Q:int(4,tok,64,asym)|P:bits";
  std::vector<FrameEntry> directory;
  uint64_t offset = 0;
  for (uint32_t i = 0; i < 2u * layers; ++i) {
    const FrameEntry entry{static_cast<uint32_t>(offset), 5 + 3 * i, 0x9E3779B1u * (i + 1), 0};
    directory.push_back(entry);
    offset = AlignFrame(offset + entry.length);
  }
  PartHeader header;
  const auto set = [](uint8_t(&field)[32], std::string_view text) { Sha256(text, std::span<uint8_t, 32>(field)); };
  set(header.key, "key");
  set(header.namespace_digest, "namespace");
  set(header.view_digest, "view");
  set(header.artefact_digest, "artefact");
  header.first_layer = 8;
  header.layers = layers;
  header.first_head = 3;
  header.heads = 1;
  header.block_index = 7;
  header.token_count = 16;
  header.layer_group = 1;
  header.head_group = 3;
  header.writer = 0x1122334455667788;
  std::vector<std::byte> bytes(FramesOffset(static_cast<uint32_t>(spec.size()), 2u * layers));
  SealHeader(header, spec, directory, offset, bytes);
  const auto parsed = ParseAnyPart(bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const std::string name = "part." + std::to_string(layers);
  out[name + ".root"] = Hex(parsed->header.root);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  out[name + ".sha256"] = ToHex(Sha<BlockKey>(text));
}

void Placements(Lines& out) {
  Membership membership;
  membership.members = {{"n1", "", 1, 100, "a"}, {"n2", "", 2, 100, "a"}, {"n3", "", 4, 200, "b"},
                        {"n4", "", 1, 50, ""},   {"n5", "", 3, 100, "b"}};
  for (int i = 0; i < 8; ++i) {
    std::string text;
    for (const Placed& p : Place(Sha<BlockKey>("run" + std::to_string(i)), membership, 5)) {
      text += (text.empty() ? "" : " ") + membership.members[p.member].id + "/" + std::to_string(p.shard);
    }
    out["place." + std::to_string(i)] = text;
  }
}

TEST(ApiVectors, EveryLineIsComputedHereToo) {
  const DomainKey domain = DomainKey::FromPassphrase("open sesame");
  Lines mine;
  mine["domain.key"] = Hex(domain.bytes);
  mine["domain.id"] = ToHex(domain.Id());
  std::array<uint8_t, 32> mac;
  HmacSha256(domain.bytes, "what do ya want for nothing?", mac);
  mine["hmac"] = Hex(mac);
  mine["namespace.encoded"] = ToHex(Tiny().Encode());
  mine["namespace.digest"] = ToHex(Tiny().Digest());
  Keys(domain, mine);
  Views(mine);
  Part(4, mine);
  Part(64, mine);
  Placements(mine);
  EXPECT_EQ(mine, Committed());
}

TEST(ApiVectors, HexReadsWhatItWrote) {
  const BlockKey key = Sha<BlockKey>("x");
  const auto back = FromHex(ToHex(key));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, key.bytes);
  EXPECT_EQ(FromHex("AB").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FromHex(std::string(63, '0') + "g").status().message(), "digest: no hexadecimal digit at position 63");
  EXPECT_TRUE(FromHex(std::string(64, 'F')).ok());
}

}  // namespace
}  // namespace kvasir
