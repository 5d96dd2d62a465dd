// SPDX-License-Identifier: Apache-2.0
// What programs show to people: aligned tables, sizes and times in readable units, progress. Results go to stdout;
// progress goes to stderr, as a bar on a terminal and as plain lines elsewhere, so that a pipe stays clean.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace kvasir {

/// "0 B", "512 B", "1.5 KiB", "2.0 GiB": at most four significant digits, binary units.
std::string HumanBytes(uint64_t bytes);
/// "1.23 GB/s": decimal units, as links and disks are sold.
std::string HumanRate(double bytes_per_second);
/// "950", "12.3 k", "4.56 M".
std::string HumanCount(double count);
/// "850 ns", "12.3 us", "4.5 ms", "1.25 s", "3m 20s", "2h 05m", "3d 04h".
std::string HumanDuration(std::chrono::nanoseconds duration);

/// Rows under named columns. A column that holds nothing but numbers, with or without units, is aligned right.
class Table {
 public:
  explicit Table(std::vector<std::string> columns) : columns_(std::move(columns)) {}
  /// REQUIRES: as many cells as columns.
  void Row(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  /// Lines end in '\n', without trailing blanks. With no rows: the heading alone. Where a line would be longer than
  /// `columns`, its last cell goes on below itself.
  std::string Text(size_t columns = SIZE_MAX) const;

 private:
  std::vector<std::string> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// Columns a UTF-8 text takes, one a code point.
size_t DisplayWidth(std::string_view utf8);
/// Breaks at blanks so that no line is longer than `width` bytes (a longer word stays whole). Keeps line breaks that
/// are there; what continues a line that begins with blanks begins with the same blanks.
std::string Wrap(std::string_view text, size_t width);

/// How far a piece of work is. Not thread safe. On a terminal one line, redrawn at most ten times a second; else a line
/// at the start, one at each further tenth of the work and one at the end.
class Progress {
 public:
  enum class Unit : uint8_t { kCount, kBytes };
  using Clock = std::function<std::chrono::steady_clock::time_point()>;
  struct Options {
    std::FILE* out = stderr;
    int terminal = -1;      ///< 1 yes, 0 no, -1 ask the descriptor
    Clock clock = nullptr;  ///< empty = steady_clock
    uint64_t done = 0;      ///< was done before: no part of the rate
  };

  Progress(std::string what, uint64_t total, Unit unit) : Progress(std::move(what), total, unit, Options()) {}
  Progress(std::string what, uint64_t total, Unit unit, Options options);
  ~Progress() { Finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` never shrinks; more than `total` raises the total.
  void Set(uint64_t done);
  void Add(uint64_t more) { Set(done_ + more); }
  /// For work whose size is found out on the way. Drawn with the next Set.
  void SetTotal(uint64_t total) { total_ = total; }
  /// Draws the last state and ends the line. Idempotent. `note` replaces the rate, for example "3 damaged".
  void Finish(std::string_view note = {});

 private:
  using Instant = std::chrono::steady_clock::time_point;
  std::string Amount(uint64_t value) const;
  std::string Line(Instant now, std::string_view note) const;
  void Draw(Instant now, std::string_view note, bool last);

  static constexpr size_t kBarColumns = 24;
  std::string what_;
  uint64_t total_;
  Unit unit_;
  Options options_;
  bool terminal_;
  bool finished_ = false;
  uint64_t done_ = 0;
  uint64_t tenths_drawn_ = 0;  ///< plain lines: tenths already reported
  size_t columns_drawn_ = 0;   ///< terminal: what the next drawing must cover
  Instant begun_, drawn_;
};

}  // namespace kvasir
