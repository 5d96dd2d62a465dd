// SPDX-License-Identifier: Apache-2.0
// Goal: any difference in meaning is another digest, and the encoding has one form. Method: change every field, singly
// and in pairs; random round trips; every bit of an encoding damaged in turn.
#include "store/api/namespace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "tests/support/seed.h"

namespace kvasir {
namespace {

Namespace Base() {
  Namespace ns;
  ns.name = "base";
  ns.weights.bytes[0] = 1;
  ns.tokenizer = "tok";
  ns.layout = {4, 2, 64, 64, ElementType::kBfloat16};
  ns.block_tokens = 16;
  ns.rope_theta = 10000;
  ns.rope_scaling = "yarn";
  ns.numerics = "x";
  ns.adapters = {"a", "b"};
  return ns;
}

struct Change {
  const char* field;
  void (*apply)(Namespace&);
};
/// One for each field under the digest, in the order FirstDifference looks.
constexpr Change kChanges[] = {
    {"kind", [](Namespace& n) { n.kind = PayloadKind::kKeyBeforeRope; }},
    {"weights", [](Namespace& n) { n.weights.bytes[31] = 9; }},
    {"tokenizer", [](Namespace& n) { n.tokenizer = "to"; }},
    {"layout.layers", [](Namespace& n) { n.layout.layers = 5; }},
    {"layout.kv_heads", [](Namespace& n) { n.layout.kv_heads = 4; }},
    {"layout.key_dim", [](Namespace& n) { n.layout.key_dim = 128; }},
    {"layout.value_dim", [](Namespace& n) { n.layout.value_dim = 128; }},
    {"layout.element", [](Namespace& n) { n.layout.element = ElementType::kFloat16; }},
    {"block_tokens", [](Namespace& n) { n.block_tokens = 256; }},
    {"rope_theta", [](Namespace& n) { n.rope_theta = std::nextafter(10000.0, 1e9); }},
    {"rope_scaling", [](Namespace& n) { n.rope_scaling = "kyarn"; }},  // with tokenizer "to": the same letters in a row
    {"numerics", [](Namespace& n) { n.numerics = ""; }},
    {"adapters", [](Namespace& n) { n.adapters = {"ab"}; }},
};

TEST(Namespace, EveryFieldChangesTheDigestSinglyAndInPairs) {
  std::set<NamespaceDigest> digests = {Base().Digest()};
  size_t count = 1;
  for (size_t i = 0; i < std::size(kChanges); ++i) {
    for (size_t j = i; j < std::size(kChanges); ++j) {
      Namespace ns = Base();
      kChanges[i].apply(ns);
      if (j != i) kChanges[j].apply(ns);
      ASSERT_TRUE(ns.Validate().ok()) << ns.Validate();
      digests.insert(ns.Digest());
      ++count;
      const std::string words = Namespace::FirstDifference(Base(), ns);
      const std::string field = words.substr(0, words.find_first_of(":["));
      EXPECT_EQ(std::count(Namespace::kComparedFields.begin(), Namespace::kComparedFields.end(), field), 1) << words;
      EXPECT_EQ(words.rfind(std::string(kChanges[i].field) + ": ", 0), 0u) << words;
    }
  }
  EXPECT_EQ(digests.size(), count);
}

TEST(Namespace, TheNameIsNotUnderTheDigest) {
  Namespace ns = Base();
  ns.name = "another";
  EXPECT_EQ(ns.Digest(), Base().Digest());
  EXPECT_NE(ns.Encode(), Base().Encode());
  EXPECT_EQ(Namespace::FirstDifference(ns, Base()), "");
}

TEST(Namespace, DifferencesShowBothValues) {
  const auto difference = [](void (*apply)(Namespace&)) {
    Namespace ns = Base();
    apply(ns);
    return Namespace::FirstDifference(Base(), ns);
  };
  EXPECT_EQ(difference([](Namespace& n) { n.layout.kv_heads = 4; }), "layout.kv_heads: 2 here, 4 there");
  EXPECT_EQ(difference([](Namespace& n) { n.rope_theta = 500000; }), "rope_theta: 10000 here, 5e+05 there");
  EXPECT_EQ(difference([](Namespace& n) { n.layout.element = ElementType::kFloat8E4M3; }),
            "layout.element: bfloat16 here, float8_e4m3 there");
  EXPECT_EQ(difference([](Namespace& n) { n.adapters[1] = "\n"; }), "adapters[1]: 'b' here, '\\n' there");
  EXPECT_EQ(difference([](Namespace& n) { n.adapters.pop_back(); }), "adapters: 2 here, 1 there");
}

Namespace Random(std::mt19937_64& rng) {
  const auto below = [&](uint64_t n) { return static_cast<uint32_t>(rng() % n); };
  const auto text = [&](uint32_t bytes_max) {
    std::string s(below(bytes_max + 1), '\0');
    for (char& c : s) c = static_cast<char>(rng());
    return s;
  };
  Namespace ns;
  ns.name.assign(below(129), 'n');
  ns.kind = static_cast<PayloadKind>(1 + below(5));
  for (uint8_t& b : ns.weights.bytes) b = static_cast<uint8_t>(rng());
  ns.tokenizer = text(100);
  ns.layout = {1 + below(65535), 1 + below(65535), 1 + below(512), 1 + below(512)};
  ns.layout.element = static_cast<ElementType>(1 + below(5));
  if (ns.kind == PayloadKind::kLatent) ns.layout.kv_heads = 1, ns.layout.value_dim = 0;
  ns.block_tokens = 1 + below(4096);
  ns.rope_theta = std::ldexp(static_cast<double>(rng() >> 11), static_cast<int>(below(64)) - 32);
  ns.rope_scaling = text(200);
  ns.numerics = text(50);
  for (uint32_t i = below(5); i > 0; --i) ns.adapters.push_back(text(64).append("#"));
  return ns;
}

TEST(Namespace, DecodeGivesBackWhatWasEncoded) {
  auto rng = testing::Rng(1);
  for (int i = 0; i < 2000; ++i) {
    const Namespace ns = Random(rng);
    const std::string bytes = ns.Encode();
    const auto back = Namespace::Decode(bytes);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(Namespace::FirstDifference(ns, *back), "");
    EXPECT_EQ(back->name, ns.name);
    EXPECT_EQ(back->Encode(), bytes);
    EXPECT_EQ(back->Digest(), ns.Digest());
  }
}

TEST(Namespace, DamageIsRefusedOrIsAnotherNamespace) {
  const std::string bytes = Base().Encode();
  for (size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_EQ(Namespace::Decode(bytes.substr(0, length)).status().code(), absl::StatusCode::kInvalidArgument) << length;
  }
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    const auto other = Namespace::Decode(damaged);
    if (other.ok()) {  // a value changed, the form did not
      EXPECT_EQ(other->Encode(), damaged) << bit;
      EXPECT_TRUE(other->Digest() != Base().Digest() || other->name != Base().name) << bit;
    }
  }
  EXPECT_FALSE(Namespace::Decode(bytes + '\0').ok());
  const std::string long_bytes(Namespace::kEncodedBytesMax + 1, 'x');
  EXPECT_EQ(Namespace::Decode(long_bytes).status().message(), "namespace: length: 4097 bytes, at most 4096");
  EXPECT_EQ(Namespace::Decode("").status().message(), "namespace: schema: missing or cut off");
}

TEST(Namespace, ValidateNamesTheField) {
  const auto refused = [](const char* field, auto apply) {
    Namespace ns = Base();
    apply(ns);
    const absl::Status status = ns.Validate();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_EQ(std::string(status.message()).rfind(std::string("namespace: ") + field + ": ", 0), 0u) << status;
    EXPECT_FALSE(Namespace::Decode(ns.Encode()).ok()) << field;
  };
  refused("kind", [](Namespace& n) { n.kind = static_cast<PayloadKind>(0); });
  refused("kind", [](Namespace& n) { n.kind = static_cast<PayloadKind>(6); });
  refused("name", [](Namespace& n) { n.name.assign(129, 'x'); });
  refused("name", [](Namespace& n) { n.name = "a\nb"; });
  refused("layout.layers", [](Namespace& n) { n.layout.layers = 0; });
  refused("layout.layers", [](Namespace& n) { n.layout.layers = 65536; });
  refused("layout.kv_heads", [](Namespace& n) { n.layout.kv_heads = 0; });
  refused("layout.key_dim", [](Namespace& n) { n.layout.key_dim = 0; });
  refused("layout.key_dim", [](Namespace& n) { n.layout.key_dim = ~0u; });
  refused("layout.value_dim", [](Namespace& n) { n.layout.value_dim = 0; });
  refused("layout.value_dim", [](Namespace& n) { n.kind = PayloadKind::kLatent, n.layout.kv_heads = 1; });
  refused("layout.kv_heads", [](Namespace& n) { n.kind = PayloadKind::kLatent; });
  refused("layout.element", [](Namespace& n) { n.layout.element = static_cast<ElementType>(9); });
  refused("block_tokens", [](Namespace& n) { n.block_tokens = 0; });
  refused("block_tokens", [](Namespace& n) { n.block_tokens = 1u << 20, n.layout.key_dim = 1u << 20; });
  refused("rope_theta", [](Namespace& n) { n.rope_theta = -1; });
  refused("rope_theta", [](Namespace& n) { n.rope_theta = -0.0; });
  refused("rope_theta", [](Namespace& n) { n.rope_theta = std::numeric_limits<double>::quiet_NaN(); });
  refused("rope_theta", [](Namespace& n) { n.rope_theta = std::numeric_limits<double>::infinity(); });
  refused("adapters", [](Namespace& n) { n.adapters = {"a", ""}; });
  refused("length", [](Namespace& n) { n.rope_scaling.assign(4096, 'x'); });
}

}  // namespace
}  // namespace kvasir
