// SPDX-License-Identifier: Apache-2.0
// Goal: what people read is aligned, short and true. Method: exact texts; a stepped clock and a file for progress.
#include "deploy/term.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <string>

namespace kvasir {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(Human, Bytes) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1024), "1.0 KiB");
  EXPECT_EQ(HumanBytes(1536), "1.5 KiB");
  EXPECT_EQ(HumanBytes((1u << 20) - 1), "1.0 MiB");
  EXPECT_EQ(HumanBytes(2ull << 30), "2.0 GiB");
  EXPECT_EQ(HumanBytes(~0ull), "16.0 EiB");
}

TEST(Human, RatesCountsAndTimes) {
  EXPECT_EQ(HumanRate(0), "0.00 B/s");
  EXPECT_EQ(HumanRate(1.234e9), "1.23 GB/s");
  EXPECT_EQ(HumanRate(999.6e6), "1.00 GB/s");
  EXPECT_EQ(HumanCount(950), "950");
  EXPECT_EQ(HumanCount(12345), "12.3 k");
  EXPECT_EQ(HumanDuration(nanoseconds(850)), "850 ns");
  EXPECT_EQ(HumanDuration(nanoseconds(12'300)), "12.3 us");
  EXPECT_EQ(HumanDuration(milliseconds(250)), "250 ms");
  EXPECT_EQ(HumanDuration(milliseconds(1250)), "1.25 s");
  EXPECT_EQ(HumanDuration(seconds(200)), "3m 20s");
  EXPECT_EQ(HumanDuration(seconds(7500)), "2h 05m");
  EXPECT_EQ(HumanDuration(seconds(3 * 86400 + 4 * 3600)), "3d 04h");
}

TEST(Table, AlignsTextLeftAndNumbersRight) {
  Table table({"tier", "used", "state"});
  table.Row({"dram", "1.5 GiB", "ok"});
  table.Row({"ssd", "12.0 GiB", "read-only"});
  table.Row({"gpu", "-", ""});
  EXPECT_EQ(table.Text(),
            "tier      used  state\n"
            "dram   1.5 GiB  ok\n"
            "ssd   12.0 GiB  read-only\n"
            "gpu          -\n");
}

TEST(Table, CountsCodePointsNotBytes) {
  Table table({"name", "x"});
  table.Row({"\u00e9\u00e8", "a"});
  table.Row({"abcd", "b"});
  EXPECT_EQ(table.Text(), "name  x\n\u00e9\u00e8    a\nabcd  b\n");
}

TEST(Table, WithoutRowsIsItsHeading) { EXPECT_EQ(Table({"key", "bytes"}).Text(), "key  bytes\n"); }

TEST(Wrap, BreaksAtBlanksAndKeepsIndents) {
  EXPECT_EQ(Wrap("", 10), "");
  EXPECT_EQ(Wrap("one two three", 8), "one two\nthree");
  EXPECT_EQ(Wrap("  one two three", 9), "  one two\n  three");
  EXPECT_EQ(Wrap("a\n\nb", 8), "a\n\nb");
  EXPECT_EQ(Wrap("unbreakable word", 4), "unbreakable\nword");
}

/// A Progress that writes into a file, on a clock that the test steps.
class ProgressTest : public ::testing::Test {
 protected:
  ProgressTest() : file_(std::tmpfile(), &std::fclose) {}
  Progress::Options Options(bool terminal) {
    return {.out = file_.get(), .terminal = terminal ? 1 : 0, .clock = [this] { return now_; }};
  }
  std::string Written() {
    std::string text(static_cast<size_t>(std::ftell(file_.get())), '\0');
    std::rewind(file_.get());
    EXPECT_EQ(std::fread(text.data(), 1, text.size(), file_.get()), text.size());
    return text;
  }
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  std::chrono::steady_clock::time_point now_{};
};

TEST_F(ProgressTest, PlainLinesAtTenths) {
  Progress progress("verify", 100, Progress::Unit::kCount, Options(false));
  for (int i = 1; i <= 25; ++i) {
    now_ += milliseconds(100);
    progress.Set(static_cast<uint64_t>(i));
  }
  progress.Finish("stopped");
  EXPECT_EQ(Written(),
            "verify  0%  0 of 100\n"
            "verify  10%  10 of 100  10/s  9.00 s left\n"
            "verify  20%  20 of 100  10/s  8.00 s left\n"
            "verify  25%  25 of 100  stopped\n");
}

TEST_F(ProgressTest, TerminalRedrawsOneLineAndCoversTheLast) {
  Progress progress("push", 4096, Progress::Unit::kBytes, Options(true));
  now_ += milliseconds(50);
  progress.Set(1024);  // too soon to draw
  now_ += milliseconds(950);
  progress.Set(2048);
  progress.Set(4096);
  progress.Finish("done");
  progress.Finish();
  const std::string written = Written();
  EXPECT_EQ(written.find('\n'), written.size() - 1);
  EXPECT_EQ(std::count(written.begin(), written.end(), '\r'), 3);
  EXPECT_NE(written.find("\rpush  [############------------] 50%  2.0 KiB of 4.0 KiB  2.05 kB/s  1.00 s left"),
            std::string::npos)
      << written;
  EXPECT_NE(written.find("[########################] 100%  4.0 KiB of 4.0 KiB  done "), std::string::npos) << written;
}

TEST_F(ProgressTest, WorkDoneBeforeIsNoPartOfTheRateAndTotalsGrow) {
  Progress::Options options = Options(false);
  options.done = 50;
  Progress progress("resume", 100, Progress::Unit::kCount, options);
  now_ += milliseconds(1000);
  progress.Set(60);
  progress.SetTotal(200);
  now_ += milliseconds(1000);
  progress.Set(180);
  progress.Finish("done");
  EXPECT_EQ(Written(),
            "resume  50%  50 of 100\n"
            "resume  60%  60 of 100  10/s  4.00 s left\n"
            "resume  90%  180 of 200  65/s\n"
            "resume  90%  180 of 200  done\n");
}

TEST_F(ProgressTest, NothingToDoIsDone) {
  { Progress progress("empty", 0, Progress::Unit::kCount, Options(false)); }
  EXPECT_EQ(Written(), "empty  100%  0 of 0\nempty  100%  0 of 0\n");
}

}  // namespace
}  // namespace kvasir
