// SPDX-License-Identifier: Apache-2.0
// Reads the arguments of stages.
#include "kernels/stages/stage.h"

namespace kvasir {
namespace {

constexpr uint32_t kMillion = 1000000;

/// The digits of `text` as a number; false for anything else or more than `most`.
bool ReadDigits(std::string_view text, uint64_t most, uint64_t& value) {
  value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    value = value * 10 + static_cast<uint64_t>(c - '0');
    if (value > most) return false;
  }
  return !text.empty();
}

}  // namespace

Result<bool> StageArguments::Count(size_t least, size_t most) const {
  if (arguments_.size() >= least && arguments_.size() <= most) return true;
  const std::string met = std::to_string(arguments_.size()) + (arguments_.size() == 1 ? " argument" : " arguments");
  if (most > 0) return SpecError(position_, met, usage_);
  return SpecError(arguments_[0].position, arguments_[0].text, std::string(usage_) + " without arguments");
}

Result<uint32_t> StageArguments::Number(size_t index, uint32_t absent, uint32_t least, uint32_t most,
                                        std::string_view meaning) const {
  if (!Has(index)) return absent;
  uint64_t value = 0;
  if (!ReadDigits(arguments_[index].text, most, value) || value < least) {
    return Refuse(index,
                  std::string(meaning) + ", a number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return static_cast<uint32_t>(value);
}

Result<uint32_t> StageArguments::Share(size_t index, uint32_t absent, std::string_view meaning) const {
  if (!Has(index)) return absent;
  const std::string_view text = arguments_[index].text;
  const std::string allowed = std::string(meaning) + ", a fraction from 0 to 1 of at most six decimals";
  const size_t dot = text.find('.');
  uint64_t whole = 0, decimals = 0;
  if (!ReadDigits(text.substr(0, dot), 1, whole)) return Refuse(index, allowed);
  if (dot != std::string_view::npos) {
    std::string six(text.substr(dot + 1));
    if (six.empty() || six.size() > 6) return Refuse(index, allowed);
    six.resize(6, '0');
    if (!ReadDigits(six, kMillion, decimals)) return Refuse(index, allowed);
  }
  const uint64_t millionths = whole * kMillion + decimals;
  if (millionths > kMillion) return Refuse(index, allowed);
  return static_cast<uint32_t>(millionths);
}

Result<TokenAmount> StageArguments::Amount(size_t index, std::string_view meaning) const {
  TokenAmount amount;
  uint64_t tokens = 0;
  if (ReadDigits(arguments_[index].text, UINT32_MAX, tokens) && tokens > 0) {
    amount.tokens = static_cast<uint32_t>(tokens);
    return amount;
  }
  const Result<uint32_t> share = Share(index, 0, meaning);
  if (!share.ok() || arguments_[index].text.find('.') == std::string_view::npos) {
    return Refuse(index, std::string(meaning) + ", a number of tokens such as 256 or a share of them such as 0.25");
  }
  amount.millionths = *share;
  return amount;
}

Result<uint32_t> StageArguments::Word(size_t index, uint32_t absent, std::span<const std::string_view> words,
                                      std::string_view meaning) const {
  if (!Has(index)) return absent;
  std::string names;
  for (size_t i = 0; i < words.size(); ++i) {
    if (arguments_[index].text == words[i]) return static_cast<uint32_t>(i);
    names.append(i == 0 ? "" : i + 1 == words.size() ? " or " : ", ").append(words[i]);
  }
  return Refuse(index, std::string(meaning) + ": " + names);
}

Error StageArguments::Refuse(size_t index, std::string_view allowed) const {
  return SpecError(arguments_[index].position, arguments_[index].text, allowed);
}

Error MissingInput(std::string_view stage, std::string_view input) {
  return {ErrorCode::kInvalidArgument, std::string(stage) + " needs the input " + std::string(input) +
                                           ", which was not brought; bring it with the push, or choose another spec"};
}

std::string PrintAmount(const TokenAmount& amount) {
  if (amount.tokens > 0) return std::to_string(amount.tokens);
  const std::string share = PrintShare(amount.millionths);
  return share.find('.') == std::string::npos ? share + ".0" : share;
}

std::string PrintShare(uint32_t millionths) {
  if (millionths >= kMillion) return "1";
  if (millionths == 0) return "0";
  std::string digits = std::to_string(kMillion + millionths).substr(1);
  digits.erase(digits.find_last_not_of('0') + 1);
  return "0." + digits;
}

}  // namespace kvasir
