// SPDX-License-Identifier: Apache-2.0
// The messages of service Admin, and Membership, which all services show.
#include "store/wire/convert.h"
#include "store/wire/field_check.h"
#include "store/wire/kvasir.pb.h"

namespace kvasir {

void ToProto(const Membership& from, v1::Membership* to) {
  to->set_epoch(from.epoch);
  for (const Member& m : from.members) {
    v1::Member* member = to->add_members();
    member->set_id(Utf8(m.id));
    member->set_control(Utf8(m.control));
    member->set_shards(m.shards);
    member->set_weight(m.weight);
    member->set_zone(Utf8(m.zone));
    member->set_state(static_cast<v1::MemberState>(m.state));
    member->set_epoch(m.epoch);
  }
}

absl::StatusOr<Membership> FromProto(const v1::Membership& from) {
  FieldCheck check("Membership");
  Membership to;
  to.epoch = from.epoch();
  if (!check.AtMost("members", static_cast<uint64_t>(from.members_size()), Membership::kMembersMax)) {
    return check.status();
  }
  for (int i = 0; i < from.members_size(); ++i) {
    const v1::Member& m = from.members(i);
    if (i > 0 && m.id() <= from.members(i - 1).id()) {
      check.Refuse({"members", i, "id"}, std::string("is not above the one before"));
    }
    Member& member = to.members.emplace_back();
    member.id = check.Bytes({"members", i, "id"}, m.id(), kWireNameBytesMax);
    member.control = check.Bytes({"members", i, "control"}, m.control(), kWireAddressBytesMax);
    member.shards = m.shards();
    member.weight = m.weight();
    member.zone = check.Bytes({"members", i, "zone"}, m.zone(), kWireNameBytesMax);
    if (!v1::MemberState_IsValid(m.state())) check.Refuse({"members", i, "state"}, std::string("unknown"));
    member.state = static_cast<MemberState>(m.state());
    member.epoch = m.epoch();
  }
  return check.Done(std::move(to));
}

namespace {

void ToProto(const MoveStatus& from, v1::MoveStatus* to) {
  to->set_runs_done(from.runs_done);
  to->set_runs_total(from.runs_total);
  to->set_bytes_done(from.bytes_done);
  to->set_bytes_total(from.bytes_total);
  to->set_epoch(from.epoch);
  to->set_settled(from.settled);
}

/// What an older node leaves out reads as settled.
MoveStatus MoveOf(bool told, const v1::MoveStatus& from) {
  if (!told) return {};
  return {from.runs_done(), from.runs_total(), from.bytes_done(), from.bytes_total(), from.epoch(), from.settled()};
}

}  // namespace

void ToProto(const NodeStatus& from, v1::NodeStatus* to) {
  to->set_node_id(Utf8(from.node_id));
  to->set_version(Utf8(from.version));
  to->set_state(Utf8(from.state));
  to->set_device(Utf8(from.device));
  to->set_uptime_ns(from.uptime.count());
  to->set_epoch(from.epoch);
  ToProto(from.membership, to->mutable_membership());
  to->set_sessions(from.sessions);
  to->set_leases(from.leases);
  to->set_blocks(from.blocks);
  to->set_parts(from.parts);
  for (const TierStatus& t : from.tiers) {
    v1::TierStatus* tier = to->add_tiers();
    tier->set_name(Utf8(t.name));
    tier->set_state(Utf8(t.state));
    tier->set_capacity(t.capacity);
    tier->set_used(t.used);
    tier->set_live(t.live);
    tier->set_parts(t.parts);
  }
  for (const auto& [name, value] : from.counters) {
    v1::Counter* counter = to->add_counters();
    counter->set_name(Utf8(name));
    counter->set_value(value);
  }
  ToProto(from.taking_over, to->mutable_taking_over());
  ToProto(from.handing_over, to->mutable_handing_over());
  for (const PeerStatus& p : from.peers) {
    v1::PeerStatus* peer = to->add_peers();
    peer->set_id(Utf8(p.id));
    peer->set_state(Utf8(p.state));
    peer->set_since_ns(p.since.count());
  }
  to->set_membership_source(Utf8(from.membership_source));
  if (!SpeaksWire2()) return;
  for (const auto& [name, state] : from.features) {
    v1::Feature* feature = to->add_features();
    feature->set_name(Utf8(name));
    feature->set_state(Utf8(state));
  }
}

namespace {

void ClusterOf(const v1::NodeStatus& from, FieldCheck& check, NodeStatus& to) {
  to.taking_over = MoveOf(from.has_taking_over(), from.taking_over());
  to.handing_over = MoveOf(from.has_handing_over(), from.handing_over());
  to.membership_source = check.Bytes("membership_source", from.membership_source(), kWireTextBytesMax);
  check.AtMost("peers", static_cast<uint64_t>(from.peers_size()), kWirePeersMax);
  check.AtMost("features", static_cast<uint64_t>(from.features_size()), kWireCountersMax);
  for (int i = 0; i < from.peers_size() && check.ok(); ++i) {
    const v1::PeerStatus& p = from.peers(i);
    to.peers.push_back({check.Bytes({"peers", i, "id"}, p.id(), kWireNameBytesMax),
                        check.Bytes({"peers", i, "state"}, p.state(), kWireTextBytesMax),
                        check.Time({"peers", i, "since_ns"}, p.since_ns())});
  }
  for (int i = 0; i < from.features_size() && check.ok(); ++i) {
    to.features.emplace_back(check.Bytes({"features", i, "name"}, from.features(i).name(), kWireNameBytesMax),
                             check.Bytes({"features", i, "state"}, from.features(i).state(), kWireTextBytesMax));
  }
}

}  // namespace

absl::StatusOr<NodeStatus> FromProto(const v1::NodeStatus& from) {
  FieldCheck check("NodeStatus");
  NodeStatus to;
  to.node_id = check.Bytes("node_id", from.node_id(), kWireNameBytesMax);
  to.version = check.Bytes("version", from.version(), kWireTextBytesMax);
  to.state = check.Bytes("state", from.state(), kWireTextBytesMax);
  to.device = check.Bytes("device", from.device(), kWireTextBytesMax);
  to.uptime = check.Time("uptime_ns", from.uptime_ns());
  to.epoch = from.epoch();
  absl::StatusOr<Membership> membership = FromProto(from.membership());
  if (!membership.ok()) check.Refuse("membership", membership.status());
  if (membership.ok()) to.membership = *std::move(membership);
  to.sessions = from.sessions();
  to.leases = from.leases();
  to.blocks = from.blocks();
  to.parts = from.parts();
  check.AtMost("tiers", static_cast<uint64_t>(from.tiers_size()), kWireTiersMax);
  check.AtMost("counters", static_cast<uint64_t>(from.counters_size()), kWireCountersMax);
  if (!check.ok()) return check.status();
  for (int i = 0; i < from.tiers_size(); ++i) {
    const v1::TierStatus& t = from.tiers(i);
    to.tiers.push_back({check.Bytes({"tiers", i, "name"}, t.name(), kWireNameBytesMax),
                        check.Bytes({"tiers", i, "state"}, t.state(), kWireTextBytesMax), t.capacity(), t.used(),
                        t.live(), t.parts()});
  }
  for (int i = 0; i < from.counters_size(); ++i) {
    to.counters.emplace_back(check.Bytes({"counters", i, "name"}, from.counters(i).name(), kWireTextBytesMax),
                             from.counters(i).value());
  }
  ClusterOf(from, check, to);
  return check.Done(std::move(to));
}

void ToProto(const ListRequest& from, v1::ListRequest* to) {
  to->set_key_prefix(Utf8(from.key_prefix));
  to->set_after(from.after);
  to->set_limit(from.limit);
}

absl::StatusOr<ListRequest> FromProto(const v1::ListRequest& from) {
  FieldCheck check("ListRequest");
  ListRequest to;
  to.key_prefix = check.Bytes("key_prefix", from.key_prefix(), 2 * sizeof(BlockKey));
  if (to.key_prefix.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) {
    check.Refuse("key_prefix", std::string("is not hexadecimal"));
  }
  to.after = check.Bytes("after", from.after(), kWireCursorBytesMax);
  check.AtMost("limit", from.limit(), kWireListMax);
  to.limit = from.limit();
  return check.Done(std::move(to));
}

void ToProto(const ListReply& from, v1::ListReply* to) {
  for (const BlockInfo& b : from.blocks) {
    v1::BlockInfo* block = to->add_blocks();
    block->set_key(std::string(b.key.view()));
    block->set_parent(std::string(b.parent.view()));
    block->set_block_index(b.block_index);
    block->set_token_count(b.token_count);
    block->set_namespace_name(Utf8(b.namespace_name));
    block->set_spec(Utf8(b.spec));
    block->set_parts(b.parts);
    block->set_parts_of(b.parts_of);
    block->set_bytes(b.bytes);
    block->set_dram_bytes(b.dram_bytes);
    block->set_ssd_bytes(b.ssd_bytes);
    block->set_idle_ns(b.idle.count());
    block->set_pins(b.pins);
    block->set_planes(b.planes);
    block->set_planes_of(b.planes_of);
  }
  to->set_next(from.next);
}

absl::StatusOr<ListReply> FromProto(const v1::ListReply& from) {
  FieldCheck check("ListReply");
  ListReply to;
  if (!check.AtMost("blocks", static_cast<uint64_t>(from.blocks_size()), kWireListMax)) return check.status();
  to.blocks.resize(static_cast<size_t>(from.blocks_size()));
  for (int i = 0; i < from.blocks_size(); ++i) {
    const v1::BlockInfo& b = from.blocks(i);
    BlockInfo& block = to.blocks[static_cast<size_t>(i)];
    check.Digest({"blocks", i, "key"}, b.key(), &block.key);
    check.Digest({"blocks", i, "parent"}, b.parent(), &block.parent);
    block.block_index = b.block_index();
    block.token_count = b.token_count();
    block.namespace_name = check.Bytes({"blocks", i, "namespace_name"}, b.namespace_name(), kWireTextBytesMax);
    block.spec = check.Bytes({"blocks", i, "spec"}, b.spec(), kWireTextBytesMax);
    block.parts = b.parts();
    block.parts_of = b.parts_of();
    block.bytes = b.bytes();
    block.dram_bytes = b.dram_bytes();
    block.ssd_bytes = b.ssd_bytes();
    block.idle = check.Time({"blocks", i, "idle_ns"}, b.idle_ns());
    block.pins = b.pins();
    if (b.planes_of() > 0) {  // 0: from a node that knows no planes
      block.planes = b.planes();
      block.planes_of = b.planes_of();
    }
  }
  to.next = check.Bytes("next", from.next(), kWireCursorBytesMax);
  return check.Done(std::move(to));
}

absl::StatusOr<Duration> FromProto(const v1::DrainRequest& from) {
  FieldCheck check("DrainRequest");
  return check.Done(check.Time("wait_ns", from.wait_ns()));
}

}  // namespace kvasir
