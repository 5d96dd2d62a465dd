// SPDX-License-Identifier: Apache-2.0
// Names: the views and namespaces a node knows, and which namespace each name is bound to. With an SSD they are kept there,
// written before any part that needs them, so that recovery can read every part it finds.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/api/namespace.h"
#include "store/api/view.h"
#include "store/tiers/ssd_tier.h"
#include "transport/sync.h"

namespace kvasir {

/// Where Bind's refusal carries the differing field's name.
inline constexpr const char* kFieldPayload = "kvasir/field";

/// Thread safe.
class Names {
 public:
  static constexpr size_t kViewsMax = 4096;

  Names(SsdTier* ssd, uint32_t namespaces_max) : ssd_(ssd), namespaces_max_(namespaces_max) {}

  /// Takes back what an earlier process wrote. Values that do not parse are left out.
  void Recover(const std::vector<NamedValue>& values);
  const View* FindView(const ViewDigest& digest) const;
  const Namespace* FindNamespace(const NamespaceDigest& digest) const;

  /// Binds ns.name to its digest in this domain, or FailedPrecondition naming the field in which the namespace that has the
  /// name differs (also as kFieldPayload). `done` runs once the binding is kept, with a warning ("" = none) that tells of another name whose
  /// namespace has the same weights and differs elsewhere.
  void Bind(const DomainId& domain, const Namespace& ns, absl::AnyInvocable<void(absl::StatusOr<std::string>)> done);
  /// `done` runs once all of these are kept (at once when they are already, or there is no SSD). ResourceExhausted beyond
  /// kViewsMax.
  void Keep(const std::vector<View>& views, absl::AnyInvocable<void(absl::Status)> done);

 private:
  using Values = std::vector<NamedValue>;
  /// Writes what is not kept yet, then `done`. A tier that refuses is no error here: it refuses the parts themselves.
  void Save(Values values, absl::AnyInvocable<void()> done);

  SsdTier* const ssd_;
  const uint32_t namespaces_max_;
  mutable Mutex mutex_;
  std::map<std::string, Namespace> bound_ ABSL_GUARDED_BY(mutex_);  // hex(domain) + "/" + name
  // Entries never leave, so pointers to them stay good.
  std::set<std::string> kept_ ABSL_GUARDED_BY(mutex_);  // names of values that are on the disk, or need no disk
  std::map<ViewDigest, View> views_ ABSL_GUARDED_BY(mutex_);
  std::map<NamespaceDigest, Namespace> namespaces_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kvasir
