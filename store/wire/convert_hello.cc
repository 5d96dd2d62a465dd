// SPDX-License-Identifier: Apache-2.0
// Hello, and what it is answered with.
#include "store/wire/convert.h"
#include "store/wire/field_check.h"
#include "store/wire/kvasir.pb.h"
#include "transport/transport.h"

namespace kvasir {

void ToProto(const HelloRequest& from, v1::HelloRequest* to) {
  to->set_wire_min(from.wire_min);
  to->set_wire_max(from.wire_max);
  to->set_client(Utf8(from.client));
  to->set_tenant(from.tenant);
  to->set_domain(std::string(from.domain.view()));
  to->set_namespace_(from.ns.Encode());
  to->set_peer(Utf8(from.peer));
}

absl::StatusOr<HelloRequest> FromProto(const v1::HelloRequest& from) {
  FieldCheck check("HelloRequest");
  HelloRequest to;
  to.wire_min = from.wire_min();
  to.wire_max = from.wire_max();
  check.AtMost("wire_min", to.wire_min, to.wire_max);
  to.client = check.Bytes("client", from.client(), kWireTextBytesMax);
  to.tenant = check.Bytes("tenant", from.tenant(), kWireNameBytesMax);
  check.Digest("domain", from.domain(), &to.domain);
  to.peer = check.Bytes("peer", from.peer(), kWireNameBytesMax);
  if (!check.ok()) return check.status();
  absl::StatusOr<Namespace> ns = Namespace::Decode(from.namespace_());
  if (!ns.ok()) check.Refuse("namespace", ns.status());
  if (ns.ok()) to.ns = *std::move(ns);
  return check.Done(std::move(to));
}

void ToProto(const HelloReply& from, v1::HelloReply* to) {
  to->set_wire(from.wire);
  to->set_session(from.session);
  to->set_credentials(from.credentials);
  to->set_node_id(Utf8(from.node_id));
  to->set_server_version(Utf8(from.server_version));
  to->set_incarnation(from.incarnation);
  for (const DataAddress& address : from.data) {
    v1::DataAddress* data = to->add_data();
    data->set_shard(address.shard);
    data->set_transport(Utf8(address.transport));
    data->set_address(Utf8(address.address));
  }
  ToProto(from.membership, to->mutable_membership());
  to->set_run_blocks(from.run_blocks);
  to->set_session_ttl_ns(from.session_ttl.count());
  to->set_lease_ns(from.lease.count());
  to->set_warning(Utf8(from.warning));
}

absl::StatusOr<HelloReply> FromProto(const v1::HelloReply& from) {
  FieldCheck check("HelloReply");
  HelloReply to;
  to.wire = from.wire();
  to.session = from.session();
  to.credentials = check.Bytes("credentials", from.credentials(), kCredentialsBytesMax);
  to.node_id = check.Bytes("node_id", from.node_id(), kWireNameBytesMax);
  to.server_version = check.Bytes("server_version", from.server_version(), kWireTextBytesMax);
  to.incarnation = from.incarnation();
  if (!check.AtMost("data", static_cast<uint64_t>(from.data_size()), kWireDataAddressesMax)) return check.status();
  for (int i = 0; i < from.data_size(); ++i) {
    const v1::DataAddress& data = from.data(i);
    to.data.push_back({data.shard(), check.Bytes({"data", i, "transport"}, data.transport(), kWireNameBytesMax),
                       check.Bytes({"data", i, "address"}, data.address(), kWireAddressBytesMax)});
  }
  absl::StatusOr<Membership> membership = FromProto(from.membership());
  if (!membership.ok()) check.Refuse("membership", membership.status());
  if (membership.ok()) to.membership = *std::move(membership);
  to.run_blocks = from.run_blocks();
  if (to.run_blocks == 0) check.Refuse("run_blocks", std::string("is 0"));
  to.session_ttl = check.Time("session_ttl_ns", from.session_ttl_ns());
  to.lease = check.Time("lease_ns", from.lease_ns());
  to.warning = check.Bytes("warning", from.warning(), kWireTextBytesMax);
  return check.Done(std::move(to));
}

}  // namespace kvasir
