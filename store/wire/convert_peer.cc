// SPDX-License-Identifier: Apache-2.0
// The messages of service Peer.
#include <algorithm>

#include "store/wire/convert.h"
#include "store/wire/field_check.h"
#include "store/wire/kvasir.pb.h"

namespace kvasir {

void ToProto(const ProbeRequest& from, v1::ProbeRequest* to) {
  to->set_from(Utf8(from.from));
  to->set_epoch(from.epoch);
}

absl::StatusOr<ProbeRequest> FromProto(const v1::ProbeRequest& from) {
  FieldCheck check("ProbeRequest");
  return check.Done(ProbeRequest{check.Bytes("from", from.from(), kWireNameBytesMax), from.epoch()});
}

void ToProto(const ProbeReply& from, v1::ProbeReply* to) {
  to->set_node_id(Utf8(from.node_id));
  to->set_epoch(from.epoch);
  to->set_state(static_cast<v1::MemberState>(from.state));
  to->set_ready(from.ready);
  to->set_gathered_epoch(from.gathered_epoch);
}

absl::StatusOr<ProbeReply> FromProto(const v1::ProbeReply& from) {
  FieldCheck check("ProbeReply");
  ProbeReply to;
  to.node_id = check.Bytes("node_id", from.node_id(), kWireNameBytesMax);
  to.epoch = from.epoch();
  if (!v1::MemberState_IsValid(from.state())) check.Refuse("state", std::string("unknown"));
  to.state = static_cast<MemberState>(from.state());
  to.ready = from.ready();
  to.gathered_epoch = from.gathered_epoch();
  return check.Done(std::move(to));
}

void ToProto(const InventoryRequest& from, v1::InventoryRequest* to) {
  to->set_from(Utf8(from.from));
  to->set_epoch(from.epoch);
  to->set_shard(from.shard);
  to->set_after(from.after);
  to->set_limit(from.limit);
  to->set_done(from.done);
  to->set_for_shard(from.for_shard);
  to->set_wanted_bytes(from.wanted_bytes);
  to->set_got_bytes(from.got_bytes);
}

absl::StatusOr<InventoryRequest> FromProto(const v1::InventoryRequest& from) {
  FieldCheck check("InventoryRequest");
  InventoryRequest to;
  to.from = check.Bytes("from", from.from(), kWireNameBytesMax);
  to.epoch = from.epoch();
  to.shard = from.shard();
  to.after = check.Bytes("after", from.after(), kWireCursorBytesMax);
  check.AtMost("limit", from.limit(), kRunsPerInventoryMax);
  to.limit = from.limit();
  to.done = from.done();
  to.for_shard = from.for_shard();
  to.wanted_bytes = from.wanted_bytes();
  to.got_bytes = from.got_bytes();
  return check.Done(std::move(to));
}

void ToProto(const InventoryReply& from, v1::InventoryReply* to) {
  to->set_epoch(from.epoch);
  for (const DomainId& domain : from.domains) to->add_domains(std::string(domain.view()));
  for (const Namespace& ns : from.namespaces) to->add_namespaces(ns.Encode());
  for (const View& view : from.views) to->add_views(view.Encode());
  for (const InventoryBlock& b : from.blocks) {
    v1::InventoryBlock* block = to->add_blocks();
    block->set_domain(b.domain);
    block->set_namespace_(b.ns);
    block->set_view(b.view);
    block->set_key(std::string(b.key.view()));
    block->set_parent(std::string(b.parent.view()));
    block->set_run(std::string(b.run.view()));
    block->set_block_index(b.block_index);
    block->set_token_count(b.token_count);
    block->set_replicas(b.replicas);
    block->set_durable(b.durable);
    block->set_bytes(b.bytes);
    block->set_planes(b.planes);
  }
  to->set_next(from.next);
}

namespace {

/// Decodes each entry of a table; a bad one refuses the message.
template <class T>
void TableOf(const google::protobuf::RepeatedPtrField<std::string>& from, FieldCheck& check, const char* field,
             std::vector<T>* to) {
  if (!check.AtMost(field, static_cast<uint64_t>(from.size()), kWireInventoryTableMax)) return;
  for (int i = 0; i < from.size() && check.ok(); ++i) {
    absl::StatusOr<T> decoded = T::Decode(from[i]);
    if (decoded.ok()) to->push_back(*std::move(decoded));
    if (!decoded.ok()) check.Refuse({field, i}, decoded.status());
  }
}

void BlockOf(const v1::InventoryBlock& from, FieldCheck& check, int i, InventoryReply& to) {
  InventoryBlock& block = to.blocks.emplace_back();
  check.Below({"blocks", i, "domain"}, from.domain(), to.domains.size());
  check.Below({"blocks", i, "namespace"}, from.namespace_(), to.namespaces.size());
  check.Below({"blocks", i, "view"}, from.view(), to.views.size());
  check.Digest({"blocks", i, "key"}, from.key(), &block.key);
  check.Digest({"blocks", i, "parent"}, from.parent(), &block.parent);
  check.Digest({"blocks", i, "run"}, from.run(), &block.run);
  check.AtMost({"blocks", i, "replicas"}, from.replicas(), kReplicasMax);
  block.domain = from.domain();
  block.ns = from.namespace_();
  block.view = from.view();
  block.block_index = from.block_index();
  block.token_count = from.token_count();
  block.replicas = std::max(1u, from.replicas());
  block.durable = from.durable();
  block.bytes = from.bytes();
  block.planes = std::max(1u, from.planes());
}

}  // namespace

absl::StatusOr<InventoryReply> FromProto(const v1::InventoryReply& from) {
  FieldCheck check("InventoryReply");
  InventoryReply to;
  to.epoch = from.epoch();
  if (check.AtMost("domains", static_cast<uint64_t>(from.domains_size()), kWireInventoryTableMax)) {
    to.domains.resize(static_cast<size_t>(from.domains_size()));
  }
  for (size_t i = 0; i < to.domains.size(); ++i) {
    check.Digest({"domains", static_cast<int>(i)}, from.domains(static_cast<int>(i)), &to.domains[i]);
  }
  TableOf(from.namespaces(), check, "namespaces", &to.namespaces);
  TableOf(from.views(), check, "views", &to.views);
  check.AtMost("blocks", static_cast<uint64_t>(from.blocks_size()), kWireInventoryBlocksMax);
  for (int i = 0; i < from.blocks_size() && check.ok(); ++i) BlockOf(from.blocks(i), check, i, to);
  to.next = check.Bytes("next", from.next(), kWireCursorBytesMax);
  return check.Done(std::move(to));
}

void ToProto(const SuggestRequest& from, v1::SuggestRequest* to) {
  to->set_from(Utf8(from.from));
  to->set_epoch(from.epoch);
  to->set_shard(from.shard);
  ToProto(from.runs, to->mutable_runs());
}

absl::StatusOr<SuggestRequest> FromProto(const v1::SuggestRequest& from) {
  FieldCheck check("SuggestRequest");
  SuggestRequest to;
  to.from = check.Bytes("from", from.from(), kWireNameBytesMax);
  to.epoch = from.epoch();
  to.shard = from.shard();
  absl::StatusOr<InventoryReply> runs = FromProto(from.runs());
  if (!runs.ok()) check.Refuse("runs", runs.status());
  if (runs.ok()) to.runs = *std::move(runs);
  return check.Done(std::move(to));
}

void ToProto(const SuggestReply& from, v1::SuggestReply* to) { to->set_taken(from.taken); }

absl::StatusOr<SuggestReply> FromProto(const v1::SuggestReply& from) { return SuggestReply{from.taken()}; }

}  // namespace kvasir
