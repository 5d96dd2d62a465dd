// SPDX-License-Identifier: Apache-2.0
// The cluster on paper: what many nodes and clients would see, computed from the Placement code that they run. The same
// options give the same numbers on every machine and with any number of threads; MeasurePlace alone looks at a clock.
//
// Runs are made as engines make them: prompts of many lengths (each power of two as often as the next, up to the
// longest), cut into runs, so that the last run of a prompt is a short one.
#pragma once

#include <cstdint>
#include <vector>

#include "store/api/placement.h"

namespace kvasir {

inline constexpr uint32_t kSimNodesMax = 4000;  ///< one more joins; Membership::kMembersMax bounds both
inline constexpr uint64_t kSimRunsMax = 100'000'000;
inline constexpr uint64_t kSimClientsMax = 100'000'000;

struct SimOptions {
  uint32_t nodes = 1000;
  uint64_t clients = 100'000;  ///< Sessions: one a rank of an engine
  uint64_t runs = 100'000;     ///< stored in the whole cluster
  uint32_t replicas = 2;
  uint32_t zones = 3;                     ///< nodes lie in them in turn; 0 = each node is a zone of its own
  std::vector<uint32_t> weights = {100};  ///< nodes have them in turn
  uint32_t shards = 4;                    ///< of each node
  uint32_t run_blocks = 16;
  uint32_t block_tokens = 256;
  uint32_t prompt_tokens = 131'072;    ///< the longest prompt, and the one whose fan-out is counted
  uint64_t block_bytes = 32ull << 20;  ///< stored, all layers and heads of a block
  uint64_t seed = 1;
  uint32_t threads = 1;  ///< that compute; no number depends on it
  uint32_t PromptBlocks() const { return (prompt_tokens + block_tokens - 1) / block_tokens; }
  uint32_t PromptRuns() const { return (PromptBlocks() + run_blocks - 1) / run_blocks; }
};

/// Loads, each divided by what its owner's weight entitles it to.
struct Evenness {
  double mean = 0;  ///< of the loads themselves
  double max_over_mean = 0;
  double min_over_mean = 0;
  double by_chance = 0;  ///< max/mean to expect of as many throws of fair dice; 0 = not computed
};
struct Balance {
  Evenness node_copies, node_bytes, shard_copies, shard_bytes;
};

/// What one change of the membership moves.
struct Moves {
  uint64_t copies = 0;     ///< of all runs
  uint64_t moved = 0;      ///< copies that a node must make because of the change
  uint64_t bytes = 0;      ///< of those
  uint64_t others = 0;     ///< of those, neither made by nor in place of the node that changed: should be none
  double ideal = 0;        ///< the share of all copies that the weight of that node entitles it to
  double readers_ask = 0;  ///< owners that a reader of a run asks in turn until one holds it, at most; mean over runs
  uint32_t readers_ask_max = 0;
  double share() const { return copies == 0 ? 0 : static_cast<double>(moved) / static_cast<double>(copies); }
};

struct Changes {
  Moves join;   ///< a node more
  Moves leave;  ///< a node died: others copy what it held
  Moves drain;  ///< a node hands over what it holds
};

/// Calls of a reader for one long prompt.
struct FanOut {
  double nodes = 0;  ///< different ones asked when the first owner of every run answers; mean over prompts
  uint32_t nodes_max = 0;
  double calls = 0;  ///< Acquire calls then: one a (node, shard)
  uint32_t calls_max = 0;
  double cold_calls = 0;  ///< Acquire calls for a prompt that nobody holds: every owner of every run says so
  uint32_t rounds = 0;    ///< of calls, one after the other, until that is known
};

/// Different nodes and (node, shard)s that a client has met after so many prompts: to each it keeps connections.
struct Met {
  uint32_t prompts = 0;
  double nodes = 0, shards = 0;
};

struct SimPoint {
  uint32_t nodes = 0;
  Balance balance;
  Changes changes;
};

/// `count` nodes as `options` say: ids, zones and weights by number, so that a larger cluster has the smaller one in
/// it.
Membership SimMembers(const SimOptions& options, uint32_t count);
/// Blocks of each run, `runs` of them.
std::vector<uint32_t> SimRunBlocks(const SimOptions& options, uint64_t runs);
/// Key of run number `run`.
BlockKey SimRunKey(uint64_t seed, uint64_t run);

/// Balance and moves of `nodes` nodes over `runs` runs.
SimPoint SimulateNodes(const SimOptions& options, uint32_t nodes, uint64_t runs);
FanOut SimulateFanOut(const SimOptions& options);
std::vector<Met> SimulateClient(const SimOptions& options);
/// The largest of independent Poisson loads with these means, each over its mean; expected value. Exact up to its
/// steps.
double ExpectedMaxOverMean(const std::vector<double>& means);

/// Nanoseconds that Place takes here for one run among options.nodes.
struct PlaceCost {
  double replicas_ns = 0;  ///< the owners of a run
  double readers_ns = 0;   ///< whom a reader asks, nothing under way
  double all_ns = 0;       ///< every member in order
};
PlaceCost MeasurePlace(const SimOptions& options);

}  // namespace kvasir
