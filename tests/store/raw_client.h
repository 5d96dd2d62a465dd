// SPDX-License-Identifier: Apache-2.0
// RawClient: the smallest client of a node: one session, one data connection, parts by hand. It knows the calls and the
// bytes and nothing of client/, so that the node is tested against the contract alone.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "kernels/codec.h"
#include "store/api/prefix_chain.h"
#include "store/node.h"
#include "transport/transport.h"

namespace kvasir::testing {

inline Namespace TestNamespace() {
  Namespace ns;
  ns.name = "raw";
  ns.weights.bytes[0] = 7;
  ns.layout = {2, 2, 16, 16, ElementType::kBfloat16};
  ns.block_tokens = 32;
  return ns;
}

/// Options of a one-node cluster.
inline NodeOptions TestNode(const std::string& transport, const std::string& ssd_directory = "") {
  NodeOptions options;
  options.id = "n0";
  options.membership.epoch = 1;
  options.membership.members = {{"n0", "nowhere", 1, 100, ""}};
  options.dram_bytes = 16 << 20;
  options.transports = {transport};
  if (!ssd_directory.empty()) {
    options.ssd.emplace();
    options.ssd->directory = ssd_directory;
    options.ssd->bytes_max = 64 << 20;
    options.ssd->segment_bytes = 4 << 20;
  }
  return options;
}

class RawClient {
 public:
  RawClient(StoreApi& store, const std::string& transport, Namespace ns = TestNamespace(), uint8_t domain = 1)
      : ns_(std::move(ns)), store_(store), loop_("raw-client") {
    domain_.bytes[0] = domain;
    hello = Call<HelloReply>([&](Answer<HelloReply> done) {
      HelloRequest r;
      r.client = "raw";
      r.tenant = "t";
      r.domain = domain_.Id();
      r.ns = ns_;
      store_.Hello(std::move(r), std::chrono::seconds(5), std::move(done));
    });
    if (!hello.ok()) return;
    memory_ = *SharedMemory::Create(1 << 20, "raw-client");
    std::promise<absl::Status> dialled;
    loop_.loop().Post([&] {
      transport_ = *MakeTransport(transport, loop_.loop(), {});
      region_ = *transport_->Register(memory_.span());
      ConnectOptions options{hello->incarnation, hello->credentials, hello->session, loop_.loop().Now() + std::chrono::seconds(5)};
      transport_->Connect(hello->data.at(0).address, options, [&](absl::StatusOr<std::unique_ptr<Connection>> c) {
        if (c.ok()) connection_ = *std::move(c);
        dialled.set_value(c.status());
      });
    });
    connected = dialled.get_future().get();
  }
  ~RawClient() {
    loop_.Call([&] {
      if (connection_ != nullptr) connection_->Close();
      connection_.reset();
      transport_.reset();
      region_.reset();
    });
  }

  template <class T>
  static absl::StatusOr<T> Call(absl::AnyInvocable<void(Answer<T>)> start) {
    auto promise = std::make_shared<std::promise<absl::StatusOr<T>>>();
    start([promise](absl::StatusOr<T> answer) { promise->set_value(std::move(answer)); });
    return promise->get_future().get();
  }

  PrefixChain Chain(uint32_t seed, uint32_t blocks) const {
    std::vector<uint32_t> tokens(blocks * ns_.block_tokens);
    for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = seed * 1000003u + i;
    return PrefixChain::FromTokens(domain_, ns_, tokens);
  }
  /// A whole raw part of block `block` of `chain`: its bytes follow from its name alone.
  std::vector<std::byte> MakePart(const PrefixChain& chain, uint32_t block, uint32_t layer, uint32_t head) const {
    const View view = *View::Make("raw", 1, 1);
    const PartGeometry geometry = view.Geometry(ns_.layout, layer, head, block, ns_.block_tokens);
    const uint64_t frame_bytes = ShapeOfFrame(ns_.layout, geometry, KvTensor::kKey).bytes();
    std::vector<FrameEntry> directory(2);
    const uint64_t frames = FramesOffset(static_cast<uint32_t>(view.spec.size()), 2);
    std::vector<std::byte> part(frames + 2 * frame_bytes);
    for (size_t i = frames; i < part.size(); ++i) {
      part[i] = static_cast<std::byte>(chain[block].bytes[i % 32] + i / 32 + layer * 3 + head * 5);
    }
    for (uint32_t f = 0; f < 2; ++f) {
      const auto bytes = std::span<const std::byte>(part).subspan(frames + f * frame_bytes, frame_bytes);
      directory[f] = {static_cast<uint32_t>(f * frame_bytes), static_cast<uint32_t>(frame_bytes), Crc32c(bytes), 0};
    }
    PartHeader h;
    std::memcpy(h.key, chain[block].bytes.data(), 32);
    std::memcpy(h.namespace_digest, ns_.Digest().bytes.data(), 32);
    std::memcpy(h.view_digest, view.Digest().bytes.data(), 32);
    h.first_layer = static_cast<uint16_t>(geometry.first_layer);
    h.layers = static_cast<uint16_t>(geometry.layers);
    h.first_head = static_cast<uint16_t>(geometry.first_head);
    h.heads = static_cast<uint16_t>(geometry.heads);
    h.layer_group = static_cast<uint16_t>(layer);
    h.head_group = static_cast<uint16_t>(head);
    h.block_index = block;
    h.token_count = ns_.block_tokens;
    SealHeader(h, view.spec, directory, 2 * frame_bytes, part);
    return part;
  }

  /// Offers all four parts of a block; `damage` may change one part's bytes after its root was told.
  absl::StatusOr<OfferReply> Offer(const PrefixChain& chain, uint32_t block, Ack ack = Ack::kVolatile,
                                   const std::function<void(std::vector<std::byte>&)>& damage = nullptr) {
    OfferRequest r;
    r.session = hello->session;
    r.epoch = hello->membership.Find(hello->node_id)->epoch;
    r.ack = ack;
    r.deadline = offer_deadline;
    r.views = {*View::Make("raw", 1, 1)};
    r.blocks = {{chain[block], chain.Parent(block), block, ns_.block_tokens}};
    uint64_t offset = 0;
    for (uint16_t layer = 0; layer < 2; ++layer) {
      for (uint16_t head = 0; head < 2; ++head) {
        std::vector<std::byte> part = MakePart(chain, block, layer, head);
        std::string root(reinterpret_cast<const char*>(part.data()) + offsetof(PartHeader, root), 16);
        if (damage && layer == 1 && head == 1) damage(part);
        std::memcpy(memory_.data() + offset, part.data(), part.size());
        RemoteSpan span;
        loop_.Call([&] { span = region_->Grant(hello->session, offset, part.size()); });
        r.parts.push_back({0, 0, layer, head, part.size(), root, span.Encode()});
        offset += part.size();
      }
    }
    return Call<OfferReply>([&](Answer<OfferReply> done) { store_.Offer(r, std::chrono::seconds(5), std::move(done)); });
  }
  absl::StatusOr<AcquireReply> Acquire(const PrefixChain& chain, bool match_only = false) {
    AcquireRequest r;
    r.session = hello->session;
    r.epoch = hello->membership.Find(hello->node_id)->epoch;
    r.runs = {{0, {chain.keys().begin(), chain.keys().end()}}};
    r.accept = {"lossless"};
    r.layers = r.heads = 2;
    r.match_only = match_only;
    r.deadline = std::chrono::seconds(2);
    return Call<AcquireReply>([&](Answer<AcquireReply> done) { store_.Acquire(r, std::chrono::seconds(5), std::move(done)); });
  }
  absl::StatusOr<TouchReply> Release(uint64_t lease) {
    TouchRequest r;
    r.session = hello->session;
    r.release = {lease};
    return Call<TouchReply>([&](Answer<TouchReply> done) { store_.Touch(r, std::chrono::seconds(5), std::move(done)); });
  }
  /// Pulls one granted part.
  absl::StatusOr<std::vector<std::byte>> Pull(const PartGrant& part) {
    std::vector<std::byte> into(part.bytes);
    const auto span = RemoteSpan::Decode(part.grant);
    if (!span.ok()) return span.status();
    std::promise<absl::Status> pulled;
    loop_.loop().Post([&] {
      const Piece piece{into, *span};
      connection_->Pull({&piece, 1}, loop_.loop().Now() + std::chrono::seconds(5), [&](PullResult r) { pulled.set_value(std::move(r.status)); });
    });
    const absl::Status status = pulled.get_future().get();
    if (!status.ok()) return status;
    return into;
  }
  void HangUp() {
    loop_.Call([&] { connection_->Close(); });
  }

  absl::StatusOr<HelloReply> hello = absl::UnknownError("not said");
  absl::Status connected = absl::UnknownError("not dialled");
  Duration offer_deadline = std::chrono::seconds(5);

 private:
  Namespace ns_;
  StoreApi& store_;
  DomainKey domain_;
  SharedMemory memory_;
  std::unique_ptr<MemoryRegion> region_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<Connection> connection_;
  LoopThread loop_;
};

}  // namespace kvasir::testing
