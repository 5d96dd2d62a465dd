// SPDX-License-Identifier: Apache-2.0
// The calls of SsdTier as values, on their way from a caller's thread to a thread of the tier.
#pragma once

#include <cstddef>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/tiers/ssd_tier.h"

namespace kvasir {

struct AppendOp {
  PartMeta meta;
  std::span<const std::byte> bytes;  ///< the caller's until `done`
  bool durable = false;
  absl::AnyInvocable<void(absl::StatusOr<SsdLocation>)> done;
};
struct DropOp {
  std::vector<std::pair<PartId, SsdLocation>> parts;
};
struct ValueOp {
  NamedValue value;
  absl::AnyInvocable<void(absl::Status)> done;
};
using WriteOp = std::variant<AppendOp, DropOp, ValueOp>;

struct ReadOp {
  SsdLocation location;
  std::span<std::byte> into;  ///< the caller's until `done`
  absl::AnyInvocable<void(absl::Status)> done;
};

}  // namespace kvasir
