// SPDX-License-Identifier: Apache-2.0
// Namespace::Decode: what it accepts is canonical, valid, and comes back.
#include "store/api/namespace.h"
#include "tests/fuzz/fuzz.h"

namespace kvasir::fuzzing {

void Run(std::span<const uint8_t> input) {
  const std::string_view bytes(reinterpret_cast<const char*>(input.data()), input.size());
  const auto ns = Namespace::Decode(bytes);
  if (!ns.ok()) return Require(!ns.status().message().empty(), "a refusal says why");
  Require(ns->Encode() == bytes, "one form only");
  Require(ns->Validate().ok(), "what is decoded is valid");
  Require(Namespace::FirstDifference(*ns, *ns).empty(), "equal to itself");
  Require(!Namespace::FirstDifference(*ns, Namespace{}).empty(), "not equal to nothing");
}

std::vector<std::string> Seeds() {
  Namespace ns;
  ns.name = "tiny";
  ns.tokenizer = "bytes";
  ns.layout = {4, 2, 64, 64, ElementType::kBfloat16};
  ns.rope_theta = 10000;
  ns.numerics = "cpu";
  Namespace latent = ns;
  latent.kind = PayloadKind::kLatent;
  latent.layout = {61, 1, 576, 0, ElementType::kFloat8E4M3};
  latent.adapters = {"a", "b"};
  return {ns.Encode(), latent.Encode()};
}

}  // namespace kvasir::fuzzing
