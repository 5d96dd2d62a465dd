// SPDX-License-Identifier: Apache-2.0
// Tables, units and progress bars. Standard library only, so that any program of the house may use it.
#include "deploy/term.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

namespace kvasir {
namespace {

constexpr std::chrono::milliseconds kRedrawPause{100};
constexpr size_t kGap = 2;              ///< blanks between columns
constexpr size_t kLastColumnsMin = 20;  ///< a last column is never made narrower than this

std::string Format(const char* format, double value, const char* unit) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, value, unit);
  return text.data();
}

/// Three significant digits below 1000, whole numbers above.
std::string Scaled(double value, const char* unit) {
  if (value < 9.995) return Format("%.2f %s", value, unit);
  if (value < 99.95) return Format("%.1f %s", value, unit);
  return Format("%.0f %s", value, unit);
}

/// "12", "1.5 GiB", "97%", "8/8", "3m 20s", "-", ""; not "127.0.0.1:7070", "0.1.0" or "3f09ab".
bool Numeric(std::string_view cell) {
  if (cell.empty() || cell == "-") return true;
  const size_t end = std::min(cell.find_first_not_of("0123456789."), cell.size());
  const std::string_view number = cell.substr(0, end), rest = cell.substr(end);
  if (number.empty() || number.front() == '.' || std::count(number.begin(), number.end(), '.') > 1) return false;
  if (rest.empty() || rest.front() == ' ' || rest == "%" || rest.front() == '/') return true;
  return rest.size() > 1 && rest[1] == ' ' && std::string_view("dhm").find(rest[0]) != std::string_view::npos;
}

}  // namespace

std::string HumanBytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  if (bytes < 1024) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return Format("%.1f %s", value, kUnits[unit]);
}

std::string HumanRate(double bytes_per_second) {
  static constexpr const char* kUnits[] = {"B/s", "kB/s", "MB/s", "GB/s", "TB/s"};
  size_t unit = 0;
  while (bytes_per_second >= 999.5 && unit + 1 < std::size(kUnits)) {
    bytes_per_second /= 1000;
    ++unit;
  }
  return Scaled(bytes_per_second, kUnits[unit]);
}

std::string HumanCount(double count) {
  if (count < 999.5) return std::to_string(std::llround(count));
  static constexpr const char* kUnits[] = {"", "k", "M", "G", "T"};
  size_t unit = 0;
  while (count >= 999.5 && unit + 1 < std::size(kUnits)) {
    count /= 1000;
    ++unit;
  }
  return Scaled(count, kUnits[unit]);
}

std::string HumanDuration(std::chrono::nanoseconds duration) {
  const double ns = static_cast<double>(duration.count());
  if (ns < 999.5) return std::to_string(duration.count()) + " ns";
  if (ns < 999.5e3) return Scaled(ns / 1e3, "us");
  if (ns < 999.5e6) return Scaled(ns / 1e6, "ms");
  const auto seconds = static_cast<long long>(ns / 1e9);
  if (seconds < 60) return Scaled(ns / 1e9, "s");
  std::array<char, 64> text{};
  if (seconds < 3600) {
    std::snprintf(text.data(), text.size(), "%lldm %02llds", seconds / 60, seconds % 60);
  } else if (seconds < 86400) {
    std::snprintf(text.data(), text.size(), "%lldh %02lldm", seconds / 3600, seconds % 3600 / 60);
  } else {
    std::snprintf(text.data(), text.size(), "%lldd %02lldh", seconds / 86400, seconds % 86400 / 3600);
  }
  return text.data();
}

size_t DisplayWidth(std::string_view utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string Wrap(std::string_view text, size_t width) {
  std::string out;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line(text.substr(begin, end - begin));
    const std::string indent(std::min(line.find_first_not_of(' '), line.size()), ' ');
    while (line.size() > width) {
      size_t cut = line.rfind(' ', width);
      if (cut == std::string::npos || cut <= indent.size()) cut = line.find(' ', width);
      if (cut == std::string::npos) break;
      out += line.substr(0, cut) + "\n";
      line = indent + line.substr(cut + 1);
    }
    out += line;
    if (end < text.size()) out.push_back('\n');
    begin = end + 1;
  }
  return out;
}

void Table::Row(std::vector<std::string> cells) {
  if (cells.size() != columns_.size()) std::abort();
  rows_.push_back(std::move(cells));
}

std::string Table::Text(size_t columns) const {
  std::vector<size_t> widths;
  std::vector<bool> right;
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t width = DisplayWidth(columns_[c]);
    bool numeric = !rows_.empty();
    for (const auto& row : rows_) {
      width = std::max(width, DisplayWidth(row[c]));
      numeric = numeric && Numeric(row[c]);
    }
    widths.push_back(width);
    right.push_back(numeric);
  }
  size_t before_last = 0;
  for (size_t c = 0; c + 1 < widths.size(); ++c) before_last += widths[c] + kGap;
  const size_t last_columns = columns > before_last + kLastColumnsMin ? columns - before_last : kLastColumnsMin;
  std::string text;
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string out;
    for (size_t c = 0; c < cells.size(); ++c) {
      const std::string blanks(widths[c] - DisplayWidth(cells[c]), ' ');
      if (c > 0) out.append(kGap, ' ');
      if (c + 1 == cells.size() && !right[c]) {
        for (const char letter : Wrap(cells[c], last_columns)) {
          out.push_back(letter);
          if (letter == '\n') out.append(before_last, ' ');
        }
      } else {
        out += right[c] ? blanks + cells[c] : cells[c] + blanks;
      }
    }
    out.erase(out.find_last_not_of(' ') + 1);
    text += out + "\n";
  };
  line(columns_);
  for (const auto& row : rows_) line(row);
  return text;
}

Progress::Progress(std::string what, uint64_t total, Unit unit, Options options)
    : what_(std::move(what)), total_(total), unit_(unit), options_(std::move(options)) {
  if (!options_.clock) options_.clock = [] { return std::chrono::steady_clock::now(); };
  terminal_ = options_.terminal < 0 ? isatty(fileno(options_.out)) != 0 : options_.terminal == 1;
  begun_ = options_.clock();
  done_ = options_.done;
  total_ = std::max(total_, done_);
  tenths_drawn_ = total_ == 0 ? 0 : done_ * 10 / total_;
  Draw(begun_, {}, false);
}

void Progress::Set(uint64_t done) {
  done_ = std::max(done_, done);
  total_ = std::max(total_, done_);
  if (finished_) return;
  const Instant now = options_.clock();
  if (terminal_) {
    if (now - drawn_ >= kRedrawPause) Draw(now, {}, false);
    return;
  }
  const uint64_t tenths = total_ == 0 ? 10 : done_ * 10 / total_;
  if (tenths > tenths_drawn_ && tenths < 10) {
    tenths_drawn_ = tenths;
    Draw(now, {}, false);
  }
}

void Progress::Finish(std::string_view note) {
  if (finished_) return;
  finished_ = true;
  Draw(options_.clock(), note, true);
}

std::string Progress::Amount(uint64_t value) const {
  return unit_ == Unit::kBytes ? HumanBytes(value) : std::to_string(value);
}

std::string Progress::Line(Instant now, std::string_view note) const {
  const double share = total_ == 0 ? 1.0 : static_cast<double>(done_) / static_cast<double>(total_);
  const double seconds = std::chrono::duration<double>(now - begun_).count();
  std::string line = what_ + "  ";
  if (terminal_) {
    const auto full = static_cast<size_t>(share * kBarColumns);
    line.append("[").append(full, '#').append(kBarColumns - full, '-').append("] ");
  }
  line += Format("%.0f%s", std::floor(share * 100), "%") + "  " + Amount(done_) + " of " + Amount(total_);
  if (!note.empty()) return line.append("  ").append(note);
  if (done_ <= options_.done || seconds <= 0) return line;
  const double rate = static_cast<double>(done_ - options_.done) / seconds;
  line += "  " + (unit_ == Unit::kBytes ? HumanRate(rate) : HumanCount(rate) + "/s");
  const double left = static_cast<double>(total_ - done_) / rate;
  if (!finished_ && left >= 1) {
    line += "  " + HumanDuration(std::chrono::seconds(std::llround(std::min(left, 1e9)))) + " left";
  }
  return line;
}

void Progress::Draw(Instant now, std::string_view note, bool last) {
  drawn_ = now;
  std::string line = Line(now, note);
  const size_t columns = DisplayWidth(line);
  if (terminal_) {
    if (columns < columns_drawn_) line.append(columns_drawn_ - columns, ' ');
    columns_drawn_ = columns;
    line.insert(line.begin(), '\r');
  }
  if (!terminal_ || last) line.push_back('\n');
  std::fputs(line.c_str(), options_.out);
  std::fflush(options_.out);
}

}  // namespace kvasir
