// SPDX-License-Identifier: Apache-2.0
// Outbox: packed parts on their way to nodes. What is ready in one turn of the Loop travels in one Offer per (node, shard).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "client/desk.h"
#include "client/router.h"
#include "kernels/part_inputs.h"

namespace kvasir::client {

/// A part in its slot. Shared by its targets and by grants that are not quiet yet: the slot is free when the last of them
/// lets go. Planes that were cut from one part share its slot. The Loop only.
class PackedPart {
 public:
  PackedPart(Staging& staging, Slot slot) : staging_(staging), slot_(slot) {}
  /// Bytes [begin, begin + size) of the slot of `whole`.
  PackedPart(std::shared_ptr<PackedPart> whole, uint64_t begin, uint64_t size)
      : staging_(whole->staging_), slot_{whole->slot_.offset + begin, size}, size_(size), whole_(std::move(whole)) {}
  ~PackedPart() {
    if (whole_ == nullptr) staging_.pushes().Free(slot_);
  }
  PackedPart(const PackedPart&) = delete;
  PackedPart& operator=(const PackedPart&) = delete;
  std::span<std::byte> bytes() { return staging_.Bytes(slot_); }
  uint64_t offset() const { return slot_.offset; }
  /// Keeps the first `size` bytes.
  void Shrink(uint64_t size) { staging_.pushes().Shrink(slot_, size_ = size); }
  uint64_t size() const { return size_; }

  uint16_t layer_group = 0, head_group = 0, plane = 0;
  uint8_t root[16] = {};
  PackResult packed;
  std::unique_ptr<PartInputs> inputs;  ///< until it is packed

 private:
  Staging& staging_;
  Slot slot_;
  uint64_t size_ = 0;
  const std::shared_ptr<PackedPart> whole_;
};

/// Whose parts they are.
class OfferedFor {
 public:
  virtual ~OfferedFor() = default;
  virtual const OfferedBlock& block() const = 0;
  virtual const CompiledView& view() const = 0;
  /// Whether a part for this target is still worth sending.
  virtual bool Wants(size_t target) const = 0;
  /// Once per Item.
  virtual void Answered(size_t target, uint64_t bytes, const absl::Status& status) = 0;
};

/// The Loop only.
class Outbox {
 public:
  struct Item {
    std::shared_ptr<OfferedFor> owner;  // shared: a push may end before its offers are answered
    size_t target = 0;
    std::shared_ptr<PackedPart> part;
    Instant deadline;
  };
  Outbox(Desk& desk, Router& router) : desk_(desk), router_(router) {}
  void Add(const Owner& owner, Item item);
  /// Offers not answered are forgotten, their grants revoked.
  void Close();

 private:
  struct Sent {
    std::shared_ptr<Path> path;
    std::vector<Item> items;
    std::vector<uint64_t> grants;
    Instant begin;
  };
  void Flush();
  void Send(const std::shared_ptr<Path>& path, std::vector<Item> items);
  void Answered(uint64_t offer, const absl::StatusOr<OfferReply>& reply);
  void Settle(const Path& path, uint64_t grant, std::shared_ptr<PackedPart> part, const absl::Status& status);

  Desk& desk_;
  Router& router_;
  bool flush_posted_ = false;
  std::map<std::pair<NodeLink*, uint32_t>, std::vector<Item>> items_;
  uint64_t next_offer_ = 1;
  std::map<uint64_t, Sent> sent_;
};

}  // namespace kvasir::client
