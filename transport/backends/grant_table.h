// SPDX-License-Identifier: Apache-2.0
// GrantTable: which scope may read which bytes of ours. Peers name a grant, never an address; every read is judged here
// and pins its grant while its bytes are on their way.
//
//   Add -> [Pin .. Unpin]* -> Revoke -> (last Unpin) -> quiet
//
// Belongs to one Loop. Regions may outlive their transport: they share the table with it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "transport/loop.h"
#include "transport/memory_region.h"

namespace kvasir {

class GrantTable {
 public:
  using RegionNumber = uint32_t;  ///< 1, 2, ... in order of registration, never used again

  struct Grant {
    RegionNumber region = 0;
    const std::byte* data = nullptr;  ///< first byte granted
    uint64_t region_offset = 0;
    uint64_t length = 0;
    uint64_t scope = 0;
    uint32_t reads = 0;  ///< pins
    bool revoked = false;
    std::vector<absl::AnyInvocable<void()>> quiet;
  };

  GrantTable(Loop& loop, uint64_t incarnation) : loop_(loop), incarnation_(incarnation) {}

  /// Makes a region over `memory`, which lives as long as the region. The table is shared with it.
  static std::unique_ptr<MemoryRegion> Register(std::shared_ptr<GrantTable> table, const MemorySpan& memory);

  RemoteSpan Add(RegionNumber region, uint64_t scope, uint64_t offset, uint64_t length);
  /// Ends the grant; `quiet` is posted when its last pin is gone. An unknown grant is quiet.
  void Revoke(uint64_t grant, absl::AnyInvocable<void()> quiet);
  /// The grant, if a connection of `scope` may begin to read [offset, offset + length) of it: else PermissionDenied.
  absl::StatusOr<const Grant*> Judge(uint64_t grant, uint64_t scope, uint64_t offset, uint64_t length) const;
  /// Judges, and holds the grant until Unpin. Answers the address of `offset`.
  absl::StatusOr<const std::byte*> Pin(uint64_t grant, uint64_t scope, uint64_t offset, uint64_t length);
  void Unpin(uint64_t grant);

  /// The memory of a region, or null when it is gone.
  const MemorySpan* Region(RegionNumber region) const;

  // For backends whose peers remember grants: told after the fact, on the Loop.
  std::function<void(uint64_t scope, uint64_t grant)> on_revoked;
  std::function<void(RegionNumber region)> on_region_gone;

 private:
  class RegionHandle;
  struct RegionState {
    MemorySpan memory;
    absl::flat_hash_set<uint64_t> grants;
  };
  void Forget(RegionNumber region);
  void Erase(uint64_t grant);
  uint64_t RandomId();

  Loop& loop_;
  const uint64_t incarnation_;
  RegionNumber next_region_ = 1;
  absl::flat_hash_map<RegionNumber, RegionState> regions_;
  absl::flat_hash_map<uint64_t, Grant> grants_;
  std::array<uint64_t, 32> random_{};  // drawn from the system in batches
  size_t random_left_ = 0;
};

}  // namespace kvasir
