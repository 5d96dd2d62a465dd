// SPDX-License-Identifier: Apache-2.0
// Where a block should lie by the placement, and where it does.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "deploy/kvasir/blocks.h"

namespace kvasir {

/// What there is to know about one block.
struct Located {
  BlockKey key;
  std::optional<BlockKey> run;  ///< what it is placed by; nothing where a block of its run before it is gone
  uint32_t run_blocks = 0;
  uint32_t replicas = 1;          ///< copies that there should be
  std::vector<HeldBlock> copies;  ///< one a node and view, nodes that answered
};

/// A node that should hold the block, should have before what is under way, or does.
struct LocatedNode {
  std::string id;
  std::string state;         ///< "unreachable" for a silent one
  uint32_t shard = 0;        ///< where the placement puts it there
  uint32_t rank = 0;         ///< among all that may take new blocks, from 1; 0 = none, or it is not known
  uint32_t rank_before = 0;  ///< among all that held blocks before
  bool should = false, should_before = false;
  std::vector<const HeldBlock*> copies;  ///< of `located`
};
/// By rank. `located` must outlive the answer.
std::vector<LocatedNode> NodesOf(const AskedCluster& cluster, const Located& located);
/// One or two sentences: are the copies where they should be, and what if not.
std::string VerdictOf(const std::vector<LocatedNode>& nodes, const Located& located);

}  // namespace kvasir
