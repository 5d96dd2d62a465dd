// SPDX-License-Identifier: Apache-2.0
// Reads the table of methods.
#include "tests/quality/methods.h"

#include <fstream>
#include <functional>
#include <iterator>
#include <sstream>
#include <utility>

#include "kernels/codec.h"

namespace kvasir::quality {

Result<std::string> ReadText(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return Error{ErrorCode::kInvalidArgument, path.string() + ": cannot be read; does it exist?"};
  return std::string(std::istreambuf_iterator<char>(file), {});
}

namespace {

using Wrong = std::function<Error(const std::string& what)>;

/// `take`s each line that is no comment: its method, and how to refuse it.
Result<bool> EachLine(std::string_view text, const std::string& table,
                      const std::function<Result<bool>(Method, const Wrong&)>& take) {
  std::istringstream lines{std::string(text)};
  std::string line;
  for (uint32_t number = 1; std::getline(lines, line); ++number) {
    if (line.empty() || line[0] == '#') continue;
    const Wrong wrong = [&](const std::string& what) {
      return Error{ErrorCode::kInvalidArgument, table + ", line " + std::to_string(number) + ": " + what};
    };
    std::istringstream fields(line);
    Method method;
    fields >> method.family >> method.spec >> std::ws;
    std::getline(fields, method.name);
    if (method.name.empty()) return wrong("write: family, spec, name");
    if (Result<bool> taken = take(std::move(method), wrong); !taken.ok()) return taken;
  }
  return true;
}

}  // namespace

Result<std::vector<Method>> ParseMethods(std::string_view text) {
  std::vector<Method> methods;
  const Result<bool> read = EachLine(text, "methods", [&](Method method, const Wrong& wrong) -> Result<bool> {
    if (const size_t at = method.spec.find('@'); at != std::string::npos) {
      const std::string planes = method.spec.substr(at + 1);
      if (planes.size() != 1 || planes[0] < '1' || planes[0] > '9') return wrong("behind @ stands 1 to 9, of planes");
      method.planes = static_cast<uint32_t>(planes[0] - '0');
      method.spec.resize(at);
    }
    const auto codec = Codec::Parse(method.spec);
    if (!codec.ok()) return wrong(codec.error().message);
    if (method.planes > (*codec)->planes()) return wrong("the spec has fewer planes; X:planes makes two");
    methods.push_back(std::move(method));
    return true;
  });
  if (!read.ok()) return read.error();
  return methods;
}

Result<std::vector<Method>> ParseSelecting(std::string_view text, const std::vector<std::string>& budgets) {
  std::vector<Method> methods;
  const Result<bool> read = EachLine(text, "selecting", [&](Method method, const Wrong& wrong) -> Result<bool> {
    const std::string spec = method.spec;
    const size_t at = spec.find('*');
    for (const std::string& budget : at == std::string::npos ? std::vector<std::string>{""} : budgets) {
      method.budget = budget;
      if (at != std::string::npos) method.spec = std::string(spec).replace(at, 1, budget);
      const auto codec = Codec::Parse(method.spec);
      if (!codec.ok()) return wrong(codec.error().message);
      methods.push_back(method);
    }
    return true;
  });
  if (!read.ok()) return read.error();
  return methods;
}

}  // namespace kvasir::quality
