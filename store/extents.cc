// SPDX-License-Identifier: Apache-2.0
#include "store/extents.h"

#include <algorithm>

#include "transport/check.h"

namespace kvasir {

const char* Name(ExtentState state) {
  switch (state) {
    case ExtentState::kFree: return "FREE";
    case ExtentState::kFilling: return "FILLING";
    case ExtentState::kLanded: return "LANDED";
    case ExtentState::kPersisting: return "PERSISTING";
    case ExtentState::kSealed: return "SEALED";
    case ExtentState::kCondemned: return "CONDEMNED";
    case ExtentState::kQuarantine: return "QUARANTINE";
  }
  return "?";
}

namespace {
uint64_t SlabBytes(const ExtentOptions& options) {
  const uint64_t wanted = std::min(options.slab_bytes, options.bytes_max / Extents::kSlabsWanted);
  return std::max(wanted - wanted % options.slab_multiple, options.slab_multiple);
}

bool LegalEdge(ExtentState from, ExtentState to) {
  using S = ExtentState;
  switch (to) {
    case S::kLanded: return from == S::kFilling;
    case S::kPersisting: return from == S::kLanded;
    case S::kSealed: return from == S::kLanded || from == S::kPersisting;
    case S::kQuarantine: return from == S::kFilling || from == S::kLanded;
    default: return false;  // FREE, FILLING and CONDEMNED have calls of their own
  }
}
}  // namespace

Extents::Extents(const ExtentOptions& options)
    : options_(options), slab_bytes_(SlabBytes(options)), next_generation_(options.first_generation) {}

bool Extents::Reserve(uint32_t domain, uint64_t bytes, ExtentRef* extent, uint32_t* retired_slab, End end) {
  *retired_slab = kNoSlab;
  const uint64_t room = Round(std::max<uint64_t>(bytes, 1));
  uint64_t offset = 0;
  for (uint32_t i = 0; i < slabs_.size(); ++i) {
    if (!slabs_[i].exists || slabs_[i].domain != domain || !TakeFrom(i, room, end, &offset)) continue;
    *extent = Occupy(i, offset, room, bytes, domain);
    return true;
  }
  uint32_t slab = 0;
  if (room > slab_bytes_ || !NewSlab(domain, &slab, retired_slab)) return false;
  KVASIR_CHECK(TakeFrom(slab, room, end, &offset), "a new slab has room");
  *extent = Occupy(slab, offset, room, bytes, domain);
  return true;
}

bool Extents::NewSlab(uint32_t domain, uint32_t* slab_index, uint32_t* retired) {
  if (committed_ + slab_bytes_ > options_.bytes_max) {
    // A slab changes domain only as a new, zeroed one: an empty foreign slab is retired first.
    const auto empty = std::find_if(slabs_.begin(), slabs_.end(),
                                    [&](const Slab& s) { return s.exists && s.used == 0 && s.domain != domain; });
    if (empty == slabs_.end()) return false;
    *retired = static_cast<uint32_t>(empty - slabs_.begin());
    committed_ -= empty->bytes;
    *empty = Slab{};
  }
  const auto hole = std::find_if(slabs_.begin(), slabs_.end(), [](const Slab& s) { return !s.exists; });
  *slab_index = static_cast<uint32_t>(hole - slabs_.begin());
  if (hole == slabs_.end()) slabs_.emplace_back();
  Slab& slab = slabs_[*slab_index];
  slab.exists = true;
  slab.domain = domain;
  slab.bytes = slab_bytes_;
  slab.free_by_offset[0] = slab_bytes_;
  slab.free_by_length.insert({slab_bytes_, 0});
  committed_ += slab_bytes_;
  return true;
}

bool Extents::TakeFrom(uint32_t index, uint64_t room, End end, uint64_t* offset) {
  Slab& slab = slabs_[index];
  const auto best = slab.free_by_length.lower_bound({room, 0});
  if (best == slab.free_by_length.end()) return false;
  const auto [length, at] = *best;
  slab.free_by_length.erase(best);
  slab.free_by_offset.erase(at);
  *offset = end == End::kLow ? at : at + length - room;
  if (length > room) {
    const uint64_t rest = end == End::kLow ? at + room : at;
    slab.free_by_offset[rest] = length - room;
    slab.free_by_length.insert({length - room, rest});
  }
  slab.used += room;
  used_ += room;
  return true;
}

void Extents::GiveBack(uint32_t index, uint64_t offset, uint64_t room) {
  Slab& slab = slabs_[index];
  slab.used -= room;
  used_ -= room;
  auto next = slab.free_by_offset.lower_bound(offset);
  if (next != slab.free_by_offset.end() && offset + room == next->first) {
    room += next->second;
    slab.free_by_length.erase({next->second, next->first});
    next = slab.free_by_offset.erase(next);
  }
  if (next != slab.free_by_offset.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second == offset) {
      offset = before->first;
      room += before->second;
      slab.free_by_length.erase({before->second, before->first});
      slab.free_by_offset.erase(before);
    }
  }
  slab.free_by_offset[offset] = room;
  slab.free_by_length.insert({room, offset});
}

ExtentRef Extents::Occupy(uint32_t slab, uint64_t offset, uint64_t room, uint64_t bytes, uint32_t domain) {
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<uint32_t>(extents_.size()));
    extents_.emplace_back();
  }
  const uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  Extent& e = extents_[slot];
  KVASIR_CHECK(e.state == ExtentState::kFree && e.pins == 0, "a free slot is free");
  e = {ExtentState::kFilling, next_generation_++, slab, offset, room, bytes, domain, 0};
  return {slot, e.generation};
}

Extent& Extents::At(ExtentRef ref) {
  KVASIR_CHECK(Current(ref), "a stale extent reference");
  return extents_[ref.slot];
}

void Extents::Move(ExtentRef ref, ExtentState to) {
  Extent& e = At(ref);
  KVASIR_CHECK(LegalEdge(e.state, to), Name(e.state));
  e.state = to;
}

bool Extents::Unpin(ExtentRef ref) {
  Extent& e = At(ref);
  KVASIR_CHECK(e.pins > 0, "unpin without pin");
  if (--e.pins > 0 || e.state != ExtentState::kCondemned) return false;
  Free(ref);
  return true;
}

bool Extents::Condemn(ExtentRef ref) {
  Extent& e = At(ref);
  KVASIR_CHECK(e.state == ExtentState::kSealed, Name(e.state));
  e.state = ExtentState::kCondemned;
  if (e.pins > 0) return false;
  Free(ref);
  return true;
}

void Extents::Abandon(ExtentRef ref) {
  const Extent& e = At(ref);
  KVASIR_CHECK(e.state != ExtentState::kSealed && e.state != ExtentState::kCondemned, Name(e.state));
  Free(ref);
}

void Extents::Free(ExtentRef ref) {
  Extent& e = At(ref);
  KVASIR_CHECK(e.pins == 0, "freeing pinned bytes");
  GiveBack(e.slab, e.offset, e.room);
  e.state = ExtentState::kFree;
  free_slots_.push_back(ref.slot);
}

}  // namespace kvasir
