// SPDX-License-Identifier: Apache-2.0
// Placement: run key and members to an ordered list of (node, shard). A pure function: client and store compute the same.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/api/digest.h"

namespace kvasir {

/// What a node does for a run it owns.
enum class MemberState : uint8_t {
  kServing = 0,
  kJoining,   ///< takes new blocks, does not hold yet all it should: readers ask who held them before, too
  kCordoned,  ///< takes no new blocks, serves and keeps those it has
  kDraining,  ///< the same, while others take over what it holds
};
const char* Name(MemberState state);
std::optional<MemberState> ParseMemberState(std::string_view name);

/// One node as everybody sees it.
struct Member {
  std::string id;              ///< unique, at most 128 bytes
  std::string control;         ///< gRPC address, "host:port"
  uint32_t shards = 1;
  uint32_t weight = 100;       ///< relative capacity, 1 to 1e6
  std::string zone;            ///< failure domain, "" = its own
  MemberState state = MemberState::kServing;
  uint64_t epoch = 0;          ///< of this node: grows when it starts anew or changes state; on every call to it
  friend bool operator==(const Member&, const Member&) = default;
};

struct Membership {
  static constexpr size_t kMembersMax = 4096;
  uint64_t epoch = 0;           ///< of its last change
  std::vector<Member> members;  ///< sorted by id
  const Member* Find(std::string_view id) const;
  friend bool operator==(const Membership&, const Membership&) = default;
};

/// Where a run lives: index into Membership::members, and the shard there.
struct Placed {
  uint32_t member = 0;
  uint32_t shard = 0;
  friend bool operator==(const Placed&, const Placed&) = default;
};

/// Who may own a run.
enum class Owning : uint8_t {
  kNow,     ///< where new blocks go: serving and joining members
  kBefore,  ///< where they lay before what is under way: all but joining members
};

/// The first `count` (or all, if fewer) owners of a run, primary first: weighted rendezvous hashing (highest
/// -weight / ln(hash) wins, in fixed point so that every machine agrees), replicas in rank order, a zone twice only when
/// zones run out. Adding a member moves only what it takes over.
std::vector<Placed> Place(const BlockKey& run_key, const Membership& membership, uint32_t count,
                          Owning owning = Owning::kNow);
/// Whom a reader asks for a run with `replicas` copies, in order: its owners now and one more (a copy written while one was
/// away), then those of before.
std::vector<Placed> PlaceForReading(const BlockKey& run_key, const Membership& membership, uint32_t replicas);

}  // namespace kvasir
