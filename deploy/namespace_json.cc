// SPDX-License-Identifier: Apache-2.0
// Reading and writing of a Namespace as JSON. What a model cannot have is Namespace::Validate's to refuse.
#include "deploy/namespace_json.h"

#include <span>

#include "deploy/json_fields.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

constexpr uint32_t kDimensionMax = 1u << 20;

template <class Value>
struct Named {
  std::string_view name;
  Value value;
};
constexpr Named<ElementType> kElements[] = {{"bf16", ElementType::kBfloat16},
                                            {"fp16", ElementType::kFloat16},
                                            {"fp32", ElementType::kFloat32},
                                            {"fp8_e4m3", ElementType::kFloat8E4M3},
                                            {"fp8_e5m2", ElementType::kFloat8E5M2}};
constexpr Named<PayloadKind> kKinds[] = {{"kv", PayloadKind::kKv},
                                         {"kpre", PayloadKind::kKeyBeforeRope},
                                         {"latent", PayloadKind::kLatent},
                                         {"blob", PayloadKind::kBlob},
                                         {"state", PayloadKind::kState}};

template <class Value>
void Choose(JsonFields& fields, const char* name, std::span<const Named<Value>> choices, Value* out) {
  std::string text;
  fields.Text(name, false, &text);
  if (text.empty()) return;
  std::vector<std::string> names;
  for (const auto& choice : choices) {
    if (choice.name == text) *out = choice.value;
    if (choice.name == text) return;
    names.emplace_back(choice.name);
  }
  fields.Refuse(Cat("\"", name, "\" is \"", text, "\"; it may be ", Join(names, ", ")));
}

template <class Value>
std::string_view NameOf(std::span<const Named<Value>> choices, Value value) {
  for (const auto& choice : choices) {
    if (choice.value == value) return choice.name;
  }
  return "?";
}

absl::Status ParseLayout(const nlohmann::json& object, const std::string& where, KvLayout* layout) {
  JsonFields fields(object, where);
  fields.Number("layers", true, 1, kDimensionMax, &layout->layers);
  fields.Number("kv_heads", true, 1, kDimensionMax, &layout->kv_heads);
  fields.Number("key_dim", true, 1, kDimensionMax, &layout->key_dim);
  fields.Number("value_dim", true, 0, kDimensionMax, &layout->value_dim);
  Choose<ElementType>(fields, "element", kElements, &layout->element);
  return fields.status();
}

void ParseAdapters(JsonFields& fields, std::vector<std::string>* adapters) {
  const nlohmann::json* list = fields.Find("adapters", false);
  if (list == nullptr) return;
  if (!list->is_array()) return fields.Refuse("\"adapters\" must be a list of texts [...]");
  for (const auto& adapter : *list) {
    if (!adapter.is_string()) return fields.Refuse("\"adapters\" must be a list of texts [...]");
    adapters->push_back(adapter.get<std::string>());
  }
}

}  // namespace

absl::StatusOr<Namespace> ParseNamespace(std::string_view json, std::string_view where) {
  const auto document = ParseJson(json, where);
  if (!document.ok()) return document.status();
  Namespace ns;
  JsonFields fields(*document, std::string(where));
  fields.Text("name", true, &ns.name);
  Choose<PayloadKind>(fields, "kind", kKinds, &ns.kind);
  std::string weights;
  fields.Text("weights", false, &weights);
  if (!weights.empty()) {
    const auto digest = FromHex(weights);
    if (digest.ok()) ns.weights.bytes = *digest;
    if (!digest.ok()) fields.Refuse("\"weights\" must be 64 hexadecimal digits: the SHA-256 of the weights");
  }
  fields.Text("tokenizer", false, &ns.tokenizer);
  fields.Number("block_tokens", false, 1, kDimensionMax, &ns.block_tokens);
  fields.Real("rope_theta", &ns.rope_theta);
  fields.Text("rope_scaling", false, &ns.rope_scaling);
  fields.Text("numerics", false, &ns.numerics);
  ParseAdapters(fields, &ns.adapters);
  const nlohmann::json* layout = fields.Find("layout", true);
  if (absl::Status status = fields.status(); !status.ok()) return status;
  if (absl::Status status = ParseLayout(*layout, Cat(where, ": \"layout\""), &ns.layout); !status.ok()) return status;
  if (absl::Status status = ns.Validate(); !status.ok()) {
    return absl::InvalidArgumentError(Cat(where, ": ", status.message()));
  }
  return ns;
}

std::string FormatNamespace(const Namespace& ns) {
  nlohmann::ordered_json object = {{"name", ns.name},
                                   {"kind", NameOf<PayloadKind>(kKinds, ns.kind)},
                                   {"weights", ToHex(ns.weights)},
                                   {"tokenizer", ns.tokenizer}};
  object["layout"] = {{"layers", ns.layout.layers},
                      {"kv_heads", ns.layout.kv_heads},
                      {"key_dim", ns.layout.key_dim},
                      {"value_dim", ns.layout.value_dim},
                      {"element", ElementName(ns.layout.element)}};
  object["block_tokens"] = ns.block_tokens;
  object["rope_theta"] = ns.rope_theta;
  object["rope_scaling"] = ns.rope_scaling;
  object["numerics"] = ns.numerics;
  object["adapters"] = ns.adapters;
  return object.dump(1) + "\n";
}

std::string_view ElementName(ElementType element) { return NameOf<ElementType>(kElements, element); }

}  // namespace kvasir
