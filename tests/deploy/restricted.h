// SPDX-License-Identifier: Apache-2.0
// What `restricted` and its test agree on.
#pragma once

namespace kvasir::testing {

inline constexpr unsigned kNobody = 65532;                  ///< uid and gid; "nonroot" of distroless images
inline constexpr unsigned long kMemlockBytes = 64ul << 10;
inline constexpr int kNotHere = 77;                         ///< exit status: the machine does not allow it

}  // namespace kvasir::testing
