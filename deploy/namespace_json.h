// SPDX-License-Identifier: Apache-2.0
// A Namespace as people write it down: one JSON object.
//
//   {"name": "my-model", "kind": "kv", "weights": "<64 hex digits>", "tokenizer": "",
//    "layout": {"layers": 32, "kv_heads": 8, "key_dim": 128, "value_dim": 128, "element": "bf16"},
//    "block_tokens": 256, "rope_theta": 500000, "rope_scaling": "", "numerics": "", "adapters": []}
//
// name and layout (but its element) are needed, and weights unless the model has none worth telling apart.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "store/api/namespace.h"

namespace kvasir {

inline constexpr uint64_t kNamespaceFileBytesMax = 64ull << 10;

/// InvalidArgument begins with `where` (a file name) and names the field.
absl::StatusOr<Namespace> ParseNamespace(std::string_view json, std::string_view where);
/// As ParseNamespace reads it.
std::string FormatNamespace(const Namespace& ns);

/// "bf16", "fp16", "fp32", "fp8_e4m3", "fp8_e5m2"; "?" for a value that is none.
std::string_view ElementName(ElementType element);

}  // namespace kvasir
