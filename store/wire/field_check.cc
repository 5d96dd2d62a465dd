// SPDX-License-Identifier: Apache-2.0
// The checks of FieldCheck and the words of their refusals.
#include "store/wire/field_check.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "store/wire/convert.h"

namespace kvasir {
namespace {

/// Length of the UTF-8 sequence that begins `text`, 0 when it is none (overlong, surrogate, beyond U+10FFFF, cut off).
size_t SequenceLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const uint8_t second = byte(1);
  const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool outside = (lead == 0xED && second >= 0xA0) || (lead == 0xF4 && second >= 0x90);
  return overlong || outside ? 0 : length;
}

}  // namespace

std::string FieldName::Text() const {
  if (list == nullptr) return name;
  return absl::StrCat(list, "[", index, "]", *name != '\0' ? "." : "", name);
}

void FieldCheck::Refuse(const FieldName& field, const std::string& why) {
  if (ok()) status_ = absl::InvalidArgumentError(absl::StrCat(message_, ": ", field.Text(), ": ", why));
}

void FieldCheck::Refuse(const FieldName& field, const absl::Status& status) {
  if (ok()) status_ = absl::Status(status.code(), absl::StrCat(message_, ": ", field.Text(), ": ", status.message()));
}

bool FieldCheck::AtMost(const FieldName& field, uint64_t value, uint64_t max) {
  if (value > max) Refuse(field, absl::StrCat(value, ", at most ", max));
  return ok();
}

bool FieldCheck::Below(const FieldName& field, uint64_t value, uint64_t count) {
  if (value >= count) Refuse(field, absl::StrCat(value, ", must be below ", count));
  return ok();
}

uint16_t FieldCheck::Narrow(const FieldName& field, uint32_t value) {
  return AtMost(field, value, 0xFFFF) ? static_cast<uint16_t>(value) : uint16_t{0};
}

std::string FieldCheck::Bytes(const FieldName& field, const std::string& bytes, size_t max) {
  if (bytes.size() > max) Refuse(field, absl::StrCat(bytes.size(), " bytes, at most ", max));
  return ok() ? bytes : std::string();
}

std::string FieldCheck::Exactly(const FieldName& field, const std::string& bytes, size_t size) {
  if (bytes.size() != size) WrongSize(field, bytes.size(), size);
  return ok() ? bytes : std::string();
}

Duration FieldCheck::Time(const FieldName& field, int64_t nanoseconds) {
  if (nanoseconds < 0 || nanoseconds > kDurationMax.count()) {
    Refuse(field, absl::StrCat(nanoseconds, " ns, must be 0 to ", kDurationMax.count()));
  }
  return ok() ? Duration(nanoseconds) : Duration{};
}

void FieldCheck::WrongSize(const FieldName& field, size_t size, size_t expected) {
  Refuse(field, absl::StrCat(size, " bytes, must be ", expected));
}

std::string Utf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    const size_t length = SequenceLength(text);
    if (valid.size() + std::max<size_t>(length, 1) > kWireTextBytesMax) break;
    if (length == 0) {
      valid.push_back('?');
    } else {
      valid.append(text.substr(0, length));
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return valid;
}

}  // namespace kvasir
