// SPDX-License-Identifier: Apache-2.0
// The parser of codec specs: one pass, every refusal names position, what was met and what may stand there.
#include "kernels/spec.h"

#include <string>

#include "kernels/stages/table.h"

namespace kvasir {
namespace {

bool IsLower(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool IsArgument(char c) { return IsLower(c) || c == '.' || c == '+' || c == '-'; }

class SpecParser {
 public:
  explicit SpecParser(std::string_view spec) : spec_(spec) {}

  Result<std::vector<SpecStage>> Parse() {
    if (spec_.size() > kSpecBytesMax) {
      return SpecError(kSpecBytesMax, std::to_string(spec_.size()) + " bytes",
                       "at most " + std::to_string(kSpecBytesMax));
    }
    std::vector<SpecStage> stages;
    do {
      if (stages.size() == kSpecStagesMax) return Unexpected("at most " + std::to_string(kSpecStagesMax) + " stages");
      SpecStage stage;
      if (Result<bool> read = ReadStage(stage); !read.ok()) return read.error();
      stages.push_back(std::move(stage));
    } while (Take('|'));
    if (at_ != spec_.size()) return Unexpected("'|', '(' or the end");
    return stages;
  }

 private:
  Result<bool> ReadStage(SpecStage& stage) {
    stage.position = at_;
    ReadPrefix(stage);
    if (at_ + 1 < spec_.size() && spec_[at_] >= 'A' && spec_[at_] <= 'Z' && spec_[at_ + 1] == ':') {
      stage.letter = spec_.substr(at_, 1);
      at_ += 2;
    }
    stage.name = TakeWhile(IsLower);
    if (stage.name.empty()) return Unexpected("a stage name");
    if (!Take('(')) return true;
    do {
      if (stage.arguments.size() == kSpecArgumentsMax) {
        return Unexpected("at most " + std::to_string(kSpecArgumentsMax) + " arguments");
      }
      const uint32_t position = at_;
      const std::string_view text = TakeWhile(IsArgument);
      if (text.empty()) return Unexpected("an argument");
      stage.arguments.push_back({text, position});
    } while (Take(','));
    if (!Take(')')) return Unexpected("',' or ')'");
    return true;
  }

  void ReadPrefix(SpecStage& stage) {
    for (const std::string_view prefix : {"k:", "v:", "d:", "kd:", "vd:"}) {
      if (!StartsWith(prefix)) continue;
      if (prefix[0] == 'k') stage.tensors = kSpecKey;
      if (prefix[0] == 'v') stage.tensors = kSpecValue;
      stage.demoted = prefix[prefix.size() - 2] == 'd';
      at_ += static_cast<uint32_t>(prefix.size());
      return;
    }
  }

  bool StartsWith(std::string_view prefix) const { return spec_.substr(at_, prefix.size()) == prefix; }
  bool Take(char c) {
    if (at_ == spec_.size() || spec_[at_] != c) return false;
    ++at_;
    return true;
  }
  std::string_view TakeWhile(bool (*allowed)(char)) {
    const uint32_t begin = at_;
    while (at_ < spec_.size() && allowed(spec_[at_])) ++at_;
    return spec_.substr(begin, at_ - begin);
  }
  Error Unexpected(std::string_view allowed) const {
    return SpecError(at_, at_ < spec_.size() ? spec_.substr(at_, 1) : "the end", allowed);
  }

  const std::string_view spec_;
  uint32_t at_ = 0;
};

/// Bytes that are no printable ASCII would spoil a log line.
std::string Printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 64)) out += c >= ' ' && c <= '~' ? c : '?';
  return out;
}

}  // namespace

Result<std::vector<SpecStage>> ParseSpec(std::string_view spec) { return SpecParser(spec).Parse(); }

Result<const StageEntry*> FindStage(const SpecStage& wanted) {
  const StageEntry* found = nullptr;
  std::string names;
  for (const StageEntry& stage : StageTable()) {
    names.append(names.empty() ? "" : ", ").append(stage.info.letter).append(":").append(stage.info.name);
    if (stage.info.name != wanted.name || (!wanted.letter.empty() && wanted.letter != stage.info.letter)) continue;
    if (found != nullptr)
      return SpecError(wanted.position, wanted.name, "a letter before this name, several stages have it");
    found = &stage;
  }
  if (found == nullptr) return SpecError(wanted.position, wanted.name, "one of " + names);
  return found;
}

Error SpecError(uint32_t position, std::string_view met, std::string_view allowed) {
  return {ErrorCode::kInvalidArgument, "codec spec, position " + std::to_string(position) + ": met '" + Printable(met) +
                                           "'; allowed here: " + std::string(allowed)};
}

}  // namespace kvasir
