// SPDX-License-Identifier: Apache-2.0
// Cat, Join, Split, Trim, ParseNumber over std::string_view: Debian builds Abseil with a string_view of its own, which
// absl::StrCat cannot mix with the standard one.
#pragma once

#include <algorithm>
#include <charconv>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/string_view.h"

namespace kvasir {

inline std::string_view TextOf(std::string_view text) { return text; }
inline std::string_view TextOf(absl::string_view text) { return {text.data(), text.size()}; }
inline std::string_view TextOf(const std::string& text) { return text; }
inline std::string_view TextOf(const char* text) { return text; }
std::string TextOf(std::integral auto number) { return std::to_string(number); }

/// All arguments one after the other: texts as they are, integers in decimal.
template <class... Pieces>
std::string Cat(const Pieces&... pieces) {
  std::string out;
  (out.append(TextOf(pieces)), ...);
  return out;
}

inline std::string Join(const std::vector<std::string>& words, std::string_view between) {
  std::string out;
  for (const std::string& word : words) out.append(out.empty() ? "" : between).append(word);
  return out;
}

/// "1 node", "3 nodes".
inline std::string Counted(uint64_t count, std::string_view noun) {
  return Cat(count, " ", noun, count == 1 ? "" : "s");
}

/// Without blanks at both ends.
inline std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t begin = text.find_first_not_of(kBlanks);
  return begin == std::string_view::npos ? "" : text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

inline std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

/// The pieces between `separator`s, blanks trimmed, empty ones left out.
inline std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (const std::string_view piece = Trim(text.substr(0, end)); !piece.empty()) pieces.emplace_back(piece);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return pieces;
}

/// True when the whole of `text` is a number that fits.
template <class Number>
bool ParseNumber(std::string_view text, Number* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace kvasir
