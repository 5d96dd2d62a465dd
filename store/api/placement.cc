// SPDX-License-Identifier: Apache-2.0
// Weighted rendezvous hashing in integers only, so that every machine and every compiler agrees.
//
// Member i draws u in (0, 1] from hash(run key, id); the highest -weight / ln(u) wins. With u = h / 2^64,
//     -ln(u) = ln(2) * (64 - log2(h)),
// ln(2) is common to all, so what is compared is weight / L with L = 64 - log2(h), in fixed point of 48 fraction bits
// and cross-multiplied in 128 bits. log2 is a table of 1,025 exact (truncated) values and a straight line between two:
// it is monotonic and off by less than 2e-7, which moves a share by less than 0.1 % even among 4,096 members.
#include "store/api/placement.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_set.h"

namespace kvasir {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr int kFractionBits = 48;
constexpr int kTableBits = 10;
constexpr size_t kTableSize = (size_t{1} << kTableBits) + 1;

/// log2(mantissa / 2^63) for mantissa in [2^63, 2^64), truncated to kFractionBits: a squaring gives a bit.
uint64_t ExactLog2(uint64_t mantissa) {
  uint64_t log = 0;
  for (int bit = 0; bit < kFractionBits; ++bit) {
    const Wide square = Wide{mantissa} * mantissa;  // in [2^126, 2^128)
    const auto carry = static_cast<uint64_t>(square >> 127);
    mantissa = static_cast<uint64_t>(square >> (63 + carry));
    log = log << 1 | carry;
  }
  return log;
}

const std::array<uint64_t, kTableSize>& Log2Table() {
  static const std::array<uint64_t, kTableSize> table = [] {
    std::array<uint64_t, kTableSize> t{};
    for (size_t i = 0; i + 1 < kTableSize; ++i) {
      t[i] = ExactLog2((uint64_t{1} << 63) + (uint64_t{i} << (63 - kTableBits)));
    }
    t[kTableSize - 1] = uint64_t{1} << kFractionBits;
    return t;
  }();
  return table;
}

/// 64 - log2(h), kFractionBits of fraction, at least 1 in the last place.
uint64_t Distance(uint64_t h) {
  h = std::max<uint64_t>(h, 1);
  const int zeros = std::countl_zero(h);
  const uint64_t fraction = h << zeros << 1;  // below the leading one, from the top
  const auto index = static_cast<size_t>(fraction >> (64 - kTableBits));
  const uint64_t rest = fraction << kTableBits;
  const auto& table = Log2Table();
  const uint64_t step = table[index + 1] - table[index];
  const uint64_t log = table[index] + static_cast<uint64_t>((Wide{step} * rest) >> 64);
  return (static_cast<uint64_t>(zeros + 1) << kFractionBits) - log;
}

uint64_t Mix(uint64_t x) {  // SplitMix64's finaliser: a bijection, every bit depends on every bit
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

uint64_t Fnv1a(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return hash;
}

/// The key is uniform already: 16 of its bytes are plenty.
uint64_t Hash(const BlockKey& key, std::string_view id) {
  std::array<uint64_t, 2> words;
  std::memcpy(words.data(), key.bytes.data(), sizeof words);
  return Mix(Mix(Fnv1a(id) ^ words[0]) + words[1]);
}

struct Candidate {
  uint64_t hash;
  uint64_t distance;
  uint32_t weight;
  uint32_t member;
};

/// True when `b` ranks before `a`: keeps the best on top of a heap. Equal scores rank by member, that is, by id.
bool RanksAfter(const Candidate& a, const Candidate& b) {
  const Wide score_a = Wide{a.weight} * b.distance;
  const Wide score_b = Wide{b.weight} * a.distance;
  return score_a != score_b ? score_a < score_b : a.member > b.member;
}

bool MayOwn(MemberState state, Owning owning) {
  if (owning == Owning::kBefore) return state != MemberState::kJoining;
  return state == MemberState::kServing || state == MemberState::kJoining;
}

Placed PlacedOf(const Candidate& c, const Member& member) {
  const uint64_t draw = Mix(c.hash ^ 0x6B76617369720000u);  // another draw than the member's own
  return {c.member, static_cast<uint32_t>((Wide{draw} * std::max<uint32_t>(member.shards, 1)) >> 64)};
}

}  // namespace

const char* Name(MemberState state) {
  switch (state) {
    case MemberState::kServing: return "serving";
    case MemberState::kJoining: return "joining";
    case MemberState::kCordoned: return "cordoned";
    case MemberState::kDraining: return "draining";
  }
  return "unknown";
}

std::optional<MemberState> ParseMemberState(std::string_view name) {
  for (const MemberState state : {MemberState::kServing, MemberState::kJoining, MemberState::kCordoned, MemberState::kDraining}) {
    if (name == Name(state)) return state;
  }
  return std::nullopt;
}

const Member* Membership::Find(std::string_view id) const {
  const auto at = std::lower_bound(members.begin(), members.end(), id, [](const Member& m, std::string_view wanted) { return m.id < wanted; });
  return at != members.end() && at->id == id ? &*at : nullptr;
}

std::vector<Placed> Place(const BlockKey& run_key, const Membership& membership, uint32_t count, Owning owning) {
  const std::vector<Member>& members = membership.members;
  std::vector<Candidate> heap;
  heap.reserve(members.size());
  for (uint32_t i = 0; i < members.size(); ++i) {
    if (!MayOwn(members[i].state, owning)) continue;
    const uint64_t hash = Hash(run_key, members[i].id);
    heap.push_back({hash, Distance(hash), members[i].weight, i});
  }
  std::make_heap(heap.begin(), heap.end(), RanksAfter);

  // A round takes each zone once, in rank order; whoever was passed over waits for the next round.
  std::vector<Placed> placed;
  std::vector<Candidate> waiting;
  absl::flat_hash_set<std::string_view> zones;
  const size_t wanted = std::min<size_t>(count, heap.size());
  const auto take_or_wait = [&](const Candidate& c) {
    const Member& member = members[c.member];
    const bool take = placed.size() < wanted && (member.zone.empty() || zones.insert(member.zone).second);
    if (take) placed.push_back(PlacedOf(c, member));
    if (!take) waiting.push_back(c);
  };
  while (placed.size() < wanted && !heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), RanksAfter);
    const Candidate best = heap.back();
    heap.pop_back();
    take_or_wait(best);
  }
  while (placed.size() < wanted) {
    zones.clear();
    for (const Candidate& c : std::exchange(waiting, {})) take_or_wait(c);
  }
  return placed;
}

std::vector<Placed> PlaceForReading(const BlockKey& run_key, const Membership& membership, uint32_t replicas) {
  std::vector<Placed> asked = Place(run_key, membership, replicas + 1, Owning::kNow);
  const bool steady = std::all_of(membership.members.begin(), membership.members.end(),
                                  [](const Member& m) { return m.state == MemberState::kServing; });
  if (steady) return asked;
  for (const Placed& before : Place(run_key, membership, replicas + 1, Owning::kBefore)) {
    if (std::find(asked.begin(), asked.end(), before) == asked.end()) asked.push_back(before);
  }
  return asked;
}

}  // namespace kvasir
