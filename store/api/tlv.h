// SPDX-License-Identifier: Apache-2.0
// The canonical encoding of Namespace, View and kept inputs: records of {type u16, length u32, bytes}, little endian, types
// ascending.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kvasir {

/// Appends records to a string.
class TlvWriter {
 public:
  void Bytes(uint16_t type, std::string_view bytes) {
    const auto length = static_cast<uint32_t>(bytes.size());
    out_.append(reinterpret_cast<const char*>(&type), sizeof type);
    out_.append(reinterpret_cast<const char*>(&length), sizeof length);
    out_.append(bytes);
  }
  /// An integer, a double or an enum, by its bytes in memory.
  template <class T>
  void Value(uint16_t type, T value) {
    Bytes(type, {reinterpret_cast<const char*>(&value), sizeof value});
  }
  std::string Take() { return std::move(out_); }

 private:
  std::string out_;
};

/// Reads records in the order of the writer. The first trouble is kept in status(); after it every read gives nothing.
class TlvReader {
 public:
  /// `what` begins every message: "namespace", "view".
  TlvReader(const char* what, std::string_view bytes) : what_(what), rest_(bytes) {}

  /// The next record, which must be of `type`, as bytes into the input.
  std::string_view Bytes(uint16_t type, const char* field) {
    if (!status_.ok()) return {};
    uint16_t met = 0;
    uint32_t length = 0;
    if (rest_.size() < kHeadBytes) return Fail(field, "missing or cut off");
    std::memcpy(&met, rest_.data(), sizeof met);
    std::memcpy(&length, rest_.data() + sizeof met, sizeof length);
    if (met != type) return Fail(field, absl::StrCat("record ", type, " expected, ", met, " met"));
    if (length > rest_.size() - kHeadBytes) {
      return Fail(field, absl::StrCat(length, " bytes announced, ", rest_.size() - kHeadBytes, " left"));
    }
    const std::string_view bytes = rest_.substr(kHeadBytes, length);
    rest_.remove_prefix(kHeadBytes + length);
    return bytes;
  }
  /// The next record as a value of exactly its width.
  template <class T>
  T Value(uint16_t type, const char* field) {
    const std::string_view bytes = Bytes(type, field);
    T value{};
    if (!status_.ok()) return value;
    if (bytes.size() != sizeof value) {
      Fail(field, absl::StrCat(bytes.size(), " bytes, ", sizeof value, " expected"));
      return value;
    }
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  /// True when another record of `type` comes next.
  bool Next(uint16_t type) const {
    uint16_t met = 0;
    if (!status_.ok() || rest_.size() < kHeadBytes) return false;
    std::memcpy(&met, rest_.data(), sizeof met);
    return met == type;
  }
  /// Refuses whatever is left.
  void End() {
    if (status_.ok() && !rest_.empty()) Fail("end", absl::StrCat(rest_.size(), " bytes too many"));
  }
  std::string_view Fail(const char* field, const std::string& why) {
    status_ = absl::InvalidArgumentError(absl::StrCat(what_, ": ", field, ": ", why));
    return {};
  }
  const absl::Status& status() const { return status_; }

 private:
  static constexpr size_t kHeadBytes = sizeof(uint16_t) + sizeof(uint32_t);
  const char* what_;
  std::string_view rest_;
  absl::Status status_;
};

}  // namespace kvasir
