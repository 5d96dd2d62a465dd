// SPDX-License-Identifier: Apache-2.0
// What a Gatherer keeps of one source and of one batch. Private to gatherer*.cc.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "store/gatherer.h"

namespace kvasir {

/// One shard of another member, asked page by page for one membership.
struct Gatherer::Source {
  Member member;
  uint32_t shard = 0;
  std::string cursor;
  bool current = true;           // false once another membership replaced it
  bool listed = false;           // its last page has been taken
  bool told = false;             // that we have all
  bool silent = false;           // fails for longer than is waited
  bool asking = false;
  Instant failing_since{};
  Duration pause = kRetryMin;
  Loop::TimerId timer = 0;
  uint32_t batches = 0;          // of it, not ended
  uint64_t wanted_bytes = 0, got_bytes = 0;
  uint64_t wanted_runs = 0, got_runs = 0;
  bool finished() const { return listed && batches == 0; }
};

/// Blocks of one (domain, namespace) to be had from one shard of one member.
struct Gatherer::Batch {
  struct Block {
    OfferedBlock offered;
    uint32_t view = 0;           // in views
    uint32_t open = 0;           // parts on their way
    bool failed = false;
  };
  Member member;
  uint32_t shard = 0;
  DomainId domain;
  Namespace ns;
  std::vector<std::string> accept;
  std::vector<AcquiredRun> runs;
  bool durable = false;
  uint64_t bytes = 0;            // as far as known before
  uint64_t new_runs = 0;         // counted at its source when it ends
  uint32_t tries = 0;
  std::shared_ptr<Source> source;              // null: asked for by readers or peers
  std::function<void(uint32_t blocks)> ended;  // how many leading or single blocks came; may be empty

  // While under way.
  std::shared_ptr<Path> path;
  std::shared_ptr<Lease> lease;
  uint64_t session = 0;
  Instant deadline{};
  Loop::TimerId timer = 0;
  std::vector<View> views;
  std::vector<Block> blocks;
  std::map<std::tuple<BlockKey, uint16_t, uint16_t, uint16_t>, uint32_t> pending;  // cold parts, by block
  uint32_t open = 0;             // parts on their way, cold ones too
  bool taken = false, done = false;
  std::vector<WatchEvent> early;               // of the lease, before the views are known
};

}  // namespace kvasir
