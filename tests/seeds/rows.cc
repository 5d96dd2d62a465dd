// SPDX-License-Identifier: Apache-2.0
// Reads the table of methods.
#include "tests/seeds/rows.h"

#include <cstdlib>
#include <sstream>

namespace kvasir::seeds {
namespace {

constexpr std::string_view kFates[] = {"pass", "fails", "later"};
constexpr size_t kFields = 7;

std::vector<std::string> Split(std::string_view line) {
  constexpr std::string_view kBetween = " ; ";
  std::vector<std::string> fields;
  for (size_t at; (at = line.find(kBetween)) != std::string_view::npos; line.remove_prefix(at + kBetween.size())) {
    fields.emplace_back(line.substr(0, at));
  }
  fields.emplace_back(line);
  return fields;
}

}  // namespace

std::string_view NameOf(Fate fate) { return kFates[static_cast<size_t>(fate)]; }

Result<std::vector<Row>> ParseRows(std::string_view text) {
  std::vector<Row> rows;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (uint32_t number = 1; std::getline(lines, line); ++number) {
    if (line.empty() || line[0] == '#') continue;
    const auto wrong = [&](const std::string& what) {
      return Error{ErrorCode::kInvalidArgument, "rows, line " + std::to_string(number) + ": " + what};
    };
    const std::vector<std::string> fields = Split(line);
    if (fields.size() != kFields) return wrong("write seven fields with ' ; ' between them");
    Row row;
    row.number = static_cast<uint32_t>(std::atoi(fields[0].c_str()));
    row.step = static_cast<uint32_t>(std::atoi(fields[1].c_str()));
    if (row.number != rows.size() + 1) return wrong("rows ascend from 1, one of each");
    size_t fate = 0;
    while (fate < std::size(kFates) && kFates[fate] != fields[2]) ++fate;
    if (fate == std::size(kFates)) return wrong("the third field is pass, fails or later");
    row.expected = static_cast<Fate>(fate);
    row.method = fields[3];
    if (fields[4] != "-") row.spec = fields[4];
    if (row.spec.empty() != (row.expected == Fate::kLater)) return wrong("a spec, or '-' where the row is for later");
    if (fields[5] != "-") row.bits = std::atof(fields[5].c_str());
    row.check = fields[6];
    rows.push_back(std::move(row));
  }
  if (rows.size() != kRows) return Error{ErrorCode::kInvalidArgument, "rows: there are 63"};
  return rows;
}

}  // namespace kvasir::seeds
