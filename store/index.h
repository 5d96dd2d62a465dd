// SPDX-License-Identifier: Apache-2.0
// Index: which blocks, in which views, cut into which parts, lying where; and the order in which DRAM forgets them.
//
// Order of forgetting: least recently used first, leaves before their parents. Touching a chain touches its deepest block
// first and its root last, and a new child renews its ancestors, so the cold end of the list is a leaf by itself; a count of
// children in DRAM keeps it so when chains interleave. A block given back by its owner (drop) goes to the cold end.
//
// The upper planes of a block may go before it: a list of their own, in the same order, says whose ("precision before
// tokens").
//
// Invariant: a part in the index is SEALED in DRAM, or on the SSD, or on its way to one of them (`coming`). Only the
// first two are visible to readers.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "store/api/part.h"
#include "store/api/view.h"
#include "store/extents.h"
#include "store/tiers/ssd_tier.h"

namespace kvasir {

/// A block's name inside a node: tenants' domains never meet.
struct BlockId {
  uint32_t domain = 0;
  BlockKey key;
  friend auto operator<=>(const BlockId&, const BlockId&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const BlockId& b) {
    return H::combine(std::move(h), b.domain, b.key);
  }
};

struct Part {
  ExtentRef extent;             ///< DRAM copy, or the one being filled
  SsdLocation ssd;              ///< SSD copy; segment 0 = none
  uint64_t ssd_generation = 0;  ///< stamped in the SSD copy
  uint64_t bytes = 0;
  uint32_t frames_offset = 0;
  bool coming = false;          ///< the extent is not SEALED yet
  bool persisting = false;      ///< a disk write of the SEALED extent is under way
  bool readable() const { return (extent && !coming) || ssd.segment != 0; }
  bool in_dram() const { return extent && !coming; }
  bool absent() const { return !extent && ssd.segment == 0; }
};

/// What the parts of an index add up to.
struct PartSums {
  uint64_t parts = 0;       ///< readable
  uint64_t dram_parts = 0;  ///< in_dram
  uint64_t dram_bytes = 0;  ///< of those
  /// `sign` is 1 or -1.
  void Count(const Part& part, int sign) {
    parts += part.readable() ? sign : 0;
    dram_parts += part.in_dram() ? sign : 0;
    dram_bytes += part.in_dram() ? sign * part.bytes : 0;
  }
  friend bool operator==(const PartSums&, const PartSums&) = default;
};

/// All parts of a block in one view, layer-major over the view's grid, the planes of a cell side by side.
struct BlockView {
  uint32_t view = 0;            ///< index into the core's table of views
  uint16_t layer_groups = 0, head_groups = 0, planes = 1;
  std::vector<Part> parts;
  Part& At(uint32_t layer_group, uint32_t head_group, uint32_t plane = 0) {
    return parts[(layer_group * head_groups + head_group) * planes + plane];
  }
  const Part& At(uint32_t layer_group, uint32_t head_group, uint32_t plane = 0) const {
    return const_cast<BlockView*>(this)->At(layer_group, head_group, plane);
  }
  uint32_t Sealed() const;
  /// Leading planes all of whose parts are readable: with one of them the block is held.
  uint32_t WholePlanes() const;
};

struct Block {
  BlockId id;
  BlockKey parent;
  BlockKey run;                 ///< what it is placed by; zero = unknown
  uint32_t replicas = 1;        ///< nodes that shall hold it
  uint32_t ns = 0;              ///< index into the core's table of namespaces
  uint32_t block_index = 0;
  uint32_t token_count = 0;
  uint32_t dram_parts = 0;      ///< parts with an extent
  uint32_t upper_parts = 0;     ///< of these: planes above 0
  Instant created{}, touched{}, keep_until{};
  std::vector<BlockView> views;
  std::list<Block*>::iterator lru;  ///< in the list while dram_parts > 0
  std::list<Block*>::iterator upper_lru;  ///< while upper_parts > 0
  BlockView* Find(uint32_t view);
};

/// The blocks of one run: what is placed, moved and popular together.
struct Run {
  std::vector<Block*> blocks;   ///< in no order
  double heat = 0;              ///< reads, fading with kHeatHalfLife
  Instant heated{};             ///< when heat was right
  uint32_t spread = 0;          ///< owners in rank order that hold it because it is hot; 0 = as placed
};
using RunId = BlockId;          ///< by the key of its first block

class Index {
 public:
  static constexpr Duration kHeatHalfLife = std::chrono::seconds(10);

  Block* Find(const BlockId& id);
  const Block* Find(const BlockId& id) const { return const_cast<Index*>(this)->Find(id); }
  /// Finds or makes. A new block is in no list until it gains an extent. A run that is known is kept.
  Block& Make(const BlockId& id, const BlockKey& parent, const BlockKey& run, Instant now, bool* made);
  /// Removes a block none of whose parts is anywhere.
  void Erase(Block& block);
  /// Removes the block's view entries and the block itself as far as nothing is left of them. True when the block went.
  bool Tidy(Block& block);

  /// Changes a part by `change(part)`. Nothing else changes where a part lies or how long it is: so the sums are kept
  /// without ever walking the index.
  template <class F>
  void Change(Part& part, F&& change) {
    sums_.Count(part, -1);
    change(part);
    sums_.Count(part, 1);
  }
  const PartSums& sums() const { return sums_; }
  /// The same by looking at every part; tests compare.
  PartSums SumByWalk() const;

  /// Books an extent coming to or leaving a part of the block: keeps the list and the parents' counts.
  void GainExtent(Block& block, uint32_t plane = 0);
  void LoseExtent(Block& block, uint32_t plane = 0);
  /// To the warm end. Ancestors up to `ancestors` links follow, so that a parent is always warmer than its child.
  void Touch(Block& block, Instant now, uint32_t ancestors);
  /// To the cold end.
  void Cool(Block& block);
  bool HasChildInDram(const Block& block) const;

  Run* FindRun(const RunId& id);
  /// A read of the run. Answers reads a second, as they are lately.
  double Heat(Run& run, Instant now);
  /// Runs in key order, from behind `after` on (nullptr: from the first).
  template <class F>
  void ForEachRun(const RunId* after, F&& visit) const {  // visit answers false to stop
    for (auto at = after == nullptr ? runs_.begin() : runs_.upper_bound(*after); at != runs_.end(); ++at) {
      if (!visit(at->first, at->second)) return;
    }
  }
  size_t runs() const { return runs_.size(); }

  std::list<Block*>& cold_to_warm() { return lru_; }
  /// Blocks with upper planes in DRAM.
  std::list<Block*>& upper_cold_to_warm() { return upper_lru_; }
  size_t blocks() const { return blocks_.size(); }
  template <class F>
  void ForEach(F&& visit) const {
    for (const auto& [id, block] : blocks_) visit(*block);
  }

 private:
  absl::flat_hash_map<BlockId, std::unique_ptr<Block>> blocks_;
  absl::btree_map<RunId, Run> runs_;
  absl::flat_hash_map<BlockId, uint32_t> children_in_dram_;  // by parent
  std::list<Block*> lru_, upper_lru_;
  PartSums sums_;
};

}  // namespace kvasir
