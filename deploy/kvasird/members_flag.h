// SPDX-License-Identifier: Apache-2.0
// The value of --members: where a node learns who else is in its cluster.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace kvasir {

inline constexpr size_t kEtcdEndpointsMax = 16;

struct MembersFlag {
  std::string file;                    ///< "static:FILE" or a bare FILE
  std::vector<std::string> endpoints;  ///< "etcd:URL[,URL]", as HOST:PORT
  bool tls = false;                    ///< they were https, all of them
};

/// InvalidArgument says which URL is wrong, and how it is written.
absl::StatusOr<MembersFlag> ParseMembersFlag(std::string_view text);

}  // namespace kvasir
