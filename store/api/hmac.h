// SPDX-License-Identifier: Apache-2.0
// HmacKey: HMAC-SHA256 under one key with both midstates kept, so that a link of a chain costs its own blocks only.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string_view>

namespace kvasir {

/// One thread at a time.
class HmacKey {
 public:
  explicit HmacKey(std::span<const uint8_t, 32> key);
  ~HmacKey();
  HmacKey(const HmacKey&) = delete;
  HmacKey& operator=(const HmacKey&) = delete;

  /// HMAC of the pieces in order, as of one string.
  void Sign(std::initializer_list<std::string_view> pieces, std::span<uint8_t, 32> out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kvasir
