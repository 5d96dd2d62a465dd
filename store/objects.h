// SPDX-License-Identifier: Apache-2.0
// Objects: small named values with versions, per trust domain: HeadMaps, artefacts, scores. Kept on the SSD where there is
// one.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "store/api/store_api.h"
#include "store/tiers/ssd_tier.h"
#include "transport/sync.h"

namespace kvasir {

/// Thread safe.
class Objects {
 public:
  static constexpr size_t kObjectsMax = 65536;

  explicit Objects(SsdTier* ssd) : ssd_(ssd) {}
  void Recover(const std::vector<NamedValue>& values);
  /// Get: NotFound when there is none. Put: Aborted names the version that is there; the answer comes once it is kept.
  void Do(const DomainId& domain, ObjectRequest request, Answer<ObjectReply> answer);

 private:
  struct Held {
    uint64_t version = 0;
    std::string value;
  };
  SsdTier* const ssd_;
  Mutex mutex_;
  std::map<std::string, Held> objects_ ABSL_GUARDED_BY(mutex_);  // hex(domain) + "/" + name
};

}  // namespace kvasir
