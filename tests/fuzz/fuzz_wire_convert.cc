// SPDX-License-Identifier: Apache-2.0
// FromProto of every message: the first byte chooses it, the rest is the message. What is accepted survives the way
// there and back unchanged.
#include "store/wire/convert.h"
#include "store/wire/kvasir.pb.h"
#include "tests/fuzz/fuzz.h"
#include "tests/store/wire_samples.h"

namespace kvasir::fuzzing {
namespace {

using Entry = void (*)(std::span<const uint8_t>);

template <class Proto>
void Believe(std::span<const uint8_t> bytes) {
  Proto proto;
  if (!proto.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  const auto value = FromProto(proto);
  if (!value.ok()) return Require(!value.status().message().empty(), "a refusal says why");
  Proto once, twice;
  ToProto(*value, &once);
  const auto again = FromProto(once);
  Require(again.ok(), "what was accepted is accepted again");
  ToProto(*again, &twice);
  Require(once.SerializeAsString() == twice.SerializeAsString(), "there and back is the same");
}

constexpr Entry kMessages[] = {
    Believe<v1::HelloRequest>,  Believe<v1::HelloReply>,    Believe<v1::OfferRequest>, Believe<v1::OfferReply>,
    Believe<v1::AcquireRequest>, Believe<v1::AcquireReply>, Believe<v1::TouchRequest>, Believe<v1::TouchReply>,
    Believe<v1::ObjectRequest>, Believe<v1::ObjectReply>,   Believe<v1::WatchEvent>,   Believe<v1::NodeStatus>,
    Believe<v1::ListRequest>,   Believe<v1::ListReply>,     Believe<v1::Membership>,
};

template <class Value, class Proto>
void AddSeeds(std::vector<std::string>& seeds, std::mt19937_64& rng) {
  static constexpr int kEach = 3;
  const char index = static_cast<char>(seeds.size() / kEach);
  for (int i = 0; i < kEach; ++i) {
    Proto proto;
    ToProto(testing::Sample<Value>(rng), &proto);
    seeds.push_back(std::string(1, index).append(proto.SerializeAsString()));
  }
}

}  // namespace

void Run(std::span<const uint8_t> input) {
  if (!input.empty()) kMessages[input[0] % std::size(kMessages)](input.subspan(1));
}

std::vector<std::string> Seeds() {
  std::mt19937_64 rng(1);
  std::vector<std::string> seeds;  // in the order of kMessages
  AddSeeds<HelloRequest, v1::HelloRequest>(seeds, rng);
  AddSeeds<HelloReply, v1::HelloReply>(seeds, rng);
  AddSeeds<OfferRequest, v1::OfferRequest>(seeds, rng);
  AddSeeds<OfferReply, v1::OfferReply>(seeds, rng);
  AddSeeds<AcquireRequest, v1::AcquireRequest>(seeds, rng);
  AddSeeds<AcquireReply, v1::AcquireReply>(seeds, rng);
  AddSeeds<TouchRequest, v1::TouchRequest>(seeds, rng);
  AddSeeds<TouchReply, v1::TouchReply>(seeds, rng);
  AddSeeds<ObjectRequest, v1::ObjectRequest>(seeds, rng);
  AddSeeds<ObjectReply, v1::ObjectReply>(seeds, rng);
  AddSeeds<WatchEvent, v1::WatchEvent>(seeds, rng);
  AddSeeds<NodeStatus, v1::NodeStatus>(seeds, rng);
  AddSeeds<ListRequest, v1::ListRequest>(seeds, rng);
  AddSeeds<ListReply, v1::ListReply>(seeds, rng);
  AddSeeds<Membership, v1::Membership>(seeds, rng);
  return seeds;
}

}  // namespace kvasir::fuzzing
