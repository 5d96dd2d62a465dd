// SPDX-License-Identifier: Apache-2.0
// JsonFields: reads the fields of a JSON object by name and refuses, in words, what is missing, of another type or
// unknown: a misspelt optional field must not be skipped in silence.
#pragma once

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/flags.h"
#include "deploy/text.h"

namespace kvasir {

/// Read every field, then ask status(): it holds the first complaint. Not thread safe; `object` must outlive it.
class JsonFields {
 public:
  /// `where` begins every message: "members.json: member 2".
  JsonFields(const nlohmann::json& object, std::string where) : object_(object), where_(std::move(where)) {
    if (!object_.is_object()) Refuse("is not a JSON object {...}");
  }

  /// Each leaves `out` alone when the field is absent (a complaint if it is needed) or wrong.
  void Text(const char* name, bool needed, std::string* out) {
    if (const auto* value = Find(name, needed)) {
      if (!value->is_string()) return Refuse(Cat("\"", name, "\" must be a text in quotes"));
      *out = value->get<std::string>();
    }
  }
  template <class Integer>
  void Number(const char* name, bool needed, uint64_t min, uint64_t max, Integer* out) {
    if (const auto* value = Find(name, needed)) {
      if (!value->is_number_unsigned() || value->get<uint64_t>() < min || value->get<uint64_t>() > max) {
        return Refuse(Cat("\"", name, "\" must be a whole number from ", min, " to ", max, ", not ", value->dump()));
      }
      *out = static_cast<Integer>(value->get<uint64_t>());
    }
  }
  void Real(const char* name, double* out) {
    if (const auto* value = Find(name, false)) {
      if (!value->is_number()) return Refuse(Cat("\"", name, "\" must be a number, not ", value->dump()));
      *out = value->get<double>();
    }
  }
  /// The field as it is, or nullptr.
  const nlohmann::json* Find(const char* name, bool needed) {
    known_.emplace_back(name);
    if (!object_.is_object()) return nullptr;
    const auto found = object_.find(name);
    if (found != object_.end()) return &*found;
    if (needed) Refuse(Cat("has no \"", name, "\""));
    return nullptr;
  }
  void Refuse(std::string_view why) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(Cat(where_, ": ", why));
  }
  /// Also complains of fields that nobody asked for.
  absl::Status status() {
    for (auto field = object_.begin(); object_.is_object() && field != object_.end(); ++field) {
      if (std::find(known_.begin(), known_.end(), field.key()) != known_.end()) continue;
      const std::string_view near = Nearest(field.key(), known_);
      Refuse(Cat("unknown field \"", field.key(), "\"",
                 near.empty() ? Cat("; there are ", Join(known_, ", ")) : Cat("; did you mean \"", near, "\"?")));
    }
    return status_;
  }

 private:
  const nlohmann::json& object_;
  std::string where_;
  std::vector<std::string> known_;
  absl::Status status_;
};

/// The document, or InvalidArgument with the place of the mistake.
inline absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view where) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    const auto line = 1 + std::count(text.begin(), text.begin() + std::min(error.byte, text.size()), '\n');
    return absl::InvalidArgumentError(Cat(where, " is not JSON: near line ", line, ", byte ", error.byte));
  }
}

}  // namespace kvasir
