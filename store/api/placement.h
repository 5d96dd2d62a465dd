// SPDX-License-Identifier: Apache-2.0
// Placement: run key and members to an ordered list of (node, shard). A pure function: client and store compute the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "store/api/digest.h"

namespace kvasir {

/// One node as everybody sees it.
struct Member {
  std::string id;              ///< unique, at most 128 bytes
  std::string control;         ///< gRPC address, "host:port"
  uint32_t shards = 1;
  uint32_t weight = 100;       ///< relative capacity, 1 to 1e6
  std::string zone;            ///< failure domain, "" = its own
  friend bool operator==(const Member&, const Member&) = default;
};

struct Membership {
  static constexpr size_t kMembersMax = 4096;
  uint64_t epoch = 0;
  std::vector<Member> members;  ///< sorted by id
  friend bool operator==(const Membership&, const Membership&) = default;
};

/// Where a run lives: index into Membership::members, and the shard there.
struct Placed {
  uint32_t member = 0;
  uint32_t shard = 0;
  friend bool operator==(const Placed&, const Placed&) = default;
};

/// The first `count` (or all, if fewer) owners of a run, primary first: weighted rendezvous hashing (highest
/// -weight / ln(hash) wins, in fixed point so that every machine agrees), replicas in rank order, a zone twice only when
/// zones run out.
std::vector<Placed> Place(const BlockKey& run_key, const Membership& membership, uint32_t count);

}  // namespace kvasir
