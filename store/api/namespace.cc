// SPDX-License-Identifier: Apache-2.0
// Namespace's canonical encoding, its limits, and the words for a difference. One table of fields (Fields) serves the
// comparison; the record numbers below are on disk and wire: never renumber, never reuse.
#include "store/api/namespace.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/frame_directory.h"
#include "store/api/tlv.h"

namespace kvasir {
namespace {

/// Every record is present exactly once, kAdapter as often as there are adapters. The name is last and not under the
/// digest.
enum Record : uint16_t {
  kSchemaRecord = 1,
  kKindRecord = 2,
  kWeightsRecord = 3,
  kTokenizerRecord = 4,
  kLayersRecord = 5,
  kKvHeadsRecord = 6,
  kKeyDimRecord = 7,
  kValueDimRecord = 8,
  kElementRecord = 9,
  kBlockTokensRecord = 10,
  kRopeThetaRecord = 11,
  kRopeScalingRecord = 12,
  kNumericsRecord = 13,
  kAdapterRecord = 14,
  kNameRecord = 0xFFFF,
};

constexpr uint32_t kLayersMax = 65535;       ///< a part header holds 16 bits
constexpr uint32_t kKvHeadsMax = 65535;      ///< the same
constexpr uint32_t kDimMax = 1u << 20;       ///< a blob is one head of one layer, its bytes the key dimension
constexpr uint32_t kBlockTokensMax = 1u << 20;
constexpr size_t kShownBytesMax = 64;        ///< of a text in a message

std::string EncodeWithoutName(const Namespace& ns) {
  TlvWriter out;
  out.Value(kSchemaRecord, Namespace::kSchema);
  out.Value(kKindRecord, ns.kind);
  out.Bytes(kWeightsRecord, ns.weights.view());
  out.Bytes(kTokenizerRecord, ns.tokenizer);
  out.Value(kLayersRecord, ns.layout.layers);
  out.Value(kKvHeadsRecord, ns.layout.kv_heads);
  out.Value(kKeyDimRecord, ns.layout.key_dim);
  out.Value(kValueDimRecord, ns.layout.value_dim);
  out.Value(kElementRecord, ns.layout.element);
  out.Value(kBlockTokensRecord, ns.block_tokens);
  out.Value(kRopeThetaRecord, ns.rope_theta);
  out.Bytes(kRopeScalingRecord, ns.rope_scaling);
  out.Bytes(kNumericsRecord, ns.numerics);
  for (const std::string& adapter : ns.adapters) out.Bytes(kAdapterRecord, adapter);
  return out.Take();
}

/// A value as a message shows it: printable, not longer than a line.
std::string Shown(uint32_t value) { return absl::StrCat(value); }
std::string Shown(double value) {
  std::array<char, 32> text;  // the shortest that reads back as the same double
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}
std::string Shown(const WeightsDigest& digest) { return ToHex(digest).substr(0, 16); }
std::string Shown(const std::string& text) {
  if (text.size() <= kShownBytesMax) return absl::StrCat("'", absl::CHexEscape(text), "'");
  return absl::StrCat("'", absl::CHexEscape(text.substr(0, kShownBytesMax)), "...' (", text.size(), " bytes)");
}
std::string Shown(PayloadKind kind) {
  switch (kind) {
    case PayloadKind::kKv: return "kv";
    case PayloadKind::kKeyBeforeRope: return "key before RoPE";
    case PayloadKind::kLatent: return "latent";
    case PayloadKind::kBlob: return "blob";
    case PayloadKind::kState: return "state";
  }
  return absl::StrCat("unknown (", static_cast<int>(kind), ")");
}
std::string Shown(ElementType element) {
  switch (element) {
    case ElementType::kFloat32: return "float32";
    case ElementType::kFloat16: return "float16";
    case ElementType::kBfloat16: return "bfloat16";
    case ElementType::kFloat8E4M3: return "float8_e4m3";
    case ElementType::kFloat8E5M2: return "float8_e5m2";
  }
  return absl::StrCat("unknown (", static_cast<int>(element), ")");
}

/// Collects the first difference.
struct Comparison {
  std::string found;
  template <class T>
  void Field(const char* name, const T& here, const T& there) {
    if (!found.empty() || here == there) return;
    found = absl::StrCat(name, ": ", Shown(here), " here, ", Shown(there), " there");
    if (Shown(here) == Shown(there)) absl::StrAppend(&found, " (they differ beyond what is shown)");
  }
};

absl::Status Wrong(const char* field, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("namespace: ", field, ": ", why));
}

absl::Status InRange(const char* field, uint32_t value, uint32_t min, uint32_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return Wrong(field, absl::StrCat(value, ", must be ", min, " to ", max));
}

absl::Status ValidateLayout(const Namespace& ns) {
  const KvLayout& l = ns.layout;
  if (auto s = InRange("layout.layers", l.layers, 1, kLayersMax); !s.ok()) return s;
  if (auto s = InRange("layout.kv_heads", l.kv_heads, 1, kKvHeadsMax); !s.ok()) return s;
  if (auto s = InRange("layout.key_dim", l.key_dim, 1, kDimMax); !s.ok()) return s;
  if (auto s = InRange("layout.value_dim", l.value_dim, 0, kDimMax); !s.ok()) return s;
  const bool latent = ns.kind == PayloadKind::kLatent;
  if (latent && l.kv_heads != 1) return Wrong("layout.kv_heads", "must be 1 in a latent layout");
  if (latent && l.value_dim != 0) return Wrong("layout.value_dim", "must be 0 in a latent layout");
  if (ns.kind == PayloadKind::kKv && l.value_dim == 0) return Wrong("layout.value_dim", "is 0, but the kind is kv");
  if (ElementBytes(l.element) == 0) return Wrong("layout.element", Shown(l.element));
  if (auto s = InRange("block_tokens", ns.block_tokens, 1, kBlockTokensMax); !s.ok()) return s;
  const uint64_t frame_bytes = uint64_t{ns.block_tokens} * std::max(l.key_dim, l.value_dim) * ElementBytes(l.element);
  if (frame_bytes > kFrameBytesMax) {
    return Wrong("block_tokens", absl::StrCat("a block of one head has ", frame_bytes, " bytes, max ", kFrameBytesMax));
  }
  return absl::OkStatus();
}

}  // namespace

std::string Namespace::Encode() const {
  TlvWriter last;
  last.Bytes(kNameRecord, name);
  return EncodeWithoutName(*this) + last.Take();
}

absl::StatusOr<Namespace> Namespace::Decode(std::string_view bytes) {
  if (bytes.size() > kEncodedBytesMax) {
    return Wrong("length", absl::StrCat(bytes.size(), " bytes, at most ", kEncodedBytesMax));
  }
  TlvReader in("namespace", bytes);
  Namespace ns;
  const auto schema = in.Value<uint32_t>(kSchemaRecord, "schema");
  if (in.status().ok() && schema != kSchema) in.Fail("schema", absl::StrCat(schema, ", this build speaks ", kSchema));
  ns.kind = in.Value<PayloadKind>(kKindRecord, "kind");
  const std::string_view weights = in.Bytes(kWeightsRecord, "weights");
  if (in.status().ok() && weights.size() != ns.weights.bytes.size()) in.Fail("weights", "32 bytes expected");
  if (in.status().ok()) std::copy(weights.begin(), weights.end(), ns.weights.bytes.begin());
  ns.tokenizer = in.Bytes(kTokenizerRecord, "tokenizer");
  ns.layout.layers = in.Value<uint32_t>(kLayersRecord, "layout.layers");
  ns.layout.kv_heads = in.Value<uint32_t>(kKvHeadsRecord, "layout.kv_heads");
  ns.layout.key_dim = in.Value<uint32_t>(kKeyDimRecord, "layout.key_dim");
  ns.layout.value_dim = in.Value<uint32_t>(kValueDimRecord, "layout.value_dim");
  ns.layout.element = in.Value<ElementType>(kElementRecord, "layout.element");
  ns.block_tokens = in.Value<uint32_t>(kBlockTokensRecord, "block_tokens");
  ns.rope_theta = in.Value<double>(kRopeThetaRecord, "rope_theta");
  ns.rope_scaling = in.Bytes(kRopeScalingRecord, "rope_scaling");
  ns.numerics = in.Bytes(kNumericsRecord, "numerics");
  while (in.Next(kAdapterRecord)) ns.adapters.emplace_back(in.Bytes(kAdapterRecord, "adapters"));
  ns.name = in.Bytes(kNameRecord, "name");
  in.End();
  if (!in.status().ok()) return in.status();
  if (absl::Status valid = ns.Validate(); !valid.ok()) return valid;
  return ns;
}

NamespaceDigest Namespace::Digest() const {
  NamespaceDigest digest;
  Sha256(EncodeWithoutName(*this), digest.bytes);
  return digest;
}

absl::Status Namespace::Validate() const {
  if (name.size() > kNameBytesMax) return Wrong("name", absl::StrCat(name.size(), " bytes, at most ", kNameBytesMax));
  const auto control = [](char c) { return static_cast<uint8_t>(c) < 0x20 || c == 0x7F; };
  if (std::any_of(name.begin(), name.end(), control)) return Wrong("name", "holds a control character");
  if (kind < PayloadKind::kKv || kind > PayloadKind::kState) return Wrong("kind", Shown(kind));
  if (absl::Status layout_status = ValidateLayout(*this); !layout_status.ok()) return layout_status;
  // Not below 0, no infinity, no NaN; no -0 either: it equals 0 and would have another digest.
  if (!std::isfinite(rope_theta) || std::signbit(rope_theta)) return Wrong("rope_theta", Shown(rope_theta));
  for (const std::string& adapter : adapters) {
    if (adapter.empty()) return Wrong("adapters", "one is empty");
  }
  if (const size_t bytes = Encode().size(); bytes > kEncodedBytesMax) {
    return Wrong("length", absl::StrCat(bytes, " bytes encoded, at most ", kEncodedBytesMax));
  }
  return absl::OkStatus();
}

std::string Namespace::FirstDifference(const Namespace& here, const Namespace& there) {
  Comparison c;
  c.Field("kind", here.kind, there.kind);
  c.Field("weights", here.weights, there.weights);
  c.Field("tokenizer", here.tokenizer, there.tokenizer);
  c.Field("layout.layers", here.layout.layers, there.layout.layers);
  c.Field("layout.kv_heads", here.layout.kv_heads, there.layout.kv_heads);
  c.Field("layout.key_dim", here.layout.key_dim, there.layout.key_dim);
  c.Field("layout.value_dim", here.layout.value_dim, there.layout.value_dim);
  c.Field("layout.element", here.layout.element, there.layout.element);
  c.Field("block_tokens", here.block_tokens, there.block_tokens);
  c.Field("rope_theta", here.rope_theta, there.rope_theta);
  c.Field("rope_scaling", here.rope_scaling, there.rope_scaling);
  c.Field("numerics", here.numerics, there.numerics);
  c.Field("adapters", static_cast<uint32_t>(here.adapters.size()), static_cast<uint32_t>(there.adapters.size()));
  for (size_t i = 0; c.found.empty() && i < here.adapters.size(); ++i) {
    c.Field(absl::StrCat("adapters[", i, "]").c_str(), here.adapters[i], there.adapters[i]);
  }
  return c.found;
}

}  // namespace kvasir
