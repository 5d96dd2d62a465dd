// SPDX-License-Identifier: Apache-2.0
// The one table of backends, best for bulk first. A new backend is its file and one line here.
#include <sys/random.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "transport/check.h"
#include "transport/transport.h"

namespace kvasir {
namespace {

struct Backend {
  const char* name;
  std::unique_ptr<Transport> (*make)(Loop&, const TransportOptions&);
};

constexpr Backend kBackends[] = {
    {"shm", MakeShmTransport},
    {"tcp", MakeTcpTransport},
    {"loopback", MakeLoopbackTransport},
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> MakeTransport(std::string_view name, Loop& loop,
                                                         const TransportOptions& options) {
  for (const Backend& backend : kBackends) {
    if (name == backend.name) return backend.make(loop, options);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no transport \"", std::string(name), "\" here; there are ", absl::StrJoin(TransportNames(), ", ")));
}

std::vector<std::string> TransportNames() {
  std::vector<std::string> names;
  for (const Backend& backend : kBackends) names.emplace_back(backend.name);
  return names;
}

uint64_t NewIncarnation() {
  uint64_t incarnation = 0;
  while (incarnation == 0) {
    KVASIR_CHECK(getrandom(&incarnation, sizeof incarnation, 0) == sizeof incarnation, "getrandom");
  }
  return incarnation;
}

}  // namespace kvasir
