// SPDX-License-Identifier: Apache-2.0
// Fields as words.
#include "store/api/log_sink.h"

#include <algorithm>

namespace kvasir {
namespace {

bool IsPlain(char c) { return static_cast<unsigned char>(c) > 0x20 && c != 0x7f && c != '"' && c != '='; }

/// What the text form escapes later (control characters) stays as it is here.
std::string Quoted(const std::string& value) {
  if (!value.empty() && std::all_of(value.begin(), value.end(), IsPlain)) return value;
  std::string out = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out + "\"";
}

}  // namespace

std::string KeyValues(std::span<const LogField> fields) {
  std::string text;
  for (const LogField& field : fields) text.append(" ").append(field.key).append("=").append(Quoted(field.value));
  return text;
}

}  // namespace kvasir
