// SPDX-License-Identifier: Apache-2.0
// SsdIndex: part id -> where it lies and what is known of it, and named values, in RocksDB. It is read once, at Open;
// afterwards the tier's writer keeps the same facts in memory and only writes here.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/tiers/ssd_tier.h"

namespace kvasir {

inline constexpr uint64_t kNamedValueBytesMax = 64u << 20;  ///< of one named value
inline constexpr uint64_t kNameBytesMax = 4096;             ///< of its name

struct IndexedPart {
  PartMeta meta;
  SsdLocation location;
  bool durable = false;  ///< was acknowledged as durable: a copy that takes its place must be so too
};

class SsdIndex {
 public:
  enum class Access { kWrite, kRead };
  struct Contents {
    std::vector<IndexedPart> parts;
    std::vector<NamedValue> values;
    std::vector<std::string> malformed;  ///< keys of entries that cannot be read
    std::string note;                    ///< what was repaired or set aside; empty = nothing
  };
  /// All of it becomes visible, or nothing: erased first, then put.
  struct Batch {
    std::vector<PartId> erased;
    std::vector<std::string> erased_keys;  ///< as in Contents::malformed
    std::vector<IndexedPart> put;
    std::vector<NamedValue> values;
    bool empty() const { return erased.empty() && erased_keys.empty() && put.empty() && values.empty(); }
  };

  /// Opens `path` and reads everything. A damaged index is repaired (kWrite); one beyond repair is renamed to
  /// `path`.damaged and an empty one made: a cache that starts cold beats one that does not start. `note` says so.
  static absl::StatusOr<std::unique_ptr<SsdIndex>> Open(const std::string& path, Access access, Contents* contents);

  virtual ~SsdIndex() = default;
  /// With `sync` it survives a power loss when this returns; without, a kill -9. After a failure all further writes
  /// fail: for good, or where space ran out (ResourceExhausted) until TryAgain succeeds. One thread at a time.
  virtual absl::Status Write(const Batch& batch, bool sync) = 0;
  /// Where space ran out: opens the index anew if there is room for it by now. What was promised is in it; what failed is
  /// not, or points to bytes that recovery will check. ResourceExhausted = not yet. Ok when nothing was wrong.
  virtual absl::Status TryAgain() = 0;
};

}  // namespace kvasir
