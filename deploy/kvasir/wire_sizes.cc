// SPDX-License-Identifier: Apache-2.0
// Messages as they are sent, made to be measured.
#include "deploy/kvasir/wire_sizes.h"

#include "store/wire/convert.h"
#include "store/wire/kvasir.pb.h"

namespace kvasir {
namespace {

constexpr uint64_t kSession = ~uint64_t{0} / 3;  ///< a random number of 64 bits, as sessions have
constexpr uint64_t kEpoch = 1'000'000;

template <class Proto, class Value>
uint64_t BytesOf(const Value& value) {
  Proto message;
  ToProto(value, &message);
  return message.ByteSizeLong();
}

/// What one block adds to an answer that names its domain, namespace and view already.
uint64_t InventoryBlockBytes() {
  InventoryReply reply{.epoch = kEpoch, .domains = {}, .namespaces = {}, .views = {}, .blocks = {}, .next = ""};
  const uint64_t empty = BytesOf<v1::InventoryReply>(reply);
  InventoryBlock block;
  block.block_index = 300;
  block.token_count = 256;
  block.replicas = 2;
  block.durable = true;
  block.bytes = 32u << 20;
  for (BlockKey* key : {&block.key, &block.parent, &block.run}) key->bytes.fill(0xA5);
  reply.blocks.push_back(block);
  return BytesOf<v1::InventoryReply>(reply) - empty;
}

}  // namespace

WireSizes MeasureWire(const Membership& members) {
  Membership stamped = members;
  stamped.epoch = kEpoch;
  for (Member& member : stamped.members) member.epoch = kEpoch;
  const std::string id = members.members.empty() ? "node-0" : members.members[0].id;
  TouchRequest touch;
  touch.session = kSession;
  return {.membership = BytesOf<v1::Membership>(stamped),
          .probe = BytesOf<v1::ProbeRequest>(ProbeRequest{.from = id, .epoch = kEpoch}) +
                   BytesOf<v1::ProbeReply>(ProbeReply{.node_id = id, .epoch = kEpoch, .gathered_epoch = kEpoch}),
          .inventory_block = InventoryBlockBytes(),
          .touch = BytesOf<v1::TouchRequest>(touch) + BytesOf<v1::TouchReply>(TouchReply{})};
}

}  // namespace kvasir
