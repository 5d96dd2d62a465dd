// SPDX-License-Identifier: Apache-2.0
// SHA-256 and HMAC-SHA256 over OpenSSL's EVP, the algorithm fetched once.
#include "store/api/digest.h"

#include <openssl/evp.h>

#include <bit>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "store/api/hmac.h"
#include "transport/check.h"

namespace kvasir {
namespace {

static_assert(std::endian::native == std::endian::little, "encodings are the memory of a little-endian machine");

constexpr size_t kShaBlockBytes = 64;
constexpr std::string_view kPassphraseLabel = "kvasir domain key 1:";
constexpr std::string_view kDomainLabel = "kvasir domain id 1:";

const EVP_MD* Algorithm() {
  static const EVP_MD* md = EVP_MD_fetch(nullptr, "SHA256", nullptr);  // for the life of the process
  KVASIR_CHECK(md != nullptr, "OpenSSL has no SHA256; is its default provider disabled?");
  return md;
}

/// A running SHA-256. Failure of these calls means no memory: ends the process.
class Running {
 public:
  Running() : context_(EVP_MD_CTX_new()) { KVASIR_CHECK(context_ != nullptr, "EVP_MD_CTX_new"); }
  ~Running() { EVP_MD_CTX_free(context_); }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  void Begin() { KVASIR_CHECK(EVP_DigestInit_ex2(context_, Algorithm(), nullptr) == 1, "EVP_DigestInit_ex2"); }
  void BeginAs(const Running& other) { KVASIR_CHECK(EVP_MD_CTX_copy_ex(context_, other.context_) == 1, "EVP copy"); }
  void Add(const void* data, size_t bytes) { KVASIR_CHECK(EVP_DigestUpdate(context_, data, bytes) == 1, "EVP update"); }
  void Add(std::string_view bytes) { Add(bytes.data(), bytes.size()); }
  void End(std::span<uint8_t, 32> out) {
    KVASIR_CHECK(EVP_DigestFinal_ex(context_, out.data(), nullptr) == 1, "EVP_DigestFinal_ex");
  }

 private:
  EVP_MD_CTX* context_;
};

std::string_view View(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

/// HMAC (RFC 2104): H(key ^ opad || H(key ^ ipad || text)); inner and outer stand after their first block.
struct HmacKey::State {
  Running inner, outer, work;
};

HmacKey::HmacKey(std::span<const uint8_t, 32> key) : state_(std::make_unique<State>()) {
  std::array<uint8_t, kShaBlockBytes> pad;
  const auto begin = [&](Running& running, uint8_t filler) {
    pad.fill(filler);
    for (size_t i = 0; i < key.size(); ++i) pad[i] ^= key[i];
    running.Begin();
    running.Add(pad.data(), pad.size());
  };
  begin(state_->inner, 0x36);
  begin(state_->outer, 0x5c);
}

HmacKey::~HmacKey() = default;

void HmacKey::Sign(std::initializer_list<std::string_view> pieces, std::span<uint8_t, 32> out) {
  std::array<uint8_t, 32> inner;
  state_->work.BeginAs(state_->inner);
  for (std::string_view piece : pieces) state_->work.Add(piece);
  state_->work.End(inner);
  state_->work.BeginAs(state_->outer);
  state_->work.Add(View(inner));
  state_->work.End(out);
}

void Sha256(std::string_view bytes, std::span<uint8_t, 32> out) {
  Running running;
  running.Begin();
  running.Add(bytes);
  running.End(out);
}

void HmacSha256(std::span<const uint8_t, 32> key, std::string_view bytes, std::span<uint8_t, 32> out) {
  HmacKey(key).Sign({bytes}, out);
}

DomainKey DomainKey::FromPassphrase(std::string_view passphrase) {
  DomainKey key;
  Sha256(std::string(kPassphraseLabel).append(passphrase), key.bytes);
  return key;
}

DomainId DomainKey::Id() const {
  DomainId id;
  Sha256(std::string(kDomainLabel).append(View(bytes)), id.bytes);
  return id;
}

std::string ToHex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    hex.push_back(kDigits[byte >> 4]);
    hex.push_back(kDigits[byte & 15]);
  }
  return hex;
}

absl::StatusOr<std::array<uint8_t, 32>> FromHex(std::string_view hex) {
  std::array<uint8_t, 32> bytes{};
  if (hex.size() != 2 * bytes.size()) {
    return absl::InvalidArgumentError(absl::StrCat("digest: 64 hexadecimal digits expected, ", hex.size(), " met"));
  }
  for (size_t i = 0; i < hex.size(); ++i) {
    const int digit = HexDigit(hex[i]);
    if (digit < 0) return absl::InvalidArgumentError(absl::StrCat("digest: no hexadecimal digit at position ", i));
    bytes[i / 2] = static_cast<uint8_t>(bytes[i / 2] << 4 | digit);
  }
  return bytes;
}

}  // namespace kvasir
