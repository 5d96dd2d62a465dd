// SPDX-License-Identifier: Apache-2.0
// The wire version of this build, and the one status that carries a value.
#include "store/api/store_api.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

// Tests link an older build by compiling this file again.
#ifndef KVASIR_WIRE_VERSION
#define KVASIR_WIRE_VERSION 2
#endif

namespace kvasir {

extern const uint32_t kWireVersion = KVASIR_WIRE_VERSION;

absl::Status StaleEpoch(const std::string& node, uint64_t given, uint64_t current) {
  absl::Status status = absl::AbortedError(
      absl::StrCat("stale epoch ", given, "; node ", node, " is at ", current, ": call again with it"));
  status.SetPayload(kEpochPayload, absl::Cord(absl::StrCat(current)));
  return status;
}

std::optional<uint64_t> CurrentEpochOf(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kEpochPayload);
  uint64_t epoch = 0;
  if (!payload || !absl::SimpleAtoi(std::string(*payload), &epoch)) return std::nullopt;
  return epoch;
}

}  // namespace kvasir
