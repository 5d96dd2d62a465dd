// SPDX-License-Identifier: Apache-2.0
// The messages of service Store, but Hello. One pair of functions a message, in the order of kvasir.proto.
#include "store/wire/convert.h"

#include "kernels/codec.h"
#include "store/wire/field_check.h"
#include "store/wire/kvasir.pb.h"
#include "transport/memory_region.h"
#include "transport/transport.h"

namespace kvasir {
namespace {

constexpr size_t kRootBytes = 16;

void ToProto(const absl::Status& from, v1::Outcome* to) {
  to->set_code(from.raw_code());
  to->set_message(Utf8(std::string_view(from.message().data(), from.message().size())));
}

absl::Status StatusOf(const v1::Outcome& from, FieldCheck& check, const FieldName& field) {
  constexpr int kCodeMax = 16;  // Unauthenticated, the last of the canonical codes
  if (from.code() < 0 || !check.AtMost(field, static_cast<uint64_t>(from.code()), kCodeMax)) {
    check.Refuse(field, "no status code");
    return {};
  }
  const std::string message = check.Bytes(field, from.message(), kWireTextBytesMax);
  return absl::Status(static_cast<absl::StatusCode>(from.code()), message);
}

template <class Digests>
void KeysToProto(const Digests& from, google::protobuf::RepeatedPtrField<std::string>* to) {
  to->Reserve(static_cast<int>(from.size()));
  for (const BlockKey& key : from) to->Add()->assign(key.view());
}

std::vector<BlockKey> KeysOf(const google::protobuf::RepeatedPtrField<std::string>& from, FieldCheck& check,
                             const char* field) {
  if (!check.AtMost(field, static_cast<uint64_t>(from.size()), kBlocksPerAcquireMax)) return {};
  std::vector<BlockKey> keys(static_cast<size_t>(from.size()));
  for (int i = 0; i < from.size(); ++i) check.Digest({field, i}, from[i], &keys[static_cast<size_t>(i)]);
  return keys;
}

std::vector<View> ViewsOf(const google::protobuf::RepeatedPtrField<std::string>& from, FieldCheck& check) {
  std::vector<View> views;
  if (!check.AtMost("views", static_cast<uint64_t>(from.size()), kViewsPerCallMax)) return views;
  for (int i = 0; i < from.size() && check.ok(); ++i) {
    absl::StatusOr<View> view = View::Decode(from[i]);
    if (view.ok()) views.push_back(*std::move(view));
    if (!view.ok()) check.Refuse({"views", i}, view.status());
  }
  return views;
}

void ToProto(const PartGrant& from, v1::PartGrant* to) {
  to->set_layer_group(from.layer_group);
  to->set_head_group(from.head_group);
  to->set_pending(from.pending);
  to->set_bytes(from.bytes);
  to->set_generation(from.generation);
  to->set_frames_offset(from.frames_offset);
  to->set_grant(from.grant);
  to->set_plane(from.plane);
}

/// `index` is the part's in its list; a grant is whole or not there at all.
PartGrant GrantOf(const v1::PartGrant& from, FieldCheck& check, int index) {
  PartGrant to;
  to.layer_group = check.Narrow({"parts", index, "layer_group"}, from.layer_group());
  to.head_group = check.Narrow({"parts", index, "head_group"}, from.head_group());
  to.plane = check.Narrow({"parts", index, "plane"}, from.plane());
  to.pending = from.pending();
  check.AtMost({"parts", index, "bytes"}, from.bytes(), kPartBytesMax);
  to.bytes = from.bytes();
  to.generation = from.generation();
  to.frames_offset = from.frames_offset();
  const size_t grant_bytes = from.grant().empty() ? 0 : RemoteSpan::kEncodedBytes;
  to.grant = check.Exactly({"parts", index, "grant"}, from.grant(), grant_bytes);
  return to;
}

}  // namespace

// ---- Offer ----------------------------------------------------------------------------------------------------------

void ToProto(const OfferRequest& from, v1::OfferRequest* to) {
  to->set_session(from.session);
  to->set_epoch(from.epoch);
  to->set_shard(from.shard);
  to->set_ack(static_cast<v1::Ack>(from.ack));
  for (const View& view : from.views) to->add_views(view.Encode());
  for (const OfferedBlock& b : from.blocks) {
    v1::OfferedBlock* block = to->add_blocks();
    block->set_key(std::string(b.key.view()));
    block->set_parent(std::string(b.parent.view()));
    block->set_block_index(b.block_index);
    block->set_token_count(b.token_count);
    block->set_run(std::string(b.run.view()));
    block->set_replicas(b.replicas);
  }
  for (const OfferedPart& p : from.parts) {
    v1::OfferedPart* part = to->add_parts();
    part->set_block(p.block);
    part->set_view(p.view);
    part->set_layer_group(p.layer_group);
    part->set_head_group(p.head_group);
    part->set_bytes(p.bytes);
    part->set_root(p.root);
    part->set_grant(p.grant);
    part->set_generation(p.generation);
    part->set_plane(p.plane);
  }
  to->set_deadline_ns(from.deadline.count());
}

absl::StatusOr<OfferRequest> FromProto(const v1::OfferRequest& from) {
  FieldCheck check("OfferRequest");
  OfferRequest to;
  to.session = from.session();
  to.epoch = from.epoch();
  to.shard = from.shard();
  if (!v1::Ack_IsValid(from.ack())) check.Refuse("ack", std::string("unknown level"));
  to.ack = from.ack() == v1::ACK_DURABLE ? Ack::kDurable : Ack::kVolatile;
  check.AtMost("blocks", static_cast<uint64_t>(from.blocks_size()), kPartsPerOfferMax);
  check.AtMost("parts", static_cast<uint64_t>(from.parts_size()), kPartsPerOfferMax);
  to.deadline = check.Time("deadline_ns", from.deadline_ns());
  to.views = ViewsOf(from.views(), check);
  if (!check.ok()) return check.status();
  to.blocks.resize(static_cast<size_t>(from.blocks_size()));
  for (int i = 0; i < from.blocks_size(); ++i) {
    OfferedBlock& block = to.blocks[static_cast<size_t>(i)];
    check.Digest({"blocks", i, "key"}, from.blocks(i).key(), &block.key);
    check.Digest({"blocks", i, "parent"}, from.blocks(i).parent(), &block.parent);
    block.block_index = from.blocks(i).block_index();
    block.token_count = from.blocks(i).token_count();
    if (!from.blocks(i).run().empty()) check.Digest({"blocks", i, "run"}, from.blocks(i).run(), &block.run);
    check.AtMost({"blocks", i, "replicas"}, from.blocks(i).replicas(), kReplicasMax);
    block.replicas = std::max(1u, from.blocks(i).replicas());
  }
  to.parts.resize(static_cast<size_t>(from.parts_size()));
  for (int i = 0; i < from.parts_size() && check.ok(); ++i) {
    OfferedPart& part = to.parts[static_cast<size_t>(i)];
    const v1::OfferedPart& p = from.parts(i);
    check.Below({"parts", i, "block"}, p.block(), to.blocks.size());
    check.Below({"parts", i, "view"}, p.view(), to.views.size());
    check.AtMost({"parts", i, "bytes"}, p.bytes(), kPartBytesMax);
    part.block = p.block();
    part.view = p.view();
    part.bytes = p.bytes();
    part.layer_group = check.Narrow({"parts", i, "layer_group"}, p.layer_group());
    part.head_group = check.Narrow({"parts", i, "head_group"}, p.head_group());
    part.plane = check.Narrow({"parts", i, "plane"}, p.plane());
    part.root = check.Exactly({"parts", i, "root"}, p.root(), kRootBytes);
    part.grant = check.Exactly({"parts", i, "grant"}, p.grant(), RemoteSpan::kEncodedBytes);
    part.generation = p.generation();
  }
  return check.Done(std::move(to));
}

void ToProto(const OfferReply& from, v1::OfferReply* to) {
  for (const absl::Status& part : from.parts) ToProto(part, to->add_parts());
}

absl::StatusOr<OfferReply> FromProto(const v1::OfferReply& from) {
  FieldCheck check("OfferReply");
  OfferReply to;
  if (!check.AtMost("parts", static_cast<uint64_t>(from.parts_size()), kPartsPerOfferMax)) return check.status();
  for (int i = 0; i < from.parts_size(); ++i) to.parts.push_back(StatusOf(from.parts(i), check, {"parts", i}));
  return check.Done(std::move(to));
}

// ---- Acquire --------------------------------------------------------------------------------------------------------

void ToProto(const AcquireRequest& from, v1::AcquireRequest* to) {
  to->set_session(from.session);
  to->set_epoch(from.epoch);
  to->set_shard(from.shard);
  for (const AcquiredRun& r : from.runs) {
    v1::AcquiredRun* run = to->add_runs();
    run->set_first_block(r.first_block);
    KeysToProto(r.keys, run->mutable_keys());
    run->set_run(std::string(r.run.view()));
  }
  for (const std::string& accept : from.accept) to->add_accept(accept);
  to->set_first_layer(from.first_layer);
  to->set_layers(from.layers);
  to->set_first_head(from.first_head);
  to->set_heads(from.heads);
  to->set_match_only(from.match_only);
  to->set_deadline_ns(from.deadline.count());
  to->set_planes(from.planes);
}

absl::StatusOr<AcquireRequest> FromProto(const v1::AcquireRequest& from) {
  FieldCheck check("AcquireRequest");
  AcquireRequest to;
  to.session = from.session();
  to.epoch = from.epoch();
  to.shard = from.shard();
  check.AtMost("runs", static_cast<uint64_t>(from.runs_size()), kBlocksPerAcquireMax);
  check.AtMost("accept", static_cast<uint64_t>(from.accept_size()), kViewsPerCallMax);
  if (!check.ok()) return check.status();
  uint64_t blocks = 0;
  for (const v1::AcquiredRun& run : from.runs()) blocks += static_cast<uint64_t>(run.keys_size());
  if (!check.AtMost("runs.keys", blocks, kBlocksPerAcquireMax)) return check.status();
  for (const v1::AcquiredRun& run : from.runs()) {
    AcquiredRun& added = to.runs.emplace_back(AcquiredRun{run.first_block(), KeysOf(run.keys(), check, "runs.keys"), {}});
    if (!run.run().empty()) check.Digest("runs.run", run.run(), &added.run);
  }
  for (int i = 0; i < from.accept_size(); ++i) {
    to.accept.push_back(check.Bytes({"accept", i}, from.accept(i), View::kNameBytesMax));
  }
  to.first_layer = from.first_layer();
  to.layers = from.layers();
  to.first_head = from.first_head();
  to.heads = from.heads();
  to.match_only = from.match_only();
  to.planes = from.planes();
  to.deadline = check.Time("deadline_ns", from.deadline_ns());
  return check.Done(std::move(to));
}

void ToProto(const AcquireReply& from, v1::AcquireReply* to) {
  to->set_lease(from.lease);
  to->set_lease_for_ns(from.lease_for.count());
  for (const View& view : from.views) to->add_views(view.Encode());
  for (const uint32_t held : from.held) to->add_held(held);
  for (const AcquiredBlock& b : from.blocks) {
    v1::AcquiredBlock* block = to->add_blocks();
    block->set_block_index(b.block_index);
    block->set_token_count(b.token_count);
    block->set_view(b.view);
    if (b.replicas > 0) {
      block->set_parent(std::string(b.parent.view()));
      block->set_replicas(b.replicas);
    }
    for (const PartGrant& part : b.parts) ToProto(part, block->add_parts());
  }
  if (SpeaksWire2()) to->mutable_spread()->Add(from.spread.begin(), from.spread.end());
}

absl::StatusOr<AcquireReply> FromProto(const v1::AcquireReply& from) {
  FieldCheck check("AcquireReply");
  AcquireReply to;
  to.lease = from.lease();
  to.lease_for = check.Time("lease_for_ns", from.lease_for_ns());
  to.views = ViewsOf(from.views(), check);
  check.AtMost("held", static_cast<uint64_t>(from.held_size()), kBlocksPerAcquireMax);
  check.AtMost("blocks", static_cast<uint64_t>(from.blocks_size()), kBlocksPerAcquireMax);
  if (!check.ok()) return check.status();
  to.held.assign(from.held().begin(), from.held().end());
  if (SpeaksWire2() && check.AtMost("spread", static_cast<uint64_t>(from.spread_size()), kBlocksPerAcquireMax)) {
    to.spread.assign(from.spread().begin(), from.spread().end());
  }
  for (int i = 0; i < from.blocks_size() && check.ok(); ++i) {
    const v1::AcquiredBlock& b = from.blocks(i);
    check.Below({"blocks", i, "view"}, b.view(), to.views.size());
    check.AtMost({"blocks", i, "parts"}, static_cast<uint64_t>(b.parts_size()), kWirePartsPerBlockMax);
    if (!check.ok()) break;
    AcquiredBlock& block = to.blocks.emplace_back();
    block.block_index = b.block_index();
    block.token_count = b.token_count();
    block.view = b.view();
    if (b.replicas() > 0) {
      check.AtMost({"blocks", i, "replicas"}, b.replicas(), kReplicasMax);
      check.Digest({"blocks", i, "parent"}, b.parent(), &block.parent);
      block.replicas = b.replicas();
    }
    block.parts.reserve(static_cast<size_t>(b.parts_size()));
    for (int n = 0; n < b.parts_size(); ++n) block.parts.push_back(GrantOf(b.parts(n), check, n));
  }
  return check.Done(std::move(to));
}

// ---- Touch ----------------------------------------------------------------------------------------------------------

void ToProto(const TouchRequest& from, v1::TouchRequest* to) {
  to->set_session(from.session);
  to->set_shard(from.shard);
  to->mutable_renew()->Add(from.renew.begin(), from.renew.end());
  to->mutable_release()->Add(from.release.begin(), from.release.end());
  KeysToProto(from.keep, to->mutable_keep());
  to->set_keep_for_ns(from.keep_for.count());
  KeysToProto(from.drop, to->mutable_drop());
  if (!SpeaksWire2()) return;
  for (const DamagedPart& d : from.damaged) {
    v1::DamagedPart* damaged = to->add_damaged();
    damaged->set_key(std::string(d.key.view()));
    damaged->set_view(d.view.Encode());
    damaged->set_layer_group(d.layer_group);
    damaged->set_head_group(d.head_group);
    damaged->set_plane(d.plane);
  }
}

namespace {

std::vector<DamagedPart> DamagedOf(const v1::TouchRequest& from, FieldCheck& check) {
  std::vector<DamagedPart> damaged;
  if (!check.AtMost("damaged", static_cast<uint64_t>(from.damaged_size()), kDamagedPerTouchMax)) return damaged;
  for (int i = 0; i < from.damaged_size() && check.ok(); ++i) {
    const v1::DamagedPart& d = from.damaged(i);
    DamagedPart& part = damaged.emplace_back();
    check.Digest({"damaged", i, "key"}, d.key(), &part.key);
    part.layer_group = check.Narrow({"damaged", i, "layer_group"}, d.layer_group());
    part.head_group = check.Narrow({"damaged", i, "head_group"}, d.head_group());
    part.plane = check.Narrow({"damaged", i, "plane"}, d.plane());
    absl::StatusOr<View> view = View::Decode(d.view());
    if (view.ok()) part.view = *std::move(view);
    if (!view.ok()) check.Refuse({"damaged", i, "view"}, view.status());
  }
  return damaged;
}

}  // namespace

absl::StatusOr<TouchRequest> FromProto(const v1::TouchRequest& from) {
  FieldCheck check("TouchRequest");
  TouchRequest to;
  to.session = from.session();
  to.shard = from.shard();
  check.AtMost("renew", static_cast<uint64_t>(from.renew_size()), kWireLeasesPerTouchMax);
  check.AtMost("release", static_cast<uint64_t>(from.release_size()), kWireLeasesPerTouchMax);
  if (!check.ok()) return check.status();
  to.renew.assign(from.renew().begin(), from.renew().end());
  to.release.assign(from.release().begin(), from.release().end());
  to.keep = KeysOf(from.keep(), check, "keep");
  to.keep_for = check.Time("keep_for_ns", from.keep_for_ns());
  to.drop = KeysOf(from.drop(), check, "drop");
  if (SpeaksWire2()) to.damaged = DamagedOf(from, check);
  return check.Done(std::move(to));
}

void ToProto(const TouchReply& from, v1::TouchReply* to) {
  to->mutable_gone()->Add(from.gone.begin(), from.gone.end());
}

absl::StatusOr<TouchReply> FromProto(const v1::TouchReply& from) {
  FieldCheck check("TouchReply");
  TouchReply to;
  if (!check.AtMost("gone", static_cast<uint64_t>(from.gone_size()), kWireLeasesPerTouchMax)) return check.status();
  to.gone.assign(from.gone().begin(), from.gone().end());
  return to;
}

// ---- Object ---------------------------------------------------------------------------------------------------------

void ToProto(const ObjectRequest& from, v1::ObjectRequest* to) {
  to->set_session(from.session);
  to->set_name(from.name);
  to->set_put(from.put);
  to->set_version(from.version);
  to->set_value(from.value);
}

absl::StatusOr<ObjectRequest> FromProto(const v1::ObjectRequest& from) {
  FieldCheck check("ObjectRequest");
  ObjectRequest to;
  to.session = from.session();
  to.name = check.Bytes("name", from.name(), kObjectNameBytesMax);
  if (to.name.empty()) check.Refuse("name", std::string("is empty"));
  to.put = from.put();
  to.version = from.version();
  to.value = check.Bytes("value", from.value(), kObjectBytesMax);
  return check.Done(std::move(to));
}

void ToProto(const ObjectReply& from, v1::ObjectReply* to) {
  to->set_version(from.version);
  to->set_value(from.value);
}

absl::StatusOr<ObjectReply> FromProto(const v1::ObjectReply& from) {
  FieldCheck check("ObjectReply");
  return check.Done(ObjectReply{from.version(), check.Bytes("value", from.value(), kObjectBytesMax)});
}

// ---- Watch ----------------------------------------------------------------------------------------------------------

namespace {

void Put(const MembershipChanged& from, v1::WatchEvent* to) { ToProto(from.membership, to->mutable_membership()); }
void Put(const PartsReady& from, v1::WatchEvent* to) {
  v1::PartsReady* ready = to->mutable_parts_ready();
  ready->set_lease(from.lease);
  for (const PartsReady::Ready& r : from.parts) {
    v1::ReadyPart* part = ready->add_parts();
    part->set_block_index(r.block_index);
    ToProto(r.part, part->mutable_part());
    ToProto(r.status, part->mutable_outcome());
    part->set_key(std::string(r.key.view()));
  }
}
void Put(const LeaseRevoked& from, v1::WatchEvent* to) {
  to->mutable_lease_revoked()->set_lease(from.lease);
  to->mutable_lease_revoked()->set_reason(Utf8(from.reason));
}

absl::StatusOr<WatchEvent> ReadyOf(const v1::PartsReady& from) {
  FieldCheck check("PartsReady");
  PartsReady to;
  to.lease = from.lease();
  if (!check.AtMost("parts", static_cast<uint64_t>(from.parts_size()), kWirePartsPerEventMax)) return check.status();
  for (int i = 0; i < from.parts_size() && check.ok(); ++i) {
    const v1::ReadyPart& r = from.parts(i);
    PartGrant part = GrantOf(r.part(), check, i);
    to.parts.push_back({r.block_index(), std::move(part), StatusOf(r.outcome(), check, {"parts", i, "outcome"}), {}});
    if (!r.key().empty()) check.Digest({"parts", i, "key"}, r.key(), &to.parts.back().key);
  }
  return check.Done(WatchEvent(std::move(to)));
}

}  // namespace

void ToProto(const WatchEvent& from, v1::WatchEvent* to) {
  std::visit([to](const auto& event) { Put(event, to); }, from);
}

absl::StatusOr<WatchEvent> FromProto(const v1::WatchEvent& from) {
  FieldCheck check("WatchEvent");
  switch (from.event_case()) {
    case v1::WatchEvent::kMembership: {
      absl::StatusOr<Membership> membership = FromProto(from.membership());
      if (!membership.ok()) return membership.status();
      return WatchEvent(MembershipChanged{*std::move(membership)});
    }
    case v1::WatchEvent::kPartsReady: return ReadyOf(from.parts_ready());
    case v1::WatchEvent::kLeaseRevoked:
      return check.Done(WatchEvent(LeaseRevoked{
          from.lease_revoked().lease(), check.Bytes("reason", from.lease_revoked().reason(), kWireTextBytesMax)}));
    case v1::WatchEvent::EVENT_NOT_SET: break;
  }
  check.Refuse("event", std::string("none, or one that this build does not know"));
  return check.status();
}

}  // namespace kvasir
