// SPDX-License-Identifier: Apache-2.0
// PrometheusText: writes metrics in Prometheus' text format 0.0.4. By hand: the format is three kinds of lines, and our numbers
// are atomics already, which a library would have mirrored in objects of its own.
#pragma once

#include <charconv>
#include <concepts>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "deploy/text.h"
#include "store/meters.h"

namespace kvasir {

/// One page. A family is begun once, then its samples follow.
class PrometheusText {
 public:
  using Labels = std::vector<std::pair<std::string_view, std::string>>;
  static constexpr const char* kContentType = "text/plain; version=0.0.4; charset=utf-8";

  /// `type` is counter, gauge or histogram.
  void Family(std::string_view name, std::string_view type, std::string_view help) {
    family_ = name;
    text_ += Cat("# HELP ", name, " ", Escape(help, false), "\n# TYPE ", name, " ", type, "\n");
  }
  void Sample(const Labels& labels, auto value) { Line("", labels, Number(value)); }
  void Sample(const Labels& labels, const Histogram& histogram) {
    const Histogram::Snapshot snapshot = histogram.Read();
    for (size_t i = 0; i < snapshot.cumulative.size(); ++i) {
      Labels with_bound = labels;
      with_bound.emplace_back("le", i < Histogram::kBounds.size() ? Number(Histogram::kBounds[i]) : "+Inf");
      Line("_bucket", with_bound, Number(snapshot.cumulative[i]));
    }
    Line("_sum", labels, Number(snapshot.sum_seconds));
    Line("_count", labels, Number(snapshot.cumulative.back()));
  }
  /// A family of one sample.
  void Gauge(std::string_view name, std::string_view help, auto value) {
    Family(name, "gauge", help);
    Sample({}, value);
  }
  std::string Take() { return std::move(text_); }

 private:
  /// Backslashes and line ends; in values of labels quotes too.
  static std::string Escape(std::string_view text, bool label) {
    std::string out;
    for (const char c : text) {
      if (c == '\\' || (label && c == '"')) out.push_back('\\');
      out += c == '\n' ? std::string("\\n") : std::string(1, c);
    }
    return out;
  }
  static std::string Number(std::integral auto value) { return std::to_string(value); }
  static std::string Number(double value) {
    char text[400];  // the longest double without an exponent is shorter
    const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::fixed).ptr;
    return {text, end};
  }
  void Line(std::string_view suffix, const Labels& labels, const std::string& value) {
    std::string inside;
    for (const auto& [name, label] : labels) inside += Cat(inside.empty() ? "" : ",", name, "=\"", Escape(label, true), "\"");
    text_ += Cat(family_, suffix, inside.empty() ? "" : "{", inside, inside.empty() ? " " : "} ", value, "\n");
  }

  std::string text_;
  std::string family_;
};

}  // namespace kvasir
