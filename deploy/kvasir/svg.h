// SPDX-License-Identifier: Apache-2.0
// Line charts as SVG: one file that needs nothing else, light or dark as the reader's screen is, in the style of the
// demo's report.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace kvasir {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  ///< ascending in x
  bool reference = false;                         ///< drawn dashed and soft: what the others are held against
};
struct Chart {
  std::string title, subtitle;
  std::string x_label, y_label;
  bool log_x = false, log_y = false;  ///< REQUIRES where set: coordinates above 0
  double y_from = 0;                  ///< a linear y axis shows this value too
  std::vector<Series> series;         ///< at most kSeriesMax
};
inline constexpr size_t kSeriesMax = 6;  ///< colours that can be told apart

/// The whole file. Axes begin and end at round numbers; every point says its values when pointed at.
std::string DrawSvg(const Chart& chart);

/// Where an axis is labelled from `low` to `high`: 1, 2 or 5 times a power of ten, four to ten of them (linear; low may
/// be 0), or 1, 2, 5 of each decade (log; only the powers where there are more than three decades). The first is not
/// above `low`, the last not below `high`.
std::vector<double> AxisTicks(double low, double high, bool log);

}  // namespace kvasir
