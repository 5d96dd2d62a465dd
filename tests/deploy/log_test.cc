// SPDX-License-Identifier: Apache-2.0
// Goal: one whole line an event, whatever is in it; what repeats is counted, not written. Method: a file in place of stderr, a
// clock of the test's own; lines compared.
#include "deploy/log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "deploy/text.h"

namespace kvasir {
namespace {

/// A log into a file.
class Logged {
 public:
  explicit Logged(LogOptions options) {
    options.out = file_;
    options.clock = [this] { return now; };
    log = MakeLog(std::move(options));
  }
  ~Logged() { std::fclose(file_); }
  /// What was written since the last call, by lines, without their time.
  std::vector<std::string> Lines() {
    std::string text(static_cast<size_t>(std::ftell(file_)), '\0');
    std::rewind(file_);
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file_), text.size());
    std::rewind(file_);
    EXPECT_EQ(ftruncate(fileno(file_), 0), 0);
    std::vector<std::string> lines;
    for (const std::string& line : Split(text, '\n')) lines.push_back(line.substr(line.starts_with("{") ? 0 : line.find('Z') + 3));
    return lines;
  }
  LogSink log;
  Instant now{std::chrono::seconds(1000)};

 private:
  std::FILE* const file_ = std::tmpfile();
};

TEST(Log, FieldsFollowTheMessage) {
  Logged logged({});
  logged.log(Severity::kWarning, "not ready", {{"vital", "keeper"}, {"cause", "it \"stands\" still"}, {"count", 3}, {"empty", ""}});
  EXPECT_EQ(logged.Lines(), std::vector<std::string>{
                                R"(warning  not ready  vital=keeper cause="it \"stands\" still" count=3 empty="")"});
}

TEST(Log, LinesAreWholeAndEscaped) {
  Logged words({.level = Severity::kWarning});
  words.log(Severity::kInfo, "hidden");
  words.log(Severity::kWarning, "bell\a", {{"peer", "line\nbreak"}});
  EXPECT_EQ(words.Lines(), std::vector<std::string>{R"(warning  bell\x07  peer="line\x0abreak")"});
}

TEST(Log, JsonHoldsEachFieldByItsName) {
  Logged logged({.json = true, .node = "a\"b"});
  logged.log(Severity::kError, "line\nbreak \\", {{"shard", 3}, {"cause", "quote\" \x01"}});
  const std::vector<std::string> lines = logged.Lines();
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_NE(lines[0].find(R"("level":"error","node":"a\"b","message":"line\u000abreak \\")"), std::string::npos) << lines[0];
  const auto line = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(line["shard"], "3");
  EXPECT_EQ(line["cause"], "quote\" \x01");
}

TEST(Log, RepeatsAreCountedAndToldWhenTheirWindowIsOver) {
  Logged logged({});
  for (uint32_t i = 0; i < kRepeatsMax + 7; ++i) logged.log(Severity::kInfo, "again", {{"i", i}});
  logged.log(Severity::kInfo, "another");
  std::vector<std::string> lines = logged.Lines();
  ASSERT_EQ(lines.size(), kRepeatsMax + 1);
  EXPECT_EQ(lines[kRepeatsMax - 1], Cat("info     again  i=", kRepeatsMax - 1));
  EXPECT_EQ(lines.back(), "info     another");
  logged.now += kRepeatWindow;
  logged.log(Severity::kInfo, "again", {{"i", "new"}});
  lines = logged.Lines();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0], "info     again  repeated=7");
  EXPECT_EQ(lines[1], "info     again  i=new");
}

TEST(Log, WhatWasLeftOutIsToldAtTheEnd) {
  Logged logged({});
  for (uint32_t i = 0; i < kRepeatsMax + 1; ++i) logged.log(i == 0 ? Severity::kError : Severity::kInfo, "again");
  logged.log = LogSink();
  EXPECT_EQ(logged.Lines().back(), "error    again  repeated=1");
  logged.log(Severity::kError, "an empty sink swallows");
  EXPECT_TRUE(logged.Lines().empty());
}

TEST(Log, ASinkForWordsGetsFieldsAsWords) {
  std::string heard;
  const LogSink sink = [&heard](Severity, const std::string& message) { heard = message; };
  sink(Severity::kInfo, "open", {{"parts", 12}});
  EXPECT_EQ(heard, "open parts=12");
}

}  // namespace
}  // namespace kvasir
