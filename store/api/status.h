// SPDX-License-Identifier: Apache-2.0
// The one adapter from kernels' Result to absl::Status, and the few meanings that status codes have in Kvasir.
//
//   NotFound            a miss                               ResourceExhausted   a named limit; try later
//   AlreadyExists       the part is sealed already           FailedPrecondition  another namespace, layout or version
//   Aborted             stale epoch, lease or session        DataLoss            bytes failed a check
//   Unavailable         the peer is gone                     DeadlineExceeded    the caller's deadline
//   PermissionDenied    a foreign session's or tenant's      InvalidArgument     malformed; the message names the field
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/result.h"

namespace kvasir {

inline absl::Status ToStatus(const Error& error) {
  return absl::Status(static_cast<absl::StatusCode>(error.code), error.message);
}
template <class T>
absl::StatusOr<T> ToStatusOr(Result<T> result) {
  if (!result.ok()) return ToStatus(result.error());
  return *std::move(result);
}

}  // namespace kvasir
