// SPDX-License-Identifier: Apache-2.0
// Goal: a chart is a well-formed file whose points lie where their values say. Method: a small reader of tags;
// coordinates compared with those of the axes.
#include "deploy/kvasir/svg.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace kvasir {
namespace {

using Ticks = std::vector<double>;

TEST(AxisTicks, Linear) {
  EXPECT_EQ(AxisTicks(0, 8, false), (Ticks{0, 1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(AxisTicks(0, 1000, false), (Ticks{0, 200, 400, 600, 800, 1000}));
  EXPECT_EQ(AxisTicks(0, 0, false).size(), 6u) << "a flat line has an axis too";
  for (const double high : {0.013, 1.58, 9.99, 77.0, 123456.0}) {
    const Ticks ticks = AxisTicks(0, high, false);
    EXPECT_GE(ticks.size(), 4u) << high;
    EXPECT_LE(ticks.size(), 10u) << high;
    EXPECT_GE(ticks.back(), high * (1 - 1e-9));
  }
  EXPECT_LE(AxisTicks(1, 1.58, false).front(), 1.0);
}

TEST(AxisTicks, Logarithmic) {
  EXPECT_EQ(AxisTicks(3, 1000, true), (Ticks{2, 5, 10, 20, 50, 100, 200, 500, 1000}));
  EXPECT_EQ(AxisTicks(1, 100'000, true), (Ticks{1, 10, 100, 1000, 10'000, 100'000}));
  const Ticks one = AxisTicks(7, 7, true);
  EXPECT_LE(one.front(), 7);
  EXPECT_GE(one.back(), 7);
  EXPECT_GE(one.size(), 2u);
}

/// Every tag that opens closes, in order; attributes are in quotes.
bool WellFormed(std::string_view text) {
  std::vector<std::string> open;
  for (size_t at = text.find('<'); at != text.npos; at = text.find('<', at)) {
    const size_t end = text.find('>', at);
    if (end == text.npos) return false;
    const std::string_view tag = text.substr(at + 1, end - at - 1);
    if (std::count(tag.begin(), tag.end(), '"') % 2 != 0) return false;
    const std::string name(tag.substr(0, tag.find(' ')));
    if (name.starts_with('/')) {
      if (open.empty() || "/" + open.back() != name) return false;
      open.pop_back();
    } else if (!tag.ends_with('/')) {
      open.push_back(name);
    }
    at = end;
  }
  return open.empty();
}

std::vector<double> ValuesOf(const std::string& svg, const std::string& begin) {
  std::vector<double> values;
  for (size_t at = svg.find(begin); at != svg.npos; at = svg.find(begin, at + 1))
    values.push_back(std::stod(svg.substr(at + begin.size())));
  return values;
}

Chart Small() {
  return {.title = "a < b & \"c\"",
          .subtitle = "",
          .x_label = "nodes",
          .y_label = "share",
          .log_x = true,
          .log_y = false,
          .y_from = 0,
          .series = {{.name = "measured", .points = {{1, 0}, {10, 5}, {100, 10}}},
                     {.name = "ideal", .points = {{1, 10}, {100, 0}}, .reference = true}}};
}

TEST(DrawSvg, IsWellFormedAndEscaped) {
  const std::string svg = DrawSvg(Small());
  EXPECT_TRUE(WellFormed(svg)) << svg;
  EXPECT_NE(svg.find("a &lt; b &amp; &quot;c&quot;"), std::string::npos);
  EXPECT_EQ(svg.find("a < b"), std::string::npos);
  EXPECT_NE(svg.find("<title>measured: 5 at 10</title>"), std::string::npos);
  EXPECT_TRUE(WellFormed(DrawSvg({.title = "empty", .subtitle = "", .x_label = "", .y_label = "", .series = {}})));
}

TEST(DrawSvg, PointsLieWhereTheirValuesSay) {
  const std::string svg = DrawSvg(Small());
  const std::vector<double> x = ValuesOf(svg, " cx=\""), y = ValuesOf(svg, " cy=\"");
  ASSERT_EQ(x.size(), 5u);
  ASSERT_EQ(y.size(), 5u);
  EXPECT_DOUBLE_EQ(x[1] - x[0], x[2] - x[1]) << "a decade is a decade";
  EXPECT_DOUBLE_EQ(y[0] - y[1], y[1] - y[2]) << "linear, and upwards";
  EXPECT_GT(y[0], y[2]);
  EXPECT_EQ(x[3], x[0]);
  EXPECT_EQ(y[3], y[2]);
  for (const double value : x) EXPECT_TRUE(value >= 0 && value <= 1000) << value;
  for (const double value : y) EXPECT_TRUE(value >= 0 && value <= 520) << value;
}

}  // namespace
}  // namespace kvasir
