// SPDX-License-Identifier: Apache-2.0
// Result<T>: what a kernels function answers when it may fail. kernels/ builds alone, so it cannot use absl::Status;
// store/api/status.h holds the one adapter.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace kvasir {

/// What kind of trouble it was. Values match the absl::StatusCode of the same name.
enum class ErrorCode : uint8_t {
  kInvalidArgument = 3,    ///< the caller's value is wrong; the message names it
  kResourceExhausted = 8,  ///< a named limit was met
  kUnimplemented = 12,     ///< not in this build (no CUDA, unknown stage)
  kInternal = 13,          ///< a vendor call failed; the message names the call
  kUnavailable = 14,       ///< no such device now
  kDataLoss = 15,          ///< the bytes are damaged
};

/// Cause and next step, for a person.
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

/// A value or an Error. Reading the wrong one is a broken invariant and aborts.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : held_(std::move(value)) {}      // NOLINT: implicit, as in absl::StatusOr
  Result(Error error) : held_(std::move(error)) {}  // NOLINT
  bool ok() const { return held_.index() == 0; }
  const T& operator*() const& { return Value(); }
  T& operator*() & { return const_cast<T&>(Value()); }
  T&& operator*() && { return std::move(const_cast<T&>(Value())); }
  const T* operator->() const { return &Value(); }
  T* operator->() { return const_cast<T*>(&Value()); }
  const Error& error() const {
    if (ok()) Die("error() of a Result that is ok");
    return std::get<1>(held_);
  }

 private:
  const T& Value() const {
    if (!ok()) Die(std::get<1>(held_).message.c_str());
    return std::get<0>(held_);
  }
  [[noreturn]] static void Die(const char* why) {
    std::fprintf(stderr, "kvasir: CHECK failed: Result: %s\n", why);
    std::abort();
  }
  std::variant<T, Error> held_;
};

}  // namespace kvasir
