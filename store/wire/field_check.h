// SPDX-License-Identifier: Apache-2.0
// FieldCheck: how one message from outside is believed, field by field. Every size is compared before a byte is copied;
// the first trouble is kept and named. Used by store/wire only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "store/api/digest.h"
#include "transport/loop.h"

namespace kvasir {

/// A field, perhaps inside a list: parts[7].root.
struct FieldName {
  FieldName(const char* field) : name(field) {}  // NOLINT: implicit, so that a literal is a name
  FieldName(const char* in_list, int at, const char* field = "") : list(in_list), index(at), name(field) {}
  std::string Text() const;
  const char* list = nullptr;
  int index = 0;
  const char* name;
};

class FieldCheck {
 public:
  explicit FieldCheck(const char* message) : message_(message) {}

  bool ok() const { return status_.ok(); }
  const absl::Status& status() const { return status_; }
  /// The value when every check passed, else the first refusal.
  template <class T>
  absl::StatusOr<T> Done(T value) {
    if (!status_.ok()) return status_;
    return value;
  }
  /// InvalidArgument "Message: field: why", unless there was trouble before.
  void Refuse(const FieldName& field, const std::string& why);
  /// Takes over the refusal of a field that has a parser of its own.
  void Refuse(const FieldName& field, const absl::Status& status);

  bool AtMost(const FieldName& field, uint64_t value, uint64_t max);
  bool Below(const FieldName& field, uint64_t value, uint64_t count);
  uint16_t Narrow(const FieldName& field, uint32_t value);
  /// Bytes of any content, at most `max`.
  std::string Bytes(const FieldName& field, const std::string& bytes, size_t max);
  /// Bytes of exactly one length.
  std::string Exactly(const FieldName& field, const std::string& bytes, size_t size);
  Duration Time(const FieldName& field, int64_t nanoseconds);
  template <class Tag>
  void Digest(const FieldName& field, const std::string& bytes, Digest32<Tag>* digest) {
    if (!ok()) return;
    if (bytes.size() != digest->bytes.size()) return WrongSize(field, bytes.size(), digest->bytes.size());
    std::copy(bytes.begin(), bytes.end(), digest->bytes.begin());
  }

 private:
  void WrongSize(const FieldName& field, size_t size, size_t expected);
  const char* message_;
  absl::Status status_;
};

/// What a protobuf string may hold: valid UTF-8; other bytes become '?', and kWireTextBytesMax is where it is cut.
/// For text that people read.
std::string Utf8(std::string_view text);

}  // namespace kvasir
