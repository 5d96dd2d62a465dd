// SPDX-License-Identifier: Apache-2.0
// Extents: who owns which bytes of the DRAM slabs, and since when. Pure bookkeeping: no memory is touched here.
//
//   FREE -> FILLING -> LANDED -> [PERSISTING ->] SEALED -> CONDEMNED -> FREE
//              |          |            |                       ^ last pin gone
//              +----------+------------+--> QUARANTINE -> FREE   (a transfer may still be under way)
//
// Invariants, CHECKed: one owner and one generation per extent; no edge into FREE while a transfer may touch the bytes or a
// reader holds a pin; the generation grows with every reservation, so {slot, generation} never names two things.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "store/api/part.h"

namespace kvasir {

enum class ExtentState : uint8_t { kFree, kFilling, kLanded, kPersisting, kSealed, kCondemned, kQuarantine };
const char* Name(ExtentState state);

/// Names an extent in time. Generation 0 is none.
struct ExtentRef {
  uint32_t slot = 0;
  uint64_t generation = 0;
  explicit operator bool() const { return generation != 0; }
  friend bool operator==(const ExtentRef&, const ExtentRef&) = default;
};

struct Extent {
  ExtentState state = ExtentState::kFree;
  uint64_t generation = 0;
  uint32_t slab = 0;
  uint64_t offset = 0;    ///< in the slab
  uint64_t room = 0;      ///< allocated, rounded up
  uint64_t bytes = 0;     ///< of the part
  uint32_t domain = 0;
  uint32_t pins = 0;      ///< leases and disk writes that read it
};

struct ExtentOptions {
  uint64_t bytes_max = 2ull << 30;
  uint64_t slab_bytes = 256ull << 20;
  uint64_t first_generation = 1;
  uint64_t slab_multiple = 256;  ///< of slabs: kAlignment, or the size of the pages behind them
};

class Extents {
 public:
  static constexpr uint64_t kAlignment = 256;  ///< bytes; extents begin and end on it
  /// Slabs are as large as allowed, but at least four fit, so that domains can share a small node.
  static constexpr uint64_t kSlabsWanted = 4;

  /// A slab that changed hands: its memory must be dropped before anything lands in it again. Memory of a slab is made
  /// when it is first used, slab_bytes() long, zeroed.
  static constexpr uint32_t kNoSlab = ~uint32_t{0};

  explicit Extents(const ExtentOptions& options);

  /// At which end of free room an extent is made. What leaves together lies together: then its room is of use to
  /// others.
  enum class End : uint8_t { kLow, kHigh };
  /// FREE -> FILLING for `domain`. False when there is no room; then nothing changed.
  bool Reserve(uint32_t domain, uint64_t bytes, ExtentRef* extent, uint32_t* retired_slab, End end = End::kLow);
  /// True if Reserve could ever succeed on an empty node.
  bool Fits(uint64_t bytes) const { return Round(bytes) <= slab_bytes_; }

  void Move(ExtentRef ref, ExtentState to);         ///< CHECKs the edge
  void Pin(ExtentRef ref) { At(ref).pins++; }
  /// True when this was the last pin of a CONDEMNED extent, which is free now.
  bool Unpin(ExtentRef ref);
  /// SEALED -> FREE, or -> CONDEMNED while pinned. True when free now.
  bool Condemn(ExtentRef ref);
  /// FILLING, LANDED, PERSISTING (no transfer under way any more) or QUARANTINE -> FREE.
  void Abandon(ExtentRef ref);
  /// CHECKs that `ref` is current.
  Extent& At(ExtentRef ref);
  const Extent& At(ExtentRef ref) const { return const_cast<Extents*>(this)->At(ref); }
  bool Current(ExtentRef ref) const {
    return ref.slot < extents_.size() && ref.generation != 0 && extents_[ref.slot].generation == ref.generation &&
           extents_[ref.slot].state != ExtentState::kFree;
  }

  uint64_t used() const { return used_; }
  uint64_t capacity() const { return options_.bytes_max; }
  uint64_t slab_bytes() const { return slab_bytes_; }

 private:
  struct Slab {
    bool exists = false;
    uint32_t domain = 0;
    uint64_t bytes = 0;
    uint64_t used = 0;
    absl::btree_map<uint64_t, uint64_t> free_by_offset;              // offset -> length
    absl::btree_set<std::pair<uint64_t, uint64_t>> free_by_length;   // (length, offset)
  };
  static uint64_t Round(uint64_t bytes) { return (bytes + kAlignment - 1) & ~(kAlignment - 1); }
  bool TakeFrom(uint32_t slab, uint64_t room, End end, uint64_t* offset);
  void GiveBack(uint32_t slab, uint64_t offset, uint64_t room);
  bool NewSlab(uint32_t domain, uint32_t* slab, uint32_t* retired);
  ExtentRef Occupy(uint32_t slab, uint64_t offset, uint64_t room, uint64_t bytes, uint32_t domain);
  void Free(ExtentRef ref);

  const ExtentOptions options_;
  uint64_t slab_bytes_;
  uint64_t committed_ = 0;  // bytes of slabs that exist
  uint64_t used_ = 0;
  uint64_t next_generation_;
  std::vector<Slab> slabs_;
  std::vector<Extent> extents_;
  std::vector<uint32_t> free_slots_;
};

}  // namespace kvasir
