// SPDX-License-Identifier: Apache-2.0
// Judging, pinning and revoking grants; the MemoryRegion of every backend of ours.
#include "transport/backends/grant_table.h"

#include <sys/random.h>

#include <utility>

#include "transport/check.h"

namespace kvasir {

class GrantTable::RegionHandle : public MemoryRegion {
 public:
  RegionHandle(std::shared_ptr<GrantTable> table, RegionNumber number, const MemorySpan& memory)
      : table_(std::move(table)), number_(number), memory_(memory) {}
  ~RegionHandle() override { table_->Forget(number_); }
  std::span<std::byte> memory() const override { return {memory_.data, memory_.bytes}; }
  RemoteSpan Grant(uint64_t scope, uint64_t offset, uint64_t length) override {
    return table_->Add(number_, scope, offset, length);
  }
  void Revoke(uint64_t grant, absl::AnyInvocable<void()> quiet) override { table_->Revoke(grant, std::move(quiet)); }

 private:
  const std::shared_ptr<GrantTable> table_;
  const RegionNumber number_;
  const MemorySpan memory_;
};

std::unique_ptr<MemoryRegion> GrantTable::Register(std::shared_ptr<GrantTable> table, const MemorySpan& memory) {
  const RegionNumber number = table->next_region_++;
  table->regions_[number].memory = memory;
  return std::make_unique<RegionHandle>(std::move(table), number, memory);
}

RemoteSpan GrantTable::Add(RegionNumber region, uint64_t scope, uint64_t offset, uint64_t length) {
  RegionState& state = regions_.at(region);
  KVASIR_CHECK(offset <= state.memory.bytes, "a grant begins inside its region");
  KVASIR_CHECK(length <= state.memory.bytes - offset, "a grant ends inside its region");
  const uint64_t id = RandomId();
  grants_[id] = Grant{.region = region, .data = state.memory.data + offset, .region_offset = offset, .length = length,
                      .scope = scope, .reads = 0, .revoked = false, .quiet = {}};
  state.grants.insert(id);
  return RemoteSpan{.incarnation = incarnation_, .grant = id, .offset = 0, .length = length, .hint = 0};
}

void GrantTable::Revoke(uint64_t grant, absl::AnyInvocable<void()> quiet) {
  auto found = grants_.find(grant);
  if (found == grants_.end()) {
    if (quiet) loop_.Post(std::move(quiet));
    return;
  }
  Grant& entry = found->second;
  if (quiet) entry.quiet.push_back(std::move(quiet));
  const uint64_t scope = entry.scope;
  const bool first = !std::exchange(entry.revoked, true);
  if (entry.reads == 0) Erase(grant);
  if (first && on_revoked) on_revoked(scope, grant);
}

absl::StatusOr<const GrantTable::Grant*> GrantTable::Judge(uint64_t grant, uint64_t scope, uint64_t offset,
                                                           uint64_t length) const {
  auto found = grants_.find(grant);
  // Unknown, revoked and foreign answer alike: a stranger learns nothing about which grants exist.
  if (found == grants_.end() || found->second.revoked || found->second.scope != scope) {
    return absl::PermissionDeniedError("grant unknown, revoked or of another scope");
  }
  const Grant& entry = found->second;
  if (offset > entry.length || length > entry.length - offset) {
    return absl::PermissionDeniedError("range outside the grant");
  }
  return &entry;
}

absl::StatusOr<const std::byte*> GrantTable::Pin(uint64_t grant, uint64_t scope, uint64_t offset, uint64_t length) {
  absl::StatusOr<const Grant*> entry = Judge(grant, scope, offset, length);
  if (!entry.ok()) return entry.status();
  ++grants_.find(grant)->second.reads;
  return (*entry)->data + offset;
}

void GrantTable::Unpin(uint64_t grant) {
  auto found = grants_.find(grant);
  KVASIR_CHECK(found != grants_.end() && found->second.reads > 0, "Unpin follows Pin");
  if (--found->second.reads == 0 && found->second.revoked) Erase(grant);
}

const MemorySpan* GrantTable::Region(RegionNumber region) const {
  auto found = regions_.find(region);
  return found == regions_.end() ? nullptr : &found->second.memory;
}

/// The region is being destroyed: nobody may be reading it.
void GrantTable::Forget(RegionNumber region) {
  auto node = regions_.extract(region);
  for (const uint64_t grant : node.mapped().grants) {
    auto found = grants_.find(grant);
    KVASIR_CHECK(found->second.reads == 0, "a region is destroyed while it is read: revoke, and wait for quiet");
    const uint64_t scope = found->second.scope;
    grants_.erase(found);
    if (on_revoked) on_revoked(scope, grant);
  }
  if (on_region_gone) on_region_gone(region);
}

void GrantTable::Erase(uint64_t grant) {
  auto node = grants_.extract(grant);
  auto region = regions_.find(node.mapped().region);
  if (region != regions_.end()) region->second.grants.erase(grant);
  for (auto& quiet : node.mapped().quiet) loop_.Post(std::move(quiet));
}

uint64_t GrantTable::RandomId() {
  for (;;) {
    if (random_left_ == 0) {
      constexpr size_t kBytes = sizeof random_;  // up to 256 bytes come whole
      static_assert(kBytes <= 256);
      KVASIR_CHECK(getrandom(random_.data(), kBytes, 0) == static_cast<ssize_t>(kBytes), "getrandom");
      random_left_ = random_.size();
    }
    const uint64_t id = random_[--random_left_];
    if (id != 0 && !grants_.contains(id)) return id;
  }
}

}  // namespace kvasir
