// SPDX-License-Identifier: Apache-2.0
// kvasir hash: the keys under which the blocks of a text or token file are stored.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "deploy/kvasir/command.h"
#include "deploy/namespace_json.h"
#include "deploy/term.h"
#include "deploy/text.h"
#include "store/api/prefix_chain.h"

namespace kvasir {
namespace {

constexpr uint64_t kInputBytesMax = 1ull << 30;
constexpr uint64_t kPassphraseBytesMax = 4096;

absl::StatusOr<DomainKey> ReadDomainKey(const HashFlags& flags) {
  std::string passphrase = flags.passphrase;
  if (!flags.passphrase_file.empty()) {
    auto read = ReadFile(flags.passphrase_file, kPassphraseBytesMax);
    if (!read.ok()) return read.status();
    passphrase = *std::move(read);
    if (passphrase.ends_with('\n')) passphrase.pop_back();
    if (passphrase.ends_with('\r')) passphrase.pop_back();
  }
  if (passphrase.empty()) {
    return absl::InvalidArgumentError(
        "there is no passphrase, and keys depend on it. Give --passphrase-file FILE, the same as the engines use");
  }
  return DomainKey::FromPassphrase(passphrase);
}

absl::StatusOr<std::vector<uint32_t>> ReadTokens(const HashFlags& flags) {
  const auto bytes = ReadFile(flags.file, kInputBytesMax);
  if (!bytes.ok()) return bytes.status();
  std::vector<uint32_t> tokens;
  if (!flags.tokens) {
    tokens.reserve(bytes->size());
    for (const char c : *bytes) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }
  constexpr std::string_view kBetween = " \t\r\n,[]";
  for (size_t at = bytes->find_first_not_of(kBetween); at != std::string::npos;) {
    const size_t end = std::min(bytes->find_first_of(kBetween, at), bytes->size());
    const std::string_view word = std::string_view(*bytes).substr(at, end - at);
    if (!ParseNumber(word, &tokens.emplace_back())) {
      return absl::InvalidArgumentError(Cat(flags.file, ": '", word.substr(0, 40), "' at byte ", at,
                                            " is no token number. Leave --tokens out if the file is text"));
    }
    at = bytes->find_first_not_of(kBetween, end);
  }
  return tokens;
}

}  // namespace

absl::Status RunHash(const GlobalFlags& global, const HashFlags& flags) {
  const auto text = ReadFile(flags.namespace_file, kNamespaceFileBytesMax);
  if (!text.ok()) return text.status();
  const auto ns = ParseNamespace(*text, flags.namespace_file);
  if (!ns.ok()) return ns.status();
  const auto domain = ReadDomainKey(flags);
  if (!domain.ok()) return domain.status();
  const auto tokens = ReadTokens(flags);
  if (!tokens.ok()) return tokens.status();
  if (tokens->empty()) return absl::InvalidArgumentError(Cat(flags.file, " is empty: it has no blocks"));

  const PrefixChain chain = PrefixChain::FromTokens(*domain, *ns, *tokens);
  const size_t sealed = chain.size() * ns->block_tokens;
  if (global.json) {
    nlohmann::ordered_json out = {{"namespace", ToHex(ns->Digest())},       {"domain", ToHex(domain->Id())},
                                  {"block_tokens", ns->block_tokens},       {"tokens", tokens->size()},
                                  {"tail_tokens", tokens->size() - sealed}, {"keys", nlohmann::json::array()}};
    for (size_t i = 0; i < chain.size(); ++i) out["keys"].push_back(ToHex(chain[i]));
    std::printf("%s\n", out.dump(1).c_str());
    return absl::OkStatus();
  }
  Table table({"BLOCK", "TOKENS", "KEY"});
  for (size_t i = 0; i < chain.size(); ++i) {
    table.Row({Cat(i), Cat(i * ns->block_tokens, "-", (i + 1) * ns->block_tokens - 1), ToHex(chain[i])});
  }
  std::printf("%s", table.Text().c_str());
  std::printf("\n%zu blocks of %u tokens; %zu tokens after the last whole block have no key.\n", chain.size(),
              ns->block_tokens, tokens->size() - sealed);
  return absl::OkStatus();
}

}  // namespace kvasir
