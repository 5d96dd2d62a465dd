// SPDX-License-Identifier: Apache-2.0
// KeptInputs: what an engine once brought for a chain, as it is kept in the store and comes back.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/select_inputs.h"

namespace kvasir {

inline constexpr size_t kKeptInputsBytesMax = 64u << 20;  ///< of all inputs of one chain

/// Owns what its inputs borrow. Immutable.
class KeptInputs {
 public:
  /// The canonical bytes of `inputs`: records in the order of SelectInputs, the empty ones too.
  static std::string Encode(const SelectInputs& inputs);
  /// InvalidArgument names the field unless `bytes` are what Encode writes. Whether sizes fit a chain is seen when it is pushed.
  static absl::StatusOr<std::shared_ptr<const KeptInputs>> Decode(std::string_view bytes);
  KeptInputs(const KeptInputs&) = delete;
  KeptInputs& operator=(const KeptInputs&) = delete;

  const SelectInputs& inputs() const { return inputs_; }

 private:
  KeptInputs() = default;
  std::vector<std::vector<float>> floats_;
  std::vector<TokenSpan> spans_;
  SelectInputs inputs_;
};

}  // namespace kvasir
