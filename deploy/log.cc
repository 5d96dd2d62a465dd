// SPDX-License-Identifier: Apache-2.0
// Forty lines instead of a logging library: Kvasir writes a line for what an operator should know, not for each
// request.
#include "deploy/log.h"

#include <array>
#include <ctime>

#include "deploy/text.h"

namespace kvasir {
namespace {

constexpr std::array<std::string_view, 3> kNames = {"info", "warning", "error"};

/// UTC with milliseconds: the same on every node, sortable as text. People and other logs read it; nothing is decided
/// by it.
std::string TimeNow() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  std::tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  std::array<char, 64> text{};
  const size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text.data() + length, text.size() - length, ".%03ldZ", now.tv_nsec / 1'000'000);
  return text.data();
}

/// `\u00NN` within JSON, `\xNN` in words; quotes and backslashes are escaped in JSON only.
std::string Escape(std::string_view text, bool json) {
  std::string out;
  for (const char c : text) {
    std::array<char, 8> code{};
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      std::snprintf(code.data(), code.size(), json ? "\\u%04x" : "\\x%02x", static_cast<unsigned>(c));
      out += code.data();
    } else {
      if (json && (c == '"' || c == '\\')) out.push_back('\\');
      out.push_back(c);
    }
  }
  return out;
}

}  // namespace

LogSink MakeLog(LogOptions options) {
  return [options = std::move(options)](Severity severity, const std::string& message) {
    if (severity < options.level) return;
    const std::string_view level = kNames[static_cast<size_t>(severity)];
    const std::string line =
        options.json ? Cat(R"({"time":")", TimeNow(), R"(","level":")", level, R"(","node":")",
                           Escape(options.node, true), R"(","message":")", Escape(message, true), "\"}\n")
                     : Cat(TimeNow(), "  ", level, std::string(9 - level.size(), ' '), Escape(message, false), "\n");
    std::fwrite(line.data(), 1, line.size(), options.out);  // one call holds the stream's lock: lines stay whole
    std::fflush(options.out);
  };
}

absl::StatusOr<Severity> ParseSeverity(std::string_view text) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (text == kNames[i]) return static_cast<Severity>(i);
  }
  return absl::InvalidArgumentError(Cat("'", text, "' is not a log level. Write info, warning or error"));
}

}  // namespace kvasir
