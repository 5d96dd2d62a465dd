// SPDX-License-Identifier: Apache-2.0
// Finder: asks the owners of blocks, one after the other, until one holds them.
//
//   Ask(blocks) --by run, by owner--> Acquire --held--> on_held(block)
//        ^                               |--not held, refused, silent--.
//        '------- next owner ------------------------------------------'--no owner left--> on_missing(block)
//
// Every block has its own place in the ranking of its run's owners. Blocks asked in one turn of the Loop travel in one
// Acquire per (node, shard). What a node answers is checked here: slices, grids and views that were not asked for are
// treated as if the node did not hold the block.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "client/desk.h"
#include "client/router.h"
#include "store/api/prefix_chain.h"
#include "store/link/lease.h"

namespace kvasir::client {

/// Which layers and heads of a block.
struct Slice {
  uint32_t first_layer = 0, layers = 0;
  uint32_t first_head = 0, heads = 0;
};

/// A block as one node offers it to us.
/// Of each cell, where `wish` asks for at most so many; 0 = for all.
inline uint32_t PlanesWanted(const View& view, uint32_t wish) { return wish == 0 ? view.planes : std::min(wish, view.planes); }

struct HeldBlock {
  uint32_t block = 0;                        ///< index in the chain
  std::shared_ptr<const CompiledView> view;
  /// Layer-major, exactly the cells that cover the slice, of each its planes from 0 on; empty for a match.
  std::vector<PartGrant> parts;
  std::shared_ptr<Lease> lease;              ///< shared by the blocks of one Acquire; null for a match
};

/// Why a block is missing, for the counters.
enum class Miss : uint8_t { kNone, kAbsent, kHeader, kCrc, kLate, kUnavailable };
void CountMiss(const Desk& desk, Miss cause, uint64_t blocks = 1);

inline constexpr size_t kReadersMax = 64;    ///< owners asked for a block at most
/// A read waits so long for an owner that failed a moment ago, when no other is left.
inline constexpr Duration kPausedPatience = std::chrono::milliseconds(100);

/// One lookup of one chain. Owned by shared_ptr: answers hold it. The Loop only.
class Finder : public std::enable_shared_from_this<Finder> {
 public:
  struct Wish {
    const PrefixChain* chain = nullptr;      ///< outlives the Finder's work: until Stop
    uint32_t first_block = 0, blocks = 0;
    Slice slice;
    std::vector<std::string> accept;         ///< canonical
    bool match_only = false;
    uint32_t planes = 0;                     ///< of each cell at most so many; 0 = all that are there
    Instant deadline;
  };
  struct Handlers {
    std::function<void(HeldBlock)> held;
    /// Blocks behind it are not asked on: only the leading ones count.
    std::function<void(uint32_t block, Miss cause, const absl::Status& why)> missing;
    std::function<void(const std::shared_ptr<Lease>&)> leased;  ///< before the blocks it holds
    std::function<void()> idle;              ///< nothing asked is unanswered
  };
  Finder(Desk& desk, Router& router, Wish wish, Handlers handlers);

  /// Asks the next owner of each block (indices in the chain).
  void Ask(const std::vector<uint32_t>& blocks);
  /// Whether Ask would find another owner to try.
  bool MoreOwners(uint32_t block) const;
  /// No handler runs afterwards; leases that still come are released.
  void Stop() { stopped_ = true; }

 private:
  struct Asked {
    uint64_t left = 0;                       // owners to ask yet, a bit each, by their rank in the run
    uint32_t last = 0;                       // rank of the owner asked last
    bool again = false;                      // the same owner a second time: session or epoch were stale
    Miss worst = Miss::kNone;
    absl::Status why;
  };
  struct Group;
  void Flush();
  void Send(std::shared_ptr<Group> group);
  void Answered(const std::shared_ptr<Group>& group, absl::StatusOr<AcquireReply> reply, const std::shared_ptr<Path>& path);
  void TakeRuns(Group& group, AcquireReply& reply, const std::shared_ptr<Path>& path);
  absl::Status TakeBlock(AcquireReply& reply, size_t i, HeldBlock& found) const;
  void NotHeld(uint32_t block, Miss cause, const absl::Status& why);
  absl::StatusOr<std::shared_ptr<const CompiledView>> ViewOf(const AcquireReply& reply, const AcquiredBlock& block) const;
  absl::Status CheckBlock(const CompiledView& view, const AcquiredBlock& block) const;
  const BlockKey& RunOf(uint32_t block) const { return wish_.chain->RunKey(block, run_blocks_); }
  const std::vector<Owner>& OwnersOf(uint32_t block) const;
  const Owner* NextOwner(uint32_t block);
  Asked& At(uint32_t block) { return asked_[block - wish_.first_block]; }
  void Settle();

  Desk& desk_;
  Router& router_;
  const Wish wish_;
  const Handlers handlers_;
  const uint32_t run_blocks_;
  std::vector<std::vector<Owner>> owners_;   // by run, first run of the wish first
  std::vector<Asked> asked_;
  std::vector<uint32_t> to_ask_;
  uint32_t gap_;                             // nobody needs to know about blocks from here on
  bool flush_posted_ = false;
  uint32_t groups_under_way_ = 0;
  bool stopped_ = false;
};

}  // namespace kvasir::client
