// SPDX-License-Identifier: Apache-2.0
// LogSink: where a node's log lines go. A line is one event: a message that is always the same for the same event, and the
// facts of this one as fields. So lines can be counted, searched and rate-limited by their message.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace kvasir {

enum class Severity : uint8_t { kInfo, kWarning, kError };

struct LogField {
  LogField(std::string_view k, std::string v) : key(k), value(std::move(v)) {}
  LogField(std::string_view k, const char* v) : key(k), value(v) {}
  LogField(std::string_view k, std::integral auto v) : key(k), value(std::to_string(v)) {}
  std::string_view key;  ///< a word; lives as long as the call
  std::string value;
};

/// " key=value other=\"two words\"": values with blanks, quotes or nothing in them are quoted. Control characters stay.
std::string KeyValues(std::span<const LogField> fields);

/// Called from any thread of the node. An empty one swallows everything.
class LogSink {
 public:
  using Fields = std::span<const LogField>;

  LogSink() = default;
  template <std::invocable<Severity, const std::string&, Fields> Sink>
  LogSink(Sink sink) : sink_(std::move(sink)) {}
  /// A sink for words alone gets the fields behind the message.
  template <std::invocable<Severity, const std::string&> Sink>
  LogSink(Sink sink)
      : sink_([sink = std::move(sink)](Severity severity, const std::string& message, Fields fields) {
          sink(severity, message + KeyValues(fields));
        }) {}

  void operator()(Severity severity, const std::string& message, std::initializer_list<LogField> fields = {}) const {
    (*this)(severity, message, Fields(fields.begin(), fields.size()));
  }
  void operator()(Severity severity, const std::string& message, Fields fields) const {
    if (sink_) sink_(severity, message, fields);
  }
  explicit operator bool() const { return static_cast<bool>(sink_); }

 private:
  std::function<void(Severity, const std::string&, Fields)> sink_;
};

}  // namespace kvasir
