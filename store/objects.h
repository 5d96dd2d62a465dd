// SPDX-License-Identifier: Apache-2.0
// Objects: small named values with versions, per trust domain: HeadMaps, artefacts, scores. Kept on the SSD where there is
// one.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
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
  static constexpr size_t kFloorsMax = 4096;  ///< trust domains that ever deleted an object

  /// Names and values together are at most `bytes_max`, in memory and once more on the SSD.
  Objects(SsdTier* ssd, uint64_t bytes_max) : ssd_(ssd), bytes_max_(bytes_max) {}
  void Recover(const std::vector<NamedValue>& values);
  /// Get: NotFound when there is none. Put: Aborted names the version that is there; the answer comes once it is kept, or its
  /// deletion. What is put where something was deleted has a greater version than that had: nobody can take one for the other.
  /// ResourceExhausted: there are too many, or they are too large together.
  void Do(const DomainId& domain, ObjectRequest request, Answer<ObjectReply> answer);
  uint64_t bytes() const { return bytes_; }
  uint64_t bytes_max() const { return bytes_max_; }

 private:
  struct Held {
    uint64_t version = 0;
    std::string value;
  };
  /// Changes what is held. Holds mutex_.
  absl::Status Put(const std::string& domain, const std::string& name, const ObjectRequest& request, ObjectReply* reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  struct Saving;
  void Save(const std::string& domain, const std::string& name, const ObjectRequest& request,
            const std::shared_ptr<Saving>& saving) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t FloorOf(const std::string& domain) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckRoom(uint64_t old_bytes, uint64_t new_bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  SsdTier* const ssd_;
  const uint64_t bytes_max_;
  std::atomic<uint64_t> bytes_{0};  // of objects_; written under mutex_
  Mutex mutex_;
  std::map<std::string, uint64_t> floors_ ABSL_GUARDED_BY(mutex_);  // greatest version deleted, by hex(domain)
  std::map<std::string, Held> objects_ ABSL_GUARDED_BY(mutex_);  // hex(domain) + "/" + name
};

}  // namespace kvasir
