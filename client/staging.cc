// SPDX-License-Identifier: Apache-2.0
// Slots, and the memory they are cut from.
#include "client/staging.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "store/api/status.h"
#include "transport/check.h"

namespace kvasir::client {

namespace {
uint64_t RoundUp(uint64_t bytes) { return (std::max<uint64_t>(bytes, 1) + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment; }
uint64_t Half(uint64_t bytes) { return bytes / 2 / kSlotAlignment * kSlotAlignment; }
}  // namespace

Arena::Arena(uint64_t begin, uint64_t bytes) : bytes_(bytes) {
  if (bytes > 0) free_[begin] = bytes;
}

std::optional<Slot> Arena::Allocate(uint64_t bytes) {
  bytes = RoundUp(bytes);
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->second < bytes) continue;
    const Slot slot{it->first, bytes};
    const uint64_t rest = it->second - bytes;
    it = free_.erase(it);
    if (rest > 0) free_.emplace_hint(it, slot.offset + bytes, rest);
    used_ += bytes;
    return slot;
  }
  return std::nullopt;
}

void Arena::Shrink(Slot& slot, uint64_t bytes) {
  bytes = RoundUp(bytes);
  KVASIR_CHECK(bytes <= slot.bytes, "a slot does not grow");
  if (bytes == slot.bytes) return;
  Return(slot.offset + bytes, slot.bytes - bytes);
  slot.bytes = bytes;
}

void Arena::Free(const Slot& slot) { Return(slot.offset, slot.bytes); }

void Arena::Return(uint64_t offset, uint64_t bytes) {
  KVASIR_CHECK(bytes <= used_, "a slot is freed once");
  used_ -= bytes;
  auto next = free_.lower_bound(offset);
  KVASIR_CHECK(next == free_.end() || offset + bytes <= next->first, "a slot is freed once");
  if (next != free_.end() && offset + bytes == next->first) {
    bytes += next->second;
    next = free_.erase(next);
  }
  if (next != free_.begin()) {
    auto before = std::prev(next);
    KVASIR_CHECK(before->first + before->second <= offset, "a slot is freed once");
    if (before->first + before->second == offset) {
      before->second += bytes;
      if (on_room) on_room();
      return;
    }
  }
  free_.emplace_hint(next, offset, bytes);
  if (on_room) on_room();
}

absl::StatusOr<std::unique_ptr<Staging>> Staging::Create(uint64_t bytes, Device& device) {
  bytes = RoundUp(bytes);
  absl::StatusOr<SharedMemory> memory = SharedMemory::Create(bytes, "kvasir-staging");
  if (!memory.ok()) return memory.status();
  const Result<bool> pinned = device.Pin({memory->data(), memory->bytes()});
  if (!pinned.ok()) return ToStatus(pinned.error());
  return std::unique_ptr<Staging>(new Staging(*std::move(memory), device));
}

Staging::Staging(SharedMemory memory, Device& device)
    : memory_(std::move(memory)),
      device_(device),
      pushes_(0, Half(memory_.bytes())),
      fetches_(Half(memory_.bytes()), memory_.bytes() - Half(memory_.bytes())) {}

Staging::~Staging() { device_.Unpin({memory_.data(), memory_.bytes()}); }

absl::Status Staging::OpenCarriers(Loop& loop, const std::vector<std::string>& names) {
  std::string reasons;
  for (const std::string& name : names) {
    absl::StatusOr<std::unique_ptr<Transport>> transport = MakeTransport(name, loop, TransportOptions{});
    absl::StatusOr<std::unique_ptr<MemoryRegion>> region =
        transport.ok() ? (*transport)->Register(memory_.span()) : transport.status();
    if (region.ok()) {
      carriers_.push_back({*std::move(transport), *std::move(region)});
    } else {
      absl::StrAppend(&reasons, "; ", name, ": ", region.status().message());
    }
  }
  if (!carriers_.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("no transport of `transports` can be used", reasons));
}

void Staging::CloseTransports() {
  for (Carrier& carrier : carriers_) carrier.transport.reset();
}

void Staging::CloseRegions() { carriers_.clear(); }

MemoryRegion& Staging::RegionOf(const Transport* transport) {
  auto at = std::find_if(carriers_.begin(), carriers_.end(), [&](const Carrier& c) { return c.transport.get() == transport; });
  KVASIR_CHECK(at != carriers_.end(), "a path goes over a transport of its Session");
  return *at->region;
}

Carrier* Staging::CarrierNamed(std::string_view name) {
  for (Carrier& carrier : carriers_) {
    if (carrier.transport && carrier.transport->capabilities().name == name) return &carrier;
  }
  return nullptr;
}

}  // namespace kvasir::client
