// SPDX-License-Identifier: Apache-2.0
// A hundred lines instead of a logging library: Kvasir writes a line for what an operator should know, not for each
// request.
#include "deploy/log.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <iterator>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "deploy/text.h"
#include "transport/sync.h"

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

/// What the copies of a sink share.
class Log {
 public:
  explicit Log(LogOptions options) : options_(std::move(options)) {}
  ~Log() { TellRepeats(Instant::max()); }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  void Take(Severity severity, const std::string& message, LogSink::Fields fields) {
    if (severity < options_.level) return;
    const Instant now = options_.clock ? options_.clock() : std::chrono::steady_clock::now();
    TellRepeats(now);
    if (IsOneTooMany(severity, message, now)) return;
    Write(severity, message, fields);
  }

 private:
  struct Repeats {
    Severity severity = Severity::kInfo;
    Instant begun{};
    uint32_t count = 0;  ///< in the window
  };

  /// Counts it, too.
  bool IsOneTooMany(Severity severity, const std::string& message, Instant now) {
    MutexLock lock(mutex_);
    const auto known = repeats_.find(message);
    if (known == repeats_.end()) {
      if (repeats_.size() < kMessagesTracked) repeats_[message] = {severity, now, 1};
      return false;
    }
    known->second.severity = std::max(known->second.severity, severity);
    return ++known->second.count > kRepeatsMax;
  }

  /// For every window that is over by `now`: how many lines were left out.
  void TellRepeats(Instant now) {
    std::vector<std::pair<std::string, Repeats>> over;
    {
      MutexLock lock(mutex_);
      for (auto at = repeats_.begin(); at != repeats_.end();) {
        const bool ended = now == Instant::max() || now - at->second.begun >= kRepeatWindow;
        if (ended && at->second.count > kRepeatsMax) over.emplace_back(at->first, at->second);
        at = ended ? repeats_.erase(at) : std::next(at);
      }
    }
    for (const auto& [message, repeats] : over) {
      const LogField count[] = {{"repeated", repeats.count - kRepeatsMax}};
      Write(repeats.severity, message, count);
    }
  }

  void Write(Severity severity, const std::string& message, LogSink::Fields fields) {
    const std::string_view level = kNames[static_cast<size_t>(severity)];
    std::string line;
    if (options_.json) {
      line = Cat(R"({"time":")", TimeNow(), R"(","level":")", level, R"(","node":")", Escape(options_.node, true),
                 R"(","message":")", Escape(message, true), "\"");
      for (const LogField& field : fields) line += Cat(",\"", field.key, "\":\"", Escape(field.value, true), "\"");
      line += "}\n";
    } else {
      const std::string facts = KeyValues(fields);
      line = Cat(TimeNow(), "  ", level, std::string(9 - level.size(), ' '), Escape(message, false), facts.empty() ? "" : " ",
                 Escape(facts, false), "\n");
    }
    std::fwrite(line.data(), 1, line.size(), options_.out);  // one call holds the stream's lock: lines stay whole
    std::fflush(options_.out);
  }

  const LogOptions options_;
  Mutex mutex_;
  std::map<std::string, Repeats> repeats_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

LogSink MakeLog(LogOptions options) {
  return [log = std::make_shared<Log>(std::move(options))](Severity severity, const std::string& message, LogSink::Fields fields) {
    log->Take(severity, message, fields);
  };
}

absl::StatusOr<Severity> ParseSeverity(std::string_view text) {
  for (size_t i = 0; i < kNames.size(); ++i) {
    if (text == kNames[i]) return static_cast<Severity>(i);
  }
  return absl::InvalidArgumentError(Cat("'", text, "' is not a log level. Write info, warning or error"));
}

}  // namespace kvasir
