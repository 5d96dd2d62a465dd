// SPDX-License-Identifier: Apache-2.0
// Staging: the memory bytes pass through between pages and nodes. One SharedMemory, pinned with the device and registered
// with every transport in use; pushes take slots from its first half, fetches from its second, so that neither can starve
// the other.
//
//   [ pushes ............................ | fetches ........................... ]
//     slot: header room, frame area         slot: one part, as it landed
//
// Invariant: a slot is freed only when nobody can touch it any more (a grant: revoked and quiet; a pull: done and released;
// a job: ended). A timeout never frees a slot.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "transport/memory_region.h"
#include "transport/transport.h"

namespace kvasir::client {

/// A stretch of staging. A plain value: who holds it frees it.
struct Slot {
  uint64_t offset = 0;  ///< in the staging memory: what a grant names
  uint64_t bytes = 0;   ///< a multiple of kSlotAlignment
};
inline constexpr uint64_t kSlotAlignment = 256;

/// First-fit allocator over [begin, begin + bytes). The Loop only.
class Arena {
 public:
  Arena(uint64_t begin, uint64_t bytes);
  /// Nothing when there is no such room now.
  std::optional<Slot> Allocate(uint64_t bytes);
  /// Gives back what lies behind the first `bytes` of a slot.
  void Shrink(Slot& slot, uint64_t bytes);
  void Free(const Slot& slot);
  uint64_t size() const { return bytes_; }
  uint64_t used() const { return used_; }

  /// Told after Free and Shrink; allocates later, not inside.
  std::function<void()> on_room;

 private:
  void Return(uint64_t offset, uint64_t bytes);
  const uint64_t bytes_;
  uint64_t used_ = 0;
  std::map<uint64_t, uint64_t> free_;  // offset -> bytes; neighbours are merged
};

/// One transport of this Session and the staging memory as registered with it.
struct Carrier {
  std::unique_ptr<Transport> transport;
  std::unique_ptr<MemoryRegion> region;
};

class Staging {
 public:
  /// ResourceExhausted names the size. `device` outlives it.
  static absl::StatusOr<std::unique_ptr<Staging>> Create(uint64_t bytes, Device& device);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  /// On the Loop: makes the transports named; one that this build or machine lacks is left out. InvalidArgument when none
  /// is left, naming each with its reason.
  absl::Status OpenCarriers(Loop& loop, const std::vector<std::string>& names);
  /// On the Loop, after every connection was closed: transports, then (second call) regions.
  void CloseTransports();
  void CloseRegions();
  /// Null when there is none of this name.
  Carrier* CarrierNamed(std::string_view name);
  /// REQUIRES: one of this staging's.
  MemoryRegion& RegionOf(const Transport* transport);

  std::span<std::byte> Bytes(const Slot& slot) { return {memory_.data() + slot.offset, slot.bytes}; }
  Arena& pushes() { return pushes_; }
  Arena& fetches() { return fetches_; }

 private:
  Staging(SharedMemory memory, Device& device);
  SharedMemory memory_;
  Device& device_;
  Arena pushes_;
  Arena fetches_;
  std::vector<Carrier> carriers_;
};

}  // namespace kvasir::client
