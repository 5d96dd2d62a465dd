// SPDX-License-Identifier: Apache-2.0
// Scales, axes, lines and a legend.
#include "deploy/kvasir/svg.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "deploy/text.h"
#include "transport/check.h"

namespace kvasir {
namespace {

constexpr double kWidth = 1000, kHeight = 520;
constexpr double kLeft = 84, kRight = 28, kTop = 104, kBottom = 64;
constexpr double kLegendWidth = 26;   ///< of a swatch and its gap
constexpr double kLetterWidth = 6.9;  ///< of the 13 px sans serif, about; only the legend depends on it
constexpr int kLinearTicks = 8;

constexpr std::string_view kStyle = R"(
svg { --ink: #1b1e23; --soft: #626a75; --page: #fcfcfb; --line: #dcdfe3;
  --c0: #3b6fb6; --c1: #c9822b; --c2: #2f9183; --c3: #8a63b8; --c4: #b3261e; --c5: #1a7f4b; }
@media (prefers-color-scheme: dark) { svg { --ink: #e6e8eb; --soft: #9aa2ad; --page: #16181b; --line: #33383f;
  --c0: #6d9fe3; --c1: #e0a75c; --c2: #56b8aa; --c3: #b293dd; --c4: #f2867f; --c5: #5cc98f; } }
text { fill: var(--ink); font: 13px system-ui, -apple-system, "Segoe UI", "Liberation Sans", "DejaVu Sans", sans-serif; }
.page { fill: var(--page); } .title { font-size: 17px; font-weight: 650; } .soft { fill: var(--soft); }
.tick { fill: var(--soft); font-size: 12px; } .x { text-anchor: middle; } .y { text-anchor: end; }
.grid { stroke: var(--line); } polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.reference { stroke: var(--soft); stroke-dasharray: 6 5; } circle.reference { fill: var(--soft); stroke-dasharray: none; }
)";

std::string Number(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4g", value);
  return text.data();
}
/// A coordinate: a tenth of a pixel is enough.
std::string At(double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f", value);
  return text.data();
}
std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// From values to pixels along one axis.
struct Scale {
  Scale(double low, double high, bool log, double from, double to)
      : ticks(AxisTicks(low, high, log)), log_(log), from_(from), to_(to) {}
  double operator()(double value) const {
    const double begin = Along(ticks.front()), end = Along(ticks.back());
    return from_ + (to_ - from_) * (Along(value) - begin) / (end - begin);
  }
  const std::vector<double> ticks;

 private:
  double Along(double value) const { return log_ ? std::log10(value) : value; }
  const bool log_;
  const double from_, to_;
};

Scale ScaleOf(const Chart& chart, bool of_x) {
  double low = 1e300, high = -1e300;
  const bool log = of_x ? chart.log_x : chart.log_y;
  for (const Series& series : chart.series) {
    for (const auto& [x, y] : series.points) {
      KVASIR_CHECK(!log || (of_x ? x : y) > 0, "a logarithm needs a number above 0");
      low = std::min(low, of_x ? x : y);
      high = std::max(high, of_x ? x : y);
    }
  }
  if (low > high) low = high = 1;
  if (!log && !of_x) low = std::min(low, chart.y_from);
  return of_x ? Scale(low, high, log, kLeft, kWidth - kRight) : Scale(low, high, log, kHeight - kBottom, kTop);
}

void DrawAxes(const Chart& chart, const Scale& x, const Scale& y, std::string* out) {
  for (const double tick : x.ticks) {
    *out += Cat("<line class=\"grid\" x1=\"", At(x(tick)), "\" x2=\"", At(x(tick)), "\" y1=\"", At(kTop), "\" y2=\"",
                At(kHeight - kBottom), "\"/><text class=\"tick x\" x=\"", At(x(tick)), "\" y=\"",
                At(kHeight - kBottom + 18), "\">", Number(tick), "</text>\n");
  }
  for (const double tick : y.ticks) {
    *out += Cat("<line class=\"grid\" x1=\"", At(kLeft), "\" x2=\"", At(kWidth - kRight), "\" y1=\"", At(y(tick)),
                "\" y2=\"", At(y(tick)), "\"/><text class=\"tick y\" x=\"", At(kLeft - 8), "\" y=\"", At(y(tick) + 4),
                "\">", Number(tick), "</text>\n");
  }
  *out += Cat("<text class=\"tick x\" x=\"", At((kLeft + kWidth - kRight) / 2), "\" y=\"", At(kHeight - 16), "\">",
              Escaped(chart.x_label), "</text>\n<text class=\"tick\" x=\"", At(kLeft), "\" y=\"", At(kTop - 12), "\">",
              Escaped(chart.y_label), "</text>\n");
}

/// How a series is painted: its class, and its colour where it has one.
std::string Paint(const Series& series, size_t index, std::string_view what) {
  return series.reference ? "class=\"reference\"" : Cat("style=\"", what, ": var(--c", index, ")\"");
}

void DrawSeries(const Series& series, size_t index, const Scale& x, const Scale& y, std::string* out) {
  *out += Cat("<polyline ", Paint(series, index, "stroke"), " points=\"");
  for (const auto& [at, value] : series.points) *out += Cat(At(x(at)), ",", At(y(value)), " ");
  *out += "\"/>\n";
  for (const auto& [at, value] : series.points) {
    *out += Cat("<circle ", Paint(series, index, "fill"), " cx=\"", At(x(at)), "\" cy=\"", At(y(value)), "\" r=\"",
                series.reference ? "2" : "3.5", "\"><title>", Escaped(series.name), ": ", Number(value), " at ",
                Number(at), "</title></circle>\n");
  }
}

void DrawLegend(const Chart& chart, std::string* out) {
  double left = kLeft;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const Series& series = chart.series[i];
    *out += Cat("<polyline ", Paint(series, i, "stroke"), " points=\"", At(left), ",69 ", At(left + 18),
                ",69\"/><text x=\"", At(left + kLegendWidth), "\" y=\"73\">", Escaped(series.name), "</text>\n");
    left += kLegendWidth + kLetterWidth * static_cast<double>(series.name.size()) + 24;
  }
}

std::vector<double> LogTicks(double low, double high) {
  const bool powers_only = std::log10(high / low) > 3;
  std::vector<double> ticks;
  for (int power = static_cast<int>(std::floor(std::log10(low))); power <= std::ceil(std::log10(high)); ++power) {
    for (const int digit : {1, 2, 5}) {
      if (digit == 1 || !powers_only) ticks.push_back(digit * std::pow(10, power));
    }
  }
  // Those that are needed: the last one not above `low` to the first one not below `high`.
  constexpr double kSlack = 1e-9;
  while (ticks.size() > 2 && ticks[1] <= low * (1 + kSlack)) ticks.erase(ticks.begin());
  while (ticks.size() > 2 && ticks[ticks.size() - 2] >= high * (1 - kSlack)) ticks.pop_back();
  return ticks;
}

}  // namespace

std::vector<double> AxisTicks(double low, double high, bool log) {
  KVASIR_CHECK(low <= high && (!log || low > 0), "an axis runs from low to high");
  if (log) return LogTicks(low, high);
  if (low == high) high = low + 1;
  double step = std::pow(10, std::floor(std::log10((high - low) / kLinearTicks)));
  for (const double factor : {2.0, 2.5, 2.0}) {  // 1, 2, 5, 10 of that power
    if ((high - low) / step > kLinearTicks) step *= factor;
  }
  std::vector<double> ticks;
  for (double i = std::floor(low / step + 1e-9); ticks.empty() || ticks.back() < high - step * 1e-9; ++i)
    ticks.push_back(i * step);
  return ticks;
}

std::string DrawSvg(const Chart& chart) {
  KVASIR_CHECK(chart.series.size() <= kSeriesMax, "more lines than colours");
  const Scale x = ScaleOf(chart, true), y = ScaleOf(chart, false);
  std::string out = Cat("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 ", At(kWidth), " ", At(kHeight),
                        "\" role=\"img\" aria-label=\"", Escaped(chart.title), "\">\n<style>", kStyle,
                        "</style>\n<rect class=\"page\" width=\"100%\" height=\"100%\"/>\n");
  out += Cat("<text class=\"title\" x=\"", At(kLeft), "\" y=\"28\">", Escaped(chart.title),
             "</text>\n<text class=\"soft\" x=\"", At(kLeft), "\" y=\"48\">", Escaped(chart.subtitle), "</text>\n");
  DrawLegend(chart, &out);
  DrawAxes(chart, x, y, &out);
  for (size_t i = 0; i < chart.series.size(); ++i) DrawSeries(chart.series[i], i, x, y, &out);
  return out + "</svg>\n";
}

}  // namespace kvasir
