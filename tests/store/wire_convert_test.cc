// SPDX-License-Identifier: Apache-2.0
// Goal: no message from outside is believed beyond its limits, and a refusal names the field. Method: a good message,
// one thing made wrong in each.
#include <gtest/gtest.h>

#include "store/wire/convert.h"
#include "store/wire/field_check.h"
#include "store/wire/kvasir.pb.h"
#include "tests/store/wire_samples.h"
#include "tests/support/seed.h"

namespace kvasir::testing {
namespace {

/// A message of the wire, filled from a random value that passes.
template <class Value, class Proto>
Proto Good(bool (*enough)(const Proto&)) {
  auto rng = Rng(1);
  for (;;) {
    Proto proto;
    ToProto(Sample<Value>(rng), &proto);
    if (enough(proto)) return proto;
  }
}

template <class Proto, class Change>
std::string Refusal(Proto proto, Change change) {
  change(&proto);
  const auto value = FromProto(proto);
  if (value.ok()) return "accepted";
  EXPECT_EQ(value.status().code(), absl::StatusCode::kInvalidArgument) << value.status();
  return std::string(value.status().message());
}

TEST(WireConvert, Hello) {
  using P = v1::HelloRequest;
  const P good = Good<HelloRequest, P>([](const P&) { return true; });
  EXPECT_EQ(Refusal(good, [](P*) {}), "accepted");
  EXPECT_EQ(Refusal(good, [](P* p) { p->set_wire_min(5), p->set_wire_max(4); }),
            "HelloRequest: wire_min: 5, at most 4");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_tenant()->resize(129); }),
            "HelloRequest: tenant: 129 bytes, at most 128");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_client()->assign(1025, 'x'); }),
            "HelloRequest: client: 1025 bytes, at most 1024");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_domain()->pop_back(); }), "HelloRequest: domain: 31 bytes, must be 32");
  EXPECT_EQ(Refusal(good, [](P* p) { p->clear_namespace_(); }),
            "HelloRequest: namespace: namespace: schema: missing or cut off");
}

TEST(WireConvert, Offer) {
  using P = v1::OfferRequest;
  const P good = Good<OfferRequest, P>([](const P& p) { return p.parts_size() > 2 && p.blocks_size() > 1; });
  EXPECT_EQ(Refusal(good, [](P*) {}), "accepted");
  EXPECT_EQ(Refusal(good, [](P* p) { p->set_ack(static_cast<v1::Ack>(7)); }), "OfferRequest: ack: unknown level");
  EXPECT_EQ(Refusal(good, [](P* p) { p->set_deadline_ns(-1); }),
            "OfferRequest: deadline_ns: -1 ns, must be 0 to 316224000000000000");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_blocks(1)->clear_key(); }),
            "OfferRequest: blocks[1].key: 0 bytes, must be 32");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_blocks(0)->mutable_parent()->push_back('x'); }),
            "OfferRequest: blocks[0].parent: 33 bytes, must be 32");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_parts(2)->set_block(9); })
                .rfind("OfferRequest: parts[2].block: 9, must be below ", 0), 0u);
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_parts(0)->set_view(~0u); })
                .rfind("OfferRequest: parts[0].view: 4294967295, must be below ", 0), 0u);
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_parts(1)->set_layer_group(65536); }),
            "OfferRequest: parts[1].layer_group: 65536, at most 65535");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_parts(1)->set_plane(65536); }),
            "OfferRequest: parts[1].plane: 65536, at most 65535");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_parts(1)->set_bytes(~0ull); }),
            "OfferRequest: parts[1].bytes: 18446744073709551615, at most 1073741824");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_parts(1)->clear_root(); }),
            "OfferRequest: parts[1].root: 0 bytes, must be 16");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_parts(1)->mutable_grant()->resize(41); }),
            "OfferRequest: parts[1].grant: 41 bytes, must be 40");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_blocks(1)->set_run("x"); }), "OfferRequest: blocks[1].run: 1 bytes, must be 32");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_blocks(1)->set_replicas(17); }), "OfferRequest: blocks[1].replicas: 17, at most 16");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_blocks(1)->clear_run(), p->mutable_blocks(1)->clear_replicas(); }), "accepted")
      << "as an older client sends it";
  EXPECT_EQ(Refusal(good, [](P* p) { *p->mutable_views(0) = "x"; }),
            "OfferRequest: views[0]: view: spec: missing or cut off");
  EXPECT_EQ(Refusal(good, [](P* p) { while (p->views_size() < 65) p->add_views(); }),
            "OfferRequest: views: 65, at most 64");
  EXPECT_EQ(Refusal(good, [](P* p) { while (p->blocks_size() < 4097) p->add_blocks(); }),
            "OfferRequest: blocks: 4097, at most 4096");
}

TEST(WireConvert, Acquire) {
  using P = v1::AcquireRequest;
  const P good = Good<AcquireRequest, P>([](const P& p) { return p.runs_size() > 0 && p.accept_size() > 0; });
  EXPECT_EQ(Refusal(good, [](P*) {}), "accepted");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_accept(0)->resize(578); }),
            "AcquireRequest: accept[0]: 578 bytes, at most 577");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_runs(0)->add_keys("short"); })
                .rfind("AcquireRequest: runs.keys[", 0), 0u);
  EXPECT_EQ(Refusal(good, [](P* p) {
              p->clear_runs();
              for (int i = 0; i < 2; ++i) {
                v1::AcquiredRun* run = p->add_runs();
                while (run->keys_size() < 10000) run->add_keys();
              }
            }), "AcquireRequest: runs.keys: 20000, at most 16384");
}

TEST(WireConvert, AcquireReply) {
  using P = v1::AcquireReply;
  const P good = Good<AcquireReply, P>([](const P& p) { return p.blocks_size() > 1 && p.blocks(1).parts_size() > 1; });
  EXPECT_EQ(Refusal(good, [](P*) {}), "accepted");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_blocks(1)->set_view(64); })
                .rfind("AcquireReply: blocks[1].view: 64, must be below ", 0), 0u);
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_blocks(1)->mutable_parts(1)->set_grant("x"); }),
            "AcquireReply: parts[1].grant: 1 bytes, must be 40");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_blocks(1)->mutable_parts(1)->set_plane(1u << 16); }),
            "AcquireReply: parts[1].plane: 65536, at most 65535");
}

TEST(WireConvert, TouchObjectListDrainAndEvents) {
  v1::TouchRequest touch;
  touch.add_keep("x");
  EXPECT_EQ(Refusal(touch, [](auto*) {}), "TouchRequest: keep[0]: 1 bytes, must be 32");
  touch.Clear();
  touch.mutable_renew()->Resize(16385, 1);
  EXPECT_EQ(Refusal(touch, [](auto*) {}), "TouchRequest: renew: 16385, at most 16384");
  v1::ObjectRequest object;
  EXPECT_EQ(Refusal(object, [](auto*) {}), "ObjectRequest: name: is empty");
  EXPECT_EQ(Refusal(object, [](auto* p) { p->mutable_name()->resize(257); }),
            "ObjectRequest: name: 257 bytes, at most 256");
  EXPECT_EQ(Refusal(object, [](auto* p) { p->set_name("x"), p->mutable_value()->resize((1 << 20) + 1); }),
            "ObjectRequest: value: 1048577 bytes, at most 1048576");
  v1::ListRequest list;
  EXPECT_EQ(Refusal(list, [](auto* p) { p->set_key_prefix("xyz"); }), "ListRequest: key_prefix: is not hexadecimal");
  EXPECT_EQ(Refusal(list, [](auto* p) { p->set_limit(10001); }), "ListRequest: limit: 10001, at most 10000");
  EXPECT_EQ(Refusal(v1::DrainRequest(), [](auto* p) { p->set_wait_ns(INT64_MIN); })
                .rfind("DrainRequest: wait_ns: ", 0), 0u);
  EXPECT_EQ(Refusal(v1::WatchEvent(), [](auto*) {}), "WatchEvent: event: none, or one that this build does not know");
  v1::PartsReady ready;
  v1::WatchEvent event;
  event.mutable_parts_ready()->add_parts()->mutable_outcome()->set_code(17);
  EXPECT_EQ(Refusal(event, [](auto*) {}), "PartsReady: parts[0].outcome: 17, at most 16");
}

TEST(WireConvert, Peers) {
  using P = v1::InventoryReply;
  const P good = Good<InventoryReply, P>([](const P& p) { return p.blocks_size() > 1; });
  EXPECT_EQ(Refusal(good, [](P*) {}), "accepted");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_blocks(1)->set_namespace_(9); }).rfind("InventoryReply: blocks[1].namespace: 9, must be below ", 0), 0u);
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_blocks(0)->clear_run(); }), "InventoryReply: blocks[0].run: 0 bytes, must be 32");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_blocks(0)->set_replicas(17); }), "InventoryReply: blocks[0].replicas: 17, at most 16");
  EXPECT_EQ(Refusal(good, [](P* p) { p->mutable_domains(0)->pop_back(); }), "InventoryReply: domains[0]: 31 bytes, must be 32");
  EXPECT_EQ(Refusal(good, [](P* p) { p->set_next(std::string(257, 'x')); }), "InventoryReply: next: 257 bytes, at most 256");
  v1::InventoryRequest request;
  EXPECT_EQ(Refusal(request, [](auto* p) { p->set_limit(4097); }), "InventoryRequest: limit: 4097, at most 4096");
  v1::SuggestRequest suggest;
  *suggest.mutable_runs() = good;
  EXPECT_EQ(Refusal(suggest, [](auto* p) { p->mutable_runs()->mutable_blocks(0)->set_view(99); })
                .rfind("SuggestRequest: runs: InventoryReply: blocks[0].view: 99, must be below ", 0), 0u);
  v1::ProbeReply probe;
  EXPECT_EQ(Refusal(probe, [](auto* p) { p->set_state(static_cast<v1::MemberState>(4)); }), "ProbeReply: state: unknown");
  v1::TouchRequest touch;
  touch.add_damaged()->set_key(std::string(32, 'k'));
  EXPECT_EQ(Refusal(touch, [](auto*) {}), "TouchRequest: damaged[0].view: view: spec: missing or cut off");
  EXPECT_EQ(Refusal(touch, [](auto* p) { while (p->damaged_size() < 65) p->add_damaged(); }), "TouchRequest: damaged: 65, at most 64");
}

/// What speakers without planes send: plane 0 of a cell, all that are there, one plane of a view.
TEST(WireConvert, NoPlaneMeansPlaneZero) {
  v1::OfferRequest offer;
  ToProto(OfferRequest{.views = {*View::Make("raw")},
                       .blocks = {{}},
                       .parts = {{.root = std::string(16, 'r'), .grant = std::string(40, 'g')}}},
          &offer);
  EXPECT_EQ(offer.parts(0).ByteSizeLong(), [&] {
    v1::OfferedPart old = offer.parts(0);
    old.clear_plane();
    return old.ByteSizeLong();
  }()) << "plane 0 is no byte on the wire";
  EXPECT_EQ(FromProto(offer)->parts[0].plane, 0);
  EXPECT_EQ(FromProto(v1::AcquireRequest())->planes, 0u);
  v1::ListReply list;
  list.add_blocks()->set_key(std::string(32, 'k'));
  list.mutable_blocks(0)->set_parent(std::string(32, 'p'));
  EXPECT_EQ(FromProto(list)->blocks[0].planes_of, 1u);
  InventoryReply told;
  told.domains.resize(1);
  told.namespaces.resize(1);
  told.namespaces[0].name = "small";
  told.namespaces[0].layout = {2, 2, 64, 64, ElementType::kBfloat16};
  told.namespaces[0].block_tokens = 32;
  told.views = {*View::Make("raw")};
  told.blocks.resize(1);
  v1::InventoryReply inventory;
  ToProto(told, &inventory);
  inventory.mutable_blocks(0)->clear_planes();
  const auto read = FromProto(inventory);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->blocks[0].planes, 1u);
}

TEST(WireConvert, TextIsMadeValid) {
  EXPECT_EQ(Utf8("plain ß € 🐉"), "plain ß € 🐉");
  EXPECT_EQ(Utf8("\xff" "a\xc0\x80" "b\xed\xa0\x80" "c\xf4\x90\x80\x80" "d\xe2\x82"), "?a??b???c????d??");
  EXPECT_EQ(Utf8(std::string(5000, 'x')), std::string(1024, 'x'));
  std::string cut(1023, 'x');
  cut.append("ß");  // its two bytes straddle the limit
  EXPECT_EQ(Utf8(cut), cut.substr(0, 1023));
  EXPECT_EQ(Utf8(""), "");
}

}  // namespace
}  // namespace kvasir::testing
