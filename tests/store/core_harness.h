// SPDX-License-Identifier: Apache-2.0
// CoreHarness: a shell without I/O around ShardCore. Bytes are strings kept by slab range, the disk is a map, and every
// operation the core starts waits in `open` until the test ends it, well or badly. After every step it checks what must
// always hold: no two extents overlap, a leased range keeps its content until the lease is quiet, a readable part holds the
// bytes its key promises.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "store/core.h"

namespace kvasir::testing {

inline BlockKey KeyOf(uint32_t n) {
  BlockKey key;
  for (size_t i = 0; i < key.bytes.size(); ++i) key.bytes[i] = static_cast<uint8_t>((n * 2654435761u) >> (8 * (i % 4))) + static_cast<uint8_t>(i);
  return key;
}

class CoreHarness {
 public:
  static constexpr uint32_t kRunBlocks = 4;

  explicit CoreHarness(const CoreOptions& options) : core(options, counters) {
    ns.name = "test";
    ns.layout = {2, 2, 64, 64, ElementType::kBfloat16};
    ns.block_tokens = 32;
    view.spec = "P:raw";
    view.lossless = true;
    view.layers_per_part = 1;
    view.heads_per_part = 1;
  }

  void Step(Event event) {
    std::vector<Action> actions;
    core.Step(std::move(event), now, actions);
    for (Action& action : actions) Carry(std::move(action));
    EXPECT_EQ(core.index().sums(), core.index().SumByWalk()) << "a part changed beside Index::Change";
  }
  void Pass(Duration time) {
    now += time;
    while (core.NextTick() <= now) Step(event::Tick{});
  }
  static DomainId DomainOf(uint8_t domain) {
    DomainId id;
    id.bytes[0] = domain;
    return id;
  }
  void OpenSession(uint64_t session, uint8_t domain = 1, bool peer = false) {
    Step(event::SessionOpened{session, DomainOf(domain), ns, peer});
  }

  /// Offers all parts of block `n` (parent n - 1) from `session`; `grant` is what the pull will land.
  uint64_t Offer(uint64_t session, uint32_t n, Ack ack = Ack::kVolatile, uint64_t part_bytes = 4096, Duration deadline = std::chrono::seconds(5)) {
    OfferRequest r;
    r.session = session;
    r.ack = ack;
    r.views = {view};
    r.blocks = {{KeyOf(n), KeyOf(n - 1), n, ns.block_tokens, KeyOf(n - n % kRunBlocks), replicas}};
    r.deadline = deadline;
    for (uint16_t l = 0; l < 2; ++l) {
      for (uint16_t h = 0; h < 2; ++h) {
        for (uint16_t p = 0; p < view.planes; ++p) {
          r.parts.push_back({0, 0, l, h, part_bytes, std::string(16, 'r'), Payload(n, l, h, p), 0, p});
        }
      }
    }
    Step(event::OfferArrived{++calls, std::move(r)});
    return calls;
  }
  uint64_t Acquire(uint64_t session, uint32_t first, uint32_t count, uint32_t heads = 2, uint32_t planes = 0) {
    AcquireRequest r;
    r.session = session;
    r.runs.resize(1);
    for (uint32_t i = 0; i < count; ++i) r.runs[0].keys.push_back(KeyOf(first + i));
    r.runs[0].first_block = first;
    r.runs[0].run = KeyOf(first - first % kRunBlocks);
    r.accept = {"lossless"};
    r.layers = 2;
    r.heads = heads;
    r.planes = planes;
    r.deadline = std::chrono::seconds(1);
    Step(event::AcquireArrived{++calls, std::move(r)});
    return calls;
  }
  void Touch(uint64_t session, std::vector<uint64_t> renew, std::vector<uint64_t> release) {
    TouchRequest r;
    r.session = session;
    r.renew = std::move(renew);
    r.release = std::move(release);
    Step(event::TouchArrived{++calls, std::move(r)});
  }
  static std::string Payload(uint32_t n, uint32_t l, uint32_t h, uint32_t plane) {
    return "block " + std::to_string(n) + " layer " + std::to_string(l) + " head " + std::to_string(h) + " plane " +
           std::to_string(plane);
  }

  /// Ends one waiting operation. `well` false: the pull breaks, the check fails, the disk refuses.
  void Finish(size_t index, bool well = true, bool quarantined = false) {
    Action work = std::move(open[index]);
    open.erase(open.begin() + static_cast<std::ptrdiff_t>(index));
    if (auto* pull = std::get_if<action::Pull>(&work)) {
      if (well) bytes[At(pull->to)] = pull->grant;
      const absl::Status status = well ? absl::OkStatus() : absl::UnavailableError("broke");
      Step(event::PullDone{pull->extent, status, !well && quarantined});
      if (!well && quarantined) released.push_back(pull->extent);
    } else if (auto* verify = std::get_if<action::Verify>(&work)) {
      Step(event::VerifyDone{verify->extent, well ? absl::OkStatus() : absl::DataLossError("crc"), 512});
    } else if (auto* persist = std::get_if<action::Persist>(&work)) {
      const SsdLocation location{++segments, 1, 0};
      if (well) disk[segments] = bytes.at(At(persist->at));
      Step(event::PersistDone{persist->extent, well ? absl::StatusOr<SsdLocation>(location) : absl::ResourceExhaustedError("full")});
    } else if (auto* recheck = std::get_if<action::Recheck>(&work)) {
      Step(event::RecheckDone{recheck->extent, well ? absl::OkStatus() : absl::DataLossError("rot")});
    } else if (auto* promote = std::get_if<action::Promote>(&work)) {
      const auto on_disk = disk.find(promote->from.segment);
      const bool there = well && on_disk != disk.end();
      if (there) bytes[At(promote->to)] = on_disk->second;
      Step(event::PromoteDone{promote->extent, there ? absl::OkStatus() : absl::DataLossError("rot")});
    }
  }
  void FinishAll() {
    while (!open.empty()) Finish(0);
  }

  using Range = std::pair<uint32_t, uint64_t>;
  static Range At(const SlabRange& r) { return {r.slab, r.offset}; }

  Counters counters;
  Instant now{std::chrono::seconds(1000)};
  ShardCore core;
  Namespace ns;
  View view;
  uint64_t calls = 0;
  std::deque<Action> open;                                   // Pull, Verify, Persist, Promote, Recheck
  std::vector<action::Missed> missed;
  std::vector<action::RunHot> hot;
  uint32_t replicas = 1;                                     // of what is offered
  std::vector<ExtentRef> released;                           // quarantined pulls whose memory is not quiet yet
  std::map<Range, std::string> bytes;                        // content of slab memory
  std::map<uint32_t, std::string> disk;
  uint32_t segments = 0;
  std::map<uint64_t, absl::StatusOr<OfferReply>> offers;     // answers by call
  std::map<uint64_t, absl::StatusOr<AcquireReply>> acquires;
  std::map<uint64_t, absl::StatusOr<TouchReply>> touches;
  std::map<uint64_t, std::map<Range, std::string>> leased;   // what a lease may read, as it was when granted
  std::vector<action::PartReady> ready;
  std::vector<uint64_t> revoked;
  bool quiet_at_once = true;                                 // false: LeaseQuiet is the test's to send

  void Quiet(uint64_t lease) {
    for (const auto& [range, content] : leased[lease]) EXPECT_EQ(bytes[range], content) << "a leased range changed";
    leased.erase(lease);
    Step(event::LeaseQuiet{lease});
  }

 private:
  void Carry(Action action) {
    if (auto* a = std::get_if<action::AnswerOffer>(&action)) {
      EXPECT_TRUE(offers.emplace(a->call, std::move(a->reply)).second) << "answered twice";
    } else if (auto* a = std::get_if<action::AnswerTouch>(&action)) {
      touches.emplace(a->call, std::move(a->reply));
    } else if (auto* a = std::get_if<action::AnswerAcquire>(&action)) {
      if (a->reply.ok()) NoteLease(*a);
      acquires.emplace(a->call, std::move(a->reply));
    } else if (auto* a = std::get_if<action::PartReady>(&action)) {
      if (a->ready.status.ok()) {
        const PartGrant& part = a->ready.part;
        const std::string expected = Payload(a->ready.block_index, part.layer_group, part.head_group, part.plane);
        EXPECT_EQ(bytes[At(a->part.at)], expected);
        leased[a->lease][At(a->part.at)] = expected;
      }
      ready.push_back(std::move(*a));
    } else if (auto* a = std::get_if<action::RevokeLease>(&action)) {
      revoked.push_back(a->lease);
      if (quiet_at_once) Quiet(a->lease);
    } else if (auto* a = std::get_if<action::Missed>(&action)) {
      missed.push_back(std::move(*a));
    } else if (auto* a = std::get_if<action::RunHot>(&action)) {
      hot.push_back(std::move(*a));
    } else if (auto* a = std::get_if<action::DropOnSsd>(&action)) {
      disk.erase(a->location.segment);
    } else if (auto* a = std::get_if<action::RetireSlab>(&action)) {
      std::erase_if(bytes, [&](const auto& entry) { return entry.first.first == a->slab; });
    } else {
      open.push_back(std::move(action));
    }
  }
  void NoteLease(const action::AnswerAcquire& a) {
    size_t next = 0;
    for (const AcquiredBlock& block : a.reply->blocks) {
      uint16_t plane = 0;  // of a cell they ascend from 0
      for (const PartGrant& part : block.parts) {
        if (part.plane != 0) {
          EXPECT_EQ(part.plane, ++plane);
        } else {
          plane = 0;
        }
        const action::LeasedPart& at = a.parts[next++];
        if (part.pending) continue;
        const std::string expected = Payload(block.block_index, part.layer_group, part.head_group, part.plane);
        EXPECT_EQ(bytes[At(at.at)], expected) << "a readable part holds other bytes";
        leased[a.reply->lease][At(at.at)] = expected;
      }
    }
  }
};

}  // namespace kvasir::testing
